"""Attention masks as they are given: PyTorch's transformer asks whether one is causal, by its numbers, which a trace has not."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

_LAYERS = "torch.nn.modules.transformer"
_ASKS = "_detect_is_causal_mask"


@contextmanager
def masks_as_given() -> Iterator[None]:
    """While PyTorch traces, a mask is taken for causal only where the caller says so.

    ``nn.TransformerDecoder(target, memory, tgt_mask=mask)`` compares the mask with a causal one, for a faster kernel: the trace
    ends there, as a branch on data. Without the hint the mask itself is used, which gives the same numbers (PyTorch's
    ``_detect_is_causal_mask``: "may lead to reduced performance").
    """
    layers = importlib.import_module(_LAYERS)
    if not hasattr(layers, _ASKS):  # a later PyTorch's own business
        yield
        return

    def as_said(mask: object, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    with patch.object(layers, _ASKS, as_said):
        yield
