"""Complex weights are traced without gradients, which PyTorch has not for all that writes into complex tensors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def without_complex_gradients(module: torch.nn.Module) -> AbstractContextManager[object]:
    """No gradients, where a weight is complex: ``slice_scatter`` of such tensors ends the trace otherwise.

    Others keep theirs: without them PyTorch's transformers take another kernel.
    """
    import torch

    return torch.no_grad() if any(weight.is_complex() for weight in module.parameters()) else nullcontext()
