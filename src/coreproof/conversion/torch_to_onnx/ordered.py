"""PyTorch's operators that go by order, and that its exporter does not know: running extrema, medians, modes, places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import (
    is_float,
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
    # PyTorch multiplies whole numbers up in int64, whatever they are
    wanted = ir.DataType(dtype) if dtype is not None and dtype >= 0 else x.dtype if is_float(x) else ir.DataType.INT64
    value = x if wanted is None or wanted == x.dtype else op.Cast(x, to=int(wanted))
    rank = len(lengths(x))
    if rank == 0:
        return op.Identity(value)
    length, axis, by = lengths(x)[dim], dim % rank, 1
    if not isinstance(length, int):
        moved, inside, order = _so_far(value, axis)
        product = op.ReduceProd(op.Where(inside, moved, number(1, wanted)), whole(-1), keepdims=0)
        return op.Transpose(product, perm=order)
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
        return op.Identity(x), op.Constant(value_int=0)
    length, axis = lengths(x)[dim], dim % rank
    if not isinstance(length, int):
        return _running_free(x, axis, beats)
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
            # every comparison with a NaN is false, and a NaN has to win
            wins = op.Or(wins, op.IsNaN(value))
        value, places = op.Where(wins, value, other), op.Where(wins, places, other_place)
        by *= 2
    return value, places


def _so_far(x: ir.Value, axis: int) -> tuple[ir.Value, ir.Value, list[int]]:
    """Of an axis of free length: each element beside each, [..., 1, n]; which come no later, [n, n]; and the way back.

    That takes n times the memory of the axis, and one step.
    """
    op = operators()
    rank = len(lengths(x))
    order = [*(a for a in range(rank) if a != axis), axis]
    row = _row(x, axis)
    inside = op.LessOrEqual(row, op.Unsqueeze(row, whole(1)))
    return op.Unsqueeze(op.Transpose(x, perm=order), whole(-2)), inside, [order.index(a) for a in range(rank)]


def _row(x: ir.Value, axis: int) -> ir.Value:
    """[n]: 0, 1, 2, ... along an axis, known or free."""
    zero, one = number(0, ir.DataType.INT64), number(1, ir.DataType.INT64)
    return operators().Range(zero, operators().Squeeze(_length(x, axis), whole(0)), one)


def _length(x: ir.Value, axis: int) -> ir.Value:
    """[1]: how long an axis is."""
    axis %= len(lengths(x))
    return operators().Shape(x, start=axis, end=axis + 1)


def _running_free(x: ir.Value, axis: int, beats: str) -> tuple[ir.Value, ir.Value]:
    op = operators()
    moved, inside, back = _so_far(x, axis)
    reduce = op.ReduceMax if beats == "GreaterOrEqual" else op.ReduceMin
    # the first element is among those of every place, and so beats none of them
    first = op.Slice(moved, whole(0), whole(1), whole(-1))
    row, none = _row(x, axis), number(-1, ir.DataType.INT64)
    lost = None
    if is_float(x):
        holes = op.IsNaN(moved)
        lost = op.ReduceMax(op.Where(op.And(inside, holes), row, none), whole(-1), keepdims=1)
        # of what has a hole the answer is the hole, whatever stands in its place
        moved, first = (op.Where(op.IsNaN(v), number(0, x.dtype), v) for v in (moved, first))
    value = reduce(op.Where(inside, moved, first), whole(-1), keepdims=1)
    place = op.ReduceMax(op.Where(op.And(inside, op.Equal(moved, value)), row, none), whole(-1), keepdims=1)
    if lost is not None:
        has = op.GreaterOrEqual(lost, number(0, ir.DataType.INT64))
        value, place = op.Where(has, number(float("nan"), x.dtype), value), op.Where(has, lost, place)
    value, place = (op.Transpose(op.Squeeze(v, whole(-1)), perm=back) for v in (value, place))
    return value, place


# in the middle


def median(x: ir.Value) -> ir.Value:
    """The lower one of the two in the middle, of all elements; NaN where one is."""
    return _median(operators().Reshape(x, whole(-1)), 0, _total(x), is_float(x))[0]


def median_along(x: ir.Value, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """The lower one of the two in the middle, and where it stands."""
    value, place = _median(x, dim, _along(x, dim), is_float(x))
    return _kept(value, dim, keepdim), _kept(place, dim, keepdim)


def _median(x: ir.Value, dim: int, length: int | ir.Value, floats: bool) -> tuple[ir.Value, ir.Value]:
    op = operators()
    if isinstance(length, int):
        value, place = _kth(x, (length - 1) // 2, dim)
    else:
        middle = op.Div(op.Sub(length, whole(1)), whole(2))
        value, place = (op.Gather(v, middle, axis=dim) for v in sorted_along(x, length, dim))
    if not floats:
        return value, place
    # where one is NaN, it is the median, and the first of them the place
    lost = op.Cast(op.IsNaN(x), to=int(ir.DataType.INT64))
    is_lost = op.Cast(op.ReduceMax(lost, whole(dim), keepdims=1), to=int(ir.DataType.BOOL))
    nothing = op.CastLike(number(float("nan"), ir.DataType.FLOAT), x)
    return op.Where(is_lost, nothing, value), op.Where(is_lost, op.ArgMax(lost, axis=dim, keepdims=1), place)


def nanmedian(x: ir.Value) -> ir.Value:
    """The same of all elements that are numbers."""
    flat = operators().Reshape(x, whole(-1))
    return (_nanmedian if is_float(x) else _median)(flat, 0, _total(x), is_float(x))[0]


def nanmedian_along(x: ir.Value, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """The same of those that are numbers."""
    found = _nanmedian if is_float(x) else _median
    value, place = found(x, dim, _along(x, dim), is_float(x))
    return _kept(value, dim, keepdim), _kept(place, dim, keepdim)


def _nanmedian(x: ir.Value, dim: int, length: int | ir.Value, floats: bool) -> tuple[ir.Value, ir.Value]:
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


def sorted_along(x: ir.Value, count: int | ir.Value, dim: int) -> tuple[ir.Value, ir.Value]:
    """The smallest ones in their order, and where they stand."""
    many = whole(count) if isinstance(count, int) else count
    made: object = operators().TopK(x, many, axis=dim, largest=0, sorted=1)
    # the operators are declared with one output each
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


def _along(x: ir.Value, dim: int) -> int | ir.Value:
    """How long an axis is: known, or [1] while the model runs."""
    length = lengths(x)[dim]
    return length if isinstance(length, int) else _length(x, dim)


def _total(x: ir.Value) -> int | ir.Value:
    """How many elements there are in all."""
    known = [n for n in lengths(x) if isinstance(n, int)]
    return math.prod(known) if len(known) == len(lengths(x)) else operators().Reshape(operators().Size(x), whole(1))


def mode(x: ir.Value, dim: int = -1, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    """What occurs most often, of several the smallest, and where it stands last: each element is compared with each."""
    op = operators()
    rank = len(lengths(x))
    axis = dim % rank
    order = [*(a for a in range(rank) if a != axis), axis]
    moved = op.Transpose(x, perm=order)
    same = op.Equal(op.Unsqueeze(moved, whole(-1)), op.Unsqueeze(moved, whole(-2)))
    count = op.ReduceSum(op.Cast(same, to=int(ir.DataType.INT64)), whole(-1), keepdims=0)
    often = op.Equal(count, op.ReduceMax(count, whole(-1), keepdims=1))
    # the largest of all is no smaller than what is looked for
    filler = op.ReduceMax(moved, whole(-1), keepdims=1)
    value = op.ReduceMin(op.Where(often, moved, filler), whole(-1), keepdims=1)
    row = _row(x, axis)
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
        # each row of values has a sorted row of its own
        ordered = op.Unsqueeze(ordered, whole(-2))
    each = op.Unsqueeze(values, whole(-1))
    before = op.LessOrEqual(ordered, each) if right or side == "right" else op.Less(ordered, each)
    count = op.ReduceSum(op.Cast(before, to=int(ir.DataType.INT64)), whole(-1), keepdims=0)
    return op.Cast(count, to=int(ir.DataType.INT32)) if out_int32 else count
