"""PyTorch's operators that go by order, and that its exporter does not know: running extrema, medians, modes, places."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import (
    is_float,
    known_length,
    lengths,
    number,
    numbers,
    operators,
    whole,
)
from coreproof.model.torch.model import import_torch


def ordered_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.cumprod.default: cumprod,
        aten.cummax.default: cummax,
        aten.cummin.default: cummin,
        aten.median.default: median,
        aten.median.dim: median_along,
        aten.nanmedian.default: nanmedian,
        aten.nanmedian.dim: nanmedian_along,
        aten.kthvalue.default: kthvalue,
        aten.mode.default: mode,
        aten.searchsorted.Tensor: searchsorted,
    }


# running


def cumprod(x: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """By doubling: each element times the one that is 1, 2, 4 ... places before it."""
    op = operators()
    wanted = ir.DataType(dtype) if dtype is not None and dtype >= 0 else x.dtype if is_float(x) else ir.DataType.INT64
    value = x if wanted is None or wanted == x.dtype else op.Cast(x, to=int(wanted))
    rank = len(lengths(x))
    if rank == 0:
        return op.Identity(value)
    length, axis, by = known_length(x, dim, "cumprod"), dim % rank, 1
    while by < length:
        before = [by if a == axis else 0 for a in range(rank)]
        padded = op.Pad(value, whole(*before, *[0] * rank), number(1, wanted))
        value = op.Mul(value, op.Slice(padded, whole(0), whole(length), whole(axis)))
        by *= 2
    return value


def cummax(x: ir.Value, dim: int) -> tuple[ir.Value, ir.Value]:
    """The largest so far, and where it stands: of equal ones the last. A NaN stays."""
    return _running(x, dim, "GreaterOrEqual")


def cummin(x: ir.Value, dim: int) -> tuple[ir.Value, ir.Value]:
    """The smallest so far, and where it stands."""
    return _running(x, dim, "LessOrEqual")


def _running(x: ir.Value, dim: int, beats: str) -> tuple[ir.Value, ir.Value]:
    """By doubling: the winner of the 1, 2, 4 ... last places against that of as many before them."""
    op = operators()
    rank = len(lengths(x))
    if rank == 0:
        return op.Identity(x), number(0, ir.DataType.INT64)  # type: ignore[return-value]
    length, axis = known_length(x, dim, "a running extremum"), dim % rank
    shape = [length if a == axis else 1 for a in range(rank)]
    row = numbers(np.arange(length).reshape(shape), ir.DataType.INT64)
    places = op.Expand(row, op.Shape(x))
    value, by = x, 1
    while by < length:
        # the first places have nobody before them but the first, who is among their own already
        earlier = numbers(np.maximum(np.arange(length) - by, 0), ir.DataType.INT64)
        other, other_place = op.Gather(value, earlier, axis=axis), op.Gather(places, earlier, axis=axis)
        wins = getattr(op, beats)(value, other)
        if is_float(x):
            wins = op.Or(wins, op.IsNaN(value))
        value, places = op.Where(wins, value, other), op.Where(wins, places, other_place)
        by *= 2
    return value, places


# in the middle


def median(x: ir.Value) -> ir.Value:
    """The lower one of the two in the middle, of all elements; NaN where one is."""
    return _median(operators().Reshape(x, whole(-1)), 0, _count(x), is_float(x))[0]


def median_along(x: ir.Value, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """The lower one of the two in the middle, and where it stands."""
    value, place = _median(x, dim, known_length(x, dim, "a median"), is_float(x))
    return _kept(value, dim, keepdim), _kept(place, dim, keepdim)


def _median(x: ir.Value, dim: int, length: int, floats: bool) -> tuple[ir.Value, ir.Value]:
    op = operators()
    value, place = _kth(x, (length - 1) // 2, dim)
    if not floats:
        return value, place
    lost = op.Cast(op.IsNaN(x), to=int(ir.DataType.INT64))
    is_lost = op.Cast(op.ReduceMax(lost, whole(dim), keepdims=1), to=int(ir.DataType.BOOL))
    nothing = op.CastLike(number(float("nan"), ir.DataType.FLOAT), x)
    return op.Where(is_lost, nothing, value), op.Where(is_lost, op.ArgMax(lost, axis=dim, keepdims=1), place)


def nanmedian(x: ir.Value) -> ir.Value:
    """The same of all elements that are numbers."""
    flat = operators().Reshape(x, whole(-1))
    return (_nanmedian if is_float(x) else _median)(flat, 0, _count(x), is_float(x))[0]


def nanmedian_along(x: ir.Value, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """The same of those that are numbers."""
    found = _nanmedian if is_float(x) else _median
    value, place = found(x, dim, known_length(x, dim, "a median"), is_float(x))
    return _kept(value, dim, keepdim), _kept(place, dim, keepdim)


def _nanmedian(x: ir.Value, dim: int, length: int, floats: bool) -> tuple[ir.Value, ir.Value]:
    """How many numbers there are is seen in what is fed."""
    op = operators()
    lost = op.IsNaN(x)
    far = op.CastLike(number(float("inf"), ir.DataType.FLOAT), x)
    values, places = sorted_along(op.Where(lost, far, x), length, dim)
    count = op.ReduceSum(op.Cast(op.Not(lost), to=int(ir.DataType.INT64)), whole(dim), keepdims=1)
    # of no numbers at all the first place
    at = op.Div(op.Sub(op.Where(op.Equal(count, whole(0)), whole(1), count), whole(1)), whole(2))
    nothing = op.CastLike(number(float("nan"), ir.DataType.FLOAT), x)
    value = op.Where(op.Equal(count, whole(0)), nothing, op.GatherElements(values, at, axis=dim))
    return value, op.GatherElements(places, at, axis=dim)


def sorted_along(x: ir.Value, count: int, dim: int) -> tuple[ir.Value, ir.Value]:
    """The smallest ones in their order, and where they stand."""
    made: object = operators().TopK(x, whole(count), axis=dim, largest=0, sorted=1)
    assert isinstance(made, tuple | list)
    values, places = made
    return values, places


def kthvalue(x: ir.Value, k: int, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """The k-th smallest, counted from 1, and where it stands."""
    value, place = _kth(x, k - 1, dim)
    return _kept(value, dim, keepdim), _kept(place, dim, keepdim)


def _kth(x: ir.Value, k: int, dim: int) -> tuple[ir.Value, ir.Value]:
    op = operators()
    values, places = sorted_along(x, k + 1, dim)
    begin, end, axis = whole(k), whole(k + 1), whole(dim)
    return op.Slice(values, begin, end, axis), op.Slice(places, begin, end, axis)


def _kept(value: ir.Value, dim: int, keepdim: bool) -> ir.Value:
    return value if keepdim else operators().Squeeze(value, whole(dim))


def _count(x: ir.Value) -> int:
    total = 1
    for axis in range(len(lengths(x))):
        total *= known_length(x, axis, "a median")
    return total


def mode(x: ir.Value, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """What occurs most often, of several the smallest, and where it stands last: each element is compared with each."""
    op = operators()
    rank = len(lengths(x))
    axis, length = dim % rank, known_length(x, dim, "mode")
    order = [*(a for a in range(rank) if a != axis), axis]
    moved = op.Transpose(x, perm=order)
    same = op.Equal(op.Unsqueeze(moved, whole(-1)), op.Unsqueeze(moved, whole(-2)))
    count = op.ReduceSum(op.Cast(same, to=int(ir.DataType.INT64)), whole(-1), keepdims=0)
    often = op.Equal(count, op.ReduceMax(count, whole(-1), keepdims=1))
    # the largest of all is no smaller than what is looked for
    filler = op.ReduceMax(moved, whole(-1), keepdims=1)
    value = op.ReduceMin(op.Where(often, moved, filler), whole(-1), keepdims=1)
    row = numbers(np.arange(length), ir.DataType.INT64)
    place = op.ReduceMax(op.Where(op.Equal(moved, value), row, whole(-1)), whole(-1), keepdims=1)
    back = [order.index(a) for a in range(rank)]
    return _kept(op.Transpose(value, perm=back), dim, keepdim), _kept(op.Transpose(place, perm=back), dim, keepdim)


def searchsorted(
    sorted_sequence: ir.Value,
    values: ir.Value,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: ir.Value | None = None,
) -> ir.Value:
    """How many come before each value: those that are smaller, or (right) no larger."""
    op = operators()
    ordered = sorted_sequence if sorter is None else op.GatherElements(sorted_sequence, sorter, axis=-1)
    if len(lengths(sorted_sequence)) > 1:
        ordered = op.Unsqueeze(ordered, whole(-2))
    each = op.Unsqueeze(values, whole(-1))
    before = op.LessOrEqual(ordered, each) if right or side == "right" else op.Less(ordered, each)
    count = op.ReduceSum(op.Cast(before, to=int(ir.DataType.INT64)), whole(-1), keepdims=0)
    return op.Cast(count, to=int(ir.DataType.INT32)) if out_int32 else count
