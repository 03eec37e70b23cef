"""Operators on complex numbers that PyTorch's exporter leaves out: it writes a complex tensor as pairs along a last axis.

Rotary embeddings that turn pairs as complex numbers (Llama 4) put axes into them and take positions out of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import lengths, operators, whole
from coreproof.model.torch.model import import_torch


def complex_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX where its operand is complex; ``custom_translation_table`` knows no such."""
    aten = import_torch().ops.aten
    return {
        aten.unsqueeze.default: unsqueeze,
        aten.select.int: select,
        aten.index_select.default: index_select,
    }


def unsqueeze(pairs: ir.Value, dim: int) -> ir.Value:
    """A new axis, before the pairs where it is the last."""
    return operators().Unsqueeze(pairs, whole(dim if dim >= 0 else dim - 1))


def select(pairs: ir.Value, dim: int, index: int) -> ir.Value:
    """One position of an axis."""
    return operators().Gather(pairs, ir.tensor(index, dtype=ir.DataType.INT64), axis=_before_pairs(pairs, dim))


def index_select(pairs: ir.Value, dim: int, index: ir.Value) -> ir.Value:
    """Several positions of an axis."""
    return operators().Gather(pairs, index, axis=_before_pairs(pairs, dim))


def _before_pairs(pairs: ir.Value, dim: int) -> int:
    rank = len(lengths(pairs))
    return dim if dim >= 0 else dim + rank - 1 if rank else dim - 1
