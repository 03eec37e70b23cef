"""MIL's slices: by index with masks, by size, updates of a slice, crop, reverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers

_END = np.iinfo(np.int64).max


@lowers("slice_by_index", exact=True, error="move")
def slice_by_index(
    low: Lowering,
    *,
    x: Operand,
    begin: Operand,
    end: Operand,
    stride: Operand = None,
    begin_mask: Operand = None,
    end_mask: Operand = None,
    squeeze_mask: Operand = None,
) -> ir.Value:
    rank = low.rank(x)
    steps = np.ones(rank, np.int64) if stride is None else np.asarray(stride, np.int64)
    whole_begin, whole_end, single = (
        np.zeros(rank, bool) if m is None else np.asarray(m, bool) for m in (begin_mask, end_mask, squeeze_mask)
    )
    # a dimension that is taken away is one element, whatever its stride
    steps = np.where(single, 1, steps)
    first = np.where(steps > 0, 0, _END)
    # backwards the end lies before the first element, which no index from 0 on says
    last = np.where(steps > 0, _END, -_END)
    starts = _where(low, whole_begin & ~single, first, begin)
    ends = _where(low, whole_end, last, end)
    if single.any():
        ends = _where(low, single, _next(low, begin), ends)
    axes = np.arange(rank, dtype=np.int64)
    sliced = low.op("Slice", x, starts, ends, axes, steps)
    return low.op("Squeeze", sliced, axes[single]) if single.any() else sliced


def _where(low: Lowering, mask: npt.NDArray[np.bool_], yes: Operand, no: Operand) -> Operand:
    """Elementwise choice; computed now where everything is constant."""
    if isinstance(yes, ir.Value) or isinstance(no, ir.Value):
        if not mask.any():
            return low.i64(no)
        return low.op("Where", mask, low.i64(yes), low.i64(no))
    return np.where(mask, np.asarray(yes, np.int64), np.asarray(no, np.int64))


def _next(low: Lowering, begin: Operand) -> Operand:
    """The end of a slice of one element; after -1 that is the very end."""
    if not isinstance(begin, ir.Value):
        index = np.asarray(begin, np.int64)
        return np.where(index == -1, _END, index + 1)
    index64 = low.i64(begin)
    after = low.op("Add", index64, np.array(1, np.int64))
    return low.op("Where", low.op("Equal", after, np.array(0, np.int64)), np.array(_END, np.int64), after)


@lowers("slice_by_size", exact=True, error="move")
def slice_by_size(low: Lowering, *, x: Operand, begin: Operand, size: Operand) -> ir.Value:
    axes = np.arange(low.rank(x), dtype=np.int64)
    if not isinstance(begin, ir.Value) and not isinstance(size, ir.Value):
        start, count = np.asarray(begin, np.int64), np.asarray(size, np.int64)
        stop = start + count
        # counted from the end, a slice that ends there would stop at 0: at the beginning
        stop = np.where((count == -1) | ((start < 0) & (stop == 0)), _END, stop)
        return low.op("Slice", x, start, stop, axes)
    dims = low.dims(x)
    first, count64 = low.i64(begin), low.i64(size)
    negative = low.op("Less", first, np.array(0, np.int64))
    first = low.op("Where", negative, low.op("Add", first, dims), first)
    # MIL, slice_by_size: -1 takes all that is left
    rest = low.op("Equal", count64, np.array(-1, np.int64))
    return low.op("Slice", x, first, low.op("Where", rest, dims, low.op("Add", first, count64)), axes)


@lowers("slice_update", since="iOS18", exact=True)
def slice_update(
    low: Lowering,
    *,
    x: Operand,
    update: Operand,
    begin: Operand,
    end: Operand,
    stride: Operand = None,
    begin_mask: Operand = None,
    end_mask: Operand = None,
    squeeze_mask: Operand = None,
) -> ir.Value:
    """Slices the positions of all elements, and scatters the update to the positions that are left."""
    flat = [-1]
    dims = low.dims(x)
    size = low.op("ReduceProd", dims, keepdims=0)
    numbers = low.op("Range", np.array(0, np.int64), size, np.array(1, np.int64))
    positions = low.op("Reshape", numbers, dims)
    positions.shape = ir.Shape(list(low.shape(x)))
    chosen = slice_by_index(
        low, x=positions, begin=begin, end=end, stride=stride,
        begin_mask=begin_mask, end_mask=end_mask, squeeze_mask=squeeze_mask,
    )  # fmt: skip
    values = low.op("Expand", update, low.dims(chosen))
    scattered = low.op(
        "ScatterElements", low.op("Reshape", x, flat), low.op("Reshape", chosen, flat), low.op("Reshape", values, flat)
    )
    return low.op("Reshape", scattered, dims)


@lowers("crop", exact=True, error="move")
def crop(low: Lowering, *, x: Operand, crop_height: Sequence[int], crop_width: Sequence[int]) -> ir.Value:
    top, bottom = (int(n) for n in np.ravel(crop_height))
    left, right = (int(n) for n in np.ravel(crop_width))
    # a crop of 0 must not end at -0, which is the beginning
    end = [-bottom or _END, -right or _END]
    return low.op("Slice", x, [top, left], end, [-2, -1])


@lowers("reverse", exact=True, error="move")
def reverse(low: Lowering, *, x: Operand, axes: Operand = None) -> ir.Value:
    over = np.arange(low.rank(x), dtype=np.int64) if axes is None else np.asarray(axes, np.int64)
    if not over.size:
        return low.op("Identity", x)
    # from the last element to before the first
    return low.op("Slice", x, np.full(over.size, -1), np.full(over.size, -_END), over, np.full(over.size, -1))


@lowers("reverse_sequence", exact=True)
def reverse_sequence(
    low: Lowering, *, x: Operand, lengths: Operand, seq_axis: int = 0, batch_axis: int = 0
) -> ir.Value:
    rank = low.rank(x)
    time, batch = int(seq_axis) % rank, int(batch_axis) % rank
    perm = [batch, time, *(a for a in range(rank) if a not in (batch, time))]
    # ONNX takes the batch and the time as the first two dimensions only.
    moved = low.op("Transpose", x, perm=perm)
    turned = low.op("ReverseSequence", moved, low.i64(lengths), batch_axis=0, time_axis=1)
    return low.op("Transpose", turned, perm=[perm.index(a) for a in range(rank)])
