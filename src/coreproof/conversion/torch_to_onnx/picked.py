"""Operators that pick elements, and that PyTorch's exporter does not know, or writes for known numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import lengths, number, operators, whole
from coreproof.model.torch.model import import_torch

_INT64 = int(ir.DataType.INT64)
_END = 2**31 - 1


def picking_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.nonzero_static.default: nonzero_static,
        aten.unique_consecutive.default: unique_consecutive,
        aten.roll.default: roll,
        aten.copy.default: copied,
    }


def nonzero_static(x: ir.Value, size: int | ir.Value, fill_value: int = -1) -> ir.Value:
    """The first places, [size, rank], at which something stands; filled up where these are fewer."""
    op = operators()
    count = op.Constant(value=whole(size)) if isinstance(size, int) else op.Reshape(size, whole(1))
    shape = op.Concat(count, op.Constant(value=whole(len(lengths(x)))), axis=0)
    filling = op.ConstantOfShape(shape, value=ir.tensor([fill_value], dtype=ir.DataType.INT64))
    every = op.Concat(op.Transpose(op.NonZero(x), perm=[1, 0]), filling, axis=0)
    return op.Slice(every, whole(0), count, whole(0))


def unique_consecutive(
    x: ir.Value, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Elements, or slices of an axis, that differ from the one before; of which each is; how many are alike."""
    op, axis = operators(), 0 if dim is None else dim % max(len(lengths(x)), 1)
    value = op.Reshape(x, whole(-1)) if dim is None else x
    rank = 1 if dim is None else len(lengths(x))
    after = op.Slice(value, whole(1), whole(_END), whole(axis))
    before = op.Slice(value, whole(0), whole(-1), whole(axis))
    other = op.Cast(op.Not(op.Equal(after, before)), to=_INT64)
    if rank > 1:
        other = op.ReduceMax(other, whole(*(a for a in range(rank) if a != axis)), keepdims=0)
    changed = op.Concat(op.Constant(value=whole(1)), other, axis=0)
    number_of = op.Sub(op.CumSum(changed, number(0, ir.DataType.INT64)), whole(1))
    begins = op.Reshape(op.NonZero(changed), whole(-1))
    kept = op.Gather(value, begins, axis=axis)
    ends = op.Concat(op.Slice(begins, whole(1), whole(_END), whole(0)), op.Shape(changed), axis=0)
    inverse = op.Reshape(number_of, op.Shape(x)) if dim is None else number_of
    return kept, inverse, op.Sub(ends, begins)


def roll(x: ir.Value, shifts: Sequence[int | ir.Value], dims: Sequence[int] = ()) -> ir.Value:
    """Elements moved along axes, around their ends: by numbers, or by lengths that are computed (``x.shape[1] // 2``)."""
    op = operators()
    if not dims:
        length = (
            math.prod(n for n in lengths(x) if isinstance(n, int))
            if all(isinstance(n, int) for n in lengths(x))
            else None
        )
        return op.Reshape(_rolled(op.Reshape(x, whole(-1)), shifts[0], 0, length), op.Shape(x))
    for shift, dim in zip(shifts, dims, strict=True):
        axis = dim % max(len(lengths(x)), 1)
        made = _rolled(x, shift, axis, lengths(x)[axis] if lengths(x) else 1)
        # what is made on the way knows neither its own type nor its shape: they are those of what was moved
        made.shape, made.type = x.shape, x.type
        x = made
    return x


def _rolled(x: ir.Value, shift: int | ir.Value, axis: int, length: object) -> ir.Value:
    op = operators()
    if isinstance(shift, int) and isinstance(length, int):
        begin = -shift % length if length else 0
        slices = [op.Slice(x, whole(a), whole(b), whole(axis)) for a, b in ((begin, _END), (0, begin))]
        return op.Concat(*slices, axis=axis) if begin else op.Identity(x)
    count = op.Shape(x, start=axis, end=axis + 1)
    places = op.Range(number(0, ir.DataType.INT64), op.Squeeze(count, whole(0)), number(1, ir.DataType.INT64))
    by = whole(shift) if isinstance(shift, int) else op.Reshape(shift, whole(1))
    return op.Gather(x, op.Mod(op.Sub(places, by), count), axis=axis)


def copied(x: ir.Value, source: ir.Value, non_blocking: bool = False) -> ir.Value:
    """``x[1:] = source``: in the lengths of what is written, which the source may have fewer of, and in its type."""
    op = operators()
    value = source if source.dtype == x.dtype and x.dtype is not None else op.CastLike(source, x)
    alike = [str(n) for n in lengths(source)] == [str(n) for n in lengths(x)]
    return op.Identity(value) if alike else op.Expand(value, op.Shape(x))
