"""Operators on complex numbers that PyTorch's exporter leaves out: it writes a complex tensor as pairs along a last axis.

Rotary embeddings that turn pairs as complex numbers (Llama 4) put axes into them and take positions out of them; state-space
layers (S4) and spectral networks take exponentials, roots and powers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.complex_values import before_pairs, divided, parted
from coreproof.conversion.torch_to_onnx.writing import lengths, number, operators, whole
from coreproof.model.torch.model import import_torch


def complex_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX where its operand is complex; ``custom_translation_table`` knows no such."""
    aten = import_torch().ops.aten
    return {
        aten.unsqueeze.default: unsqueeze,
        aten.select.int: select,
        aten.index_select.default: index_select,
        aten.expand.default: expand,
        aten.squeeze.dims: squeeze,
        aten.repeat.default: repeat,
        aten.where.self: where,
        aten.cumsum.default: cumsum,
        aten.sgn.default: sgn,
        aten.angle.default: angle,
        aten.div.Tensor: divided,
    }


def unsqueeze(pairs: ir.Value, dim: int) -> ir.Value:
    """A new axis, before the pairs where it is the last."""
    return operators().Unsqueeze(pairs, whole(dim if dim >= 0 else dim - 1))


def select(pairs: ir.Value, dim: int, index: int) -> ir.Value:
    """One position of an axis."""
    return operators().Gather(pairs, ir.tensor(index, dtype=ir.DataType.INT64), axis=before_pairs(pairs, dim))


def index_select(pairs: ir.Value, dim: int, index: ir.Value) -> ir.Value:
    """Several positions of an axis."""
    return operators().Gather(pairs, index, axis=before_pairs(pairs, dim))


def expand(pairs: ir.Value, size: Sequence[int | ir.Value], implicit: bool = False) -> ir.Value:
    """Repeated along axes of length 1, and along new ones before the first; -1 leaves an axis as it is."""
    op = operators()
    # 1 leaves a length as it is in ONNX
    kept = [1 if n == -1 else n for n in size]
    known = [n for n in kept if isinstance(n, int)]
    if len(known) == len(kept):
        return op.Expand(pairs, whole(*known, 1))
    asked = [whole(n) if isinstance(n, int) else op.Reshape(n, whole(1)) for n in kept]
    return op.Expand(pairs, op.Concat(*asked, whole(1), axis=0))


def squeeze(pairs: ir.Value, dim: Sequence[int]) -> ir.Value:
    """Without the given axes, where they are of length 1."""
    axes = [axis for axis in (before_pairs(pairs, d) for d in dim) if lengths(pairs)[axis] == 1]
    return operators().Squeeze(pairs, whole(*axes)) if axes else operators().Identity(pairs)


def repeat(pairs: ir.Value, repeats: Sequence[int]) -> ir.Value:
    """Side by side, along new axes before the first too."""
    op = operators()
    new = len(repeats) + 1 - len(lengths(pairs))
    value = op.Unsqueeze(pairs, whole(*range(new))) if new else pairs
    return op.Tile(value, whole(*repeats, 1))


def where(condition: ir.Value, pairs: ir.Value, others: ir.Value) -> ir.Value:
    """Both parts by one condition."""
    return operators().Where(operators().Unsqueeze(condition, whole(-1)), pairs, others)


def cumsum(pairs: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """Each part is added up by itself."""
    return operators().CumSum(pairs, ir.tensor(before_pairs(pairs, dim), dtype=ir.DataType.INT64))


def angle(pairs: ir.Value) -> ir.Value:
    """From minus pi to pi: pi of a negative real number."""
    return parted(pairs).angle


def sgn(pairs: ir.Value) -> ir.Value:
    """Divided by its size; zero stays zero."""
    op = operators()
    size = op.ReduceL2(pairs, whole(-1), keepdims=1)
    zero = op.Equal(size, number(0, pairs.dtype))
    return op.Div(pairs, op.Where(zero, number(1, pairs.dtype), size))
