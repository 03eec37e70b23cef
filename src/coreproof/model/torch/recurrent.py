"""LSTM, GRU and RNN stay one operator each while PyTorch traces: step by step, their loop would fix a free length."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coreproof.model.torch.stand_ins import computed_by

if TYPE_CHECKING:
    import torch

_STRATEGIES = "torch.onnx._internal.exporter._capture_strategies"
_THEIRS = "_patch_dynamic_shape_rnn_decompositions"


@contextmanager
def kept_whole() -> Iterator[None]:
    """While PyTorch traces, these operators say their shapes at once.

    Its exporter has a stand-in of its own for a free length, which PyTorch's cache of kernels hides after a first export;
    that is left out meanwhile. Tensors without numbers would ask the decomposition before the kernels, and walk through each
    step of the example for its shapes alone: an export took as many times longer as the sequence.
    """
    import torch
    from torch._decomp import decomposition_table  # noqa: PLC2701 - it has no public name

    kinds = recurrent()
    keys = (torch._C.DispatchKey.CompositeImplicitAutograd, torch._C.DispatchKey.Autograd)
    apart = {kind: decomposition_table[kind] for kind in kinds if kind in decomposition_table}
    strategies = importlib.import_module(_STRATEGIES)
    theirs = getattr(strategies, _THEIRS, None)
    try:
        decomposition_table.update(dict.fromkeys(apart, _shapes))
        if theirs is not None:
            setattr(strategies, _THEIRS, _nothing)
        with computed_by(dict.fromkeys(kinds, _shapes), keys):
            yield
    finally:
        decomposition_table.update(apart)
        if theirs is not None:
            setattr(strategies, _THEIRS, theirs)


@contextmanager
def _nothing(_: object) -> Iterator[None]:
    yield


def recurrent() -> tuple[Any, ...]:
    """PyTorch's operators that are whole layers with steps."""
    import torch

    aten = torch.ops.aten
    return (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)


def _shapes(
    x: torch.Tensor,
    hx: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """Tensors of the shapes that such a layer answers."""
    states = (hx,) if hasattr(hx, "shape") else tuple(hx)
    width = states[0].shape[-1] * (2 if bidirectional else 1)
    return (x.new_empty((*x.shape[:2], width)), *(state.new_empty(state.shape) for state in states))
