"""A pytest plugin for suites of others: each test draws from the same seed, so that a failure comes again."""

from __future__ import annotations

import random

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seeds what Apple's tests draw from without a seed of their own: Python's, NumPy's and PyTorch's generators."""
    import torch

    random.seed(20250101)
    np.random.seed(20250101)
    torch.manual_seed(20250101)
