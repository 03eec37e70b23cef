"""A pytest plugin for suites of others: each test draws from the same seed, so that a failure comes again."""

from __future__ import annotations

import random

import numpy as np
import pytest

SEED = 20250101


def sow() -> None:
    """Seeds what Apple's tests draw from without a seed of their own: Python's, NumPy's and PyTorch's generators."""
    import torch

    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Seeds each test. A hook, not a fixture: it comes behind every fixture, last before the test itself."""
    sow()
