"""Operators that pick elements by position: slices, gathers, the largest ones, triangles, and what counts positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import (
    axis_of,
    cast,
    expanded,
    is_known,
    name_of,
    read_as_bytes,
    stays_bytes,
    without_bool,
    without_elements,
)

# exporters write an axis's end as the largest int32 or int64
_FAR = 2**31 - 1


@lowering("Slice", error="move", hands_on="part", places=(1, 2, 3, 4))
def slice_1(
    ctx: Context, data: Operand, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Result:
    chosen = list(range(len(starts))) if axes is None else [axis_of(a, ctx.rank(data)) for a in axes]
    return slice_of(ctx, data, list(starts), list(ends), chosen, [1] * len(chosen))


@lowering("Slice", since=10)
def slice_10(
    ctx: Context,
    data: Operand,
    starts: Operand,
    ends: Operand,
    axes: Operand | None = None,
    steps: Operand | None = None,
) -> Result:
    count = int(starts.shape[0])
    named = range(count) if axes is None else ctx.integers(axes, "list of axes")
    chosen = [axis_of(a, ctx.rank(data)) for a in named]
    strides = [1] * count if steps is None else ctx.integers(steps, "list of steps")
    first, last = _numbers(starts), _numbers(ends)
    if first is None or last is None:
        return _slice_as_told(ctx, data, starts, ends, chosen, strides)
    return slice_of(ctx, data, first, last, chosen, strides)


def _numbers(operand: Operand) -> list[int] | None:
    known = operand if isinstance(operand, np.ndarray) else operand.val
    return None if known is None else np.asarray(known).reshape(-1).tolist()


def part(ctx: Context, data: Operand, axis: int, begin: int, end: int) -> Operand:
    """A stretch of one axis."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(np.take(data, range(begin, end), axis))
    return slice_of(ctx, data, [begin], [end], [axis_of(axis, ctx.rank(data))], [1])


def slice_of(
    ctx: Context, data: Operand, starts: list[int], ends: list[int], axes: list[int], steps: list[int]
) -> Operand:
    rank = ctx.rank(data)
    begin, end, stride = [0] * rank, [0] * rank, [1] * rank
    begin_mask, end_mask = [True] * rank, [True] * rank
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = data.shape[axis]
        if is_known(length):
            first, last, _ = slice(start, stop, step).indices(int(length))
            if not range(first, last, step):
                # MIL has no tensors without elements
                return without_elements(ctx, data, axis)
            # backwards the end lies before the first element, which no index says
            whole_end = last < 0 if step < 0 else last >= length
            begin_mask[axis] = first == (length - 1 if step < 0 else 0)
        else:
            first, last = start, stop
            # a free length: nothing but the exporters' word for the end says that all is meant
            whole_end = abs(stop) >= _FAR
            begin_mask[axis] = start == (-1 if step < 0 else 0) or abs(start) >= _FAR
        begin[axis], end[axis], stride[axis] = first, 0 if whole_end else last, step
        if begin_mask[axis]:
            begin[axis] = 0
        end_mask[axis] = whole_end
    if all(begin_mask) and all(end_mask) and all(s == 1 for s in stride):
        return data
    # unsaid where it is 1 everywhere: the program reads as its source does
    steps_said = stride if any(s != 1 for s in stride) else None
    return ctx.mb.slice_by_index(
        x=data, begin=begin, end=end, stride=steps_said, begin_mask=begin_mask, end_mask=end_mask
    )


def _slice_as_told(
    ctx: Context, data: Operand, starts: Operand, ends: Operand, axes: list[int], steps: list[int]
) -> Result:
    """Bounds that are computed while the model runs; they take their places among the axes that stay whole."""
    if any(step < 0 for step in steps):
        raise ctx.refuse("it goes backwards between bounds that are computed while the model runs", "constant bounds")
    rank = ctx.rank(data)
    stride = [1] * rank
    for axis, step in zip(axes, steps, strict=True):
        stride[axis] = step
    whole = [axis not in axes for axis in range(rank)]

    def placed(bounds: Operand) -> Operand:
        # axes that stay whole have a mask, beside which their numbers do not count
        pieces: list[Operand] = [np.zeros(1, np.int32)] * rank
        for index, axis in enumerate(axes):
            one = bounds[index : index + 1] if isinstance(bounds, np.ndarray) else None
            pieces[axis] = ctx.mb.slice_by_index(x=bounds, begin=[index], end=[index + 1]) if one is None else one
        return ctx.mb.concat(values=pieces, axis=0) if rank > 1 else pieces[0]

    return ctx.mb.slice_by_index(
        x=data, begin=placed(starts), end=placed(ends), stride=stride, begin_mask=whole, end_mask=whole
    )


def part_as_told(ctx: Context, data: Operand, axis: int, begin: Operand, end: Operand) -> Operand:
    """A stretch of one axis between bounds, [1] each, that are computed while the model runs."""
    return _slice_as_told(ctx, data, begin, end, [axis], [1])


def picked_one(ctx: Context, numbers: Operand, index: int) -> Operand:
    """One of several numbers, [1]."""
    if isinstance(numbers, np.ndarray):
        return numbers.reshape(-1)[index : index + 1]
    return ctx.mb.slice_by_index(x=numbers, begin=[index], end=[index + 1])


def length_of(ctx: Context, data: Operand, axis: int) -> Operand:
    """How long an axis is, [1]: known, or measured while the model runs."""
    if is_known(data.shape[axis]):
        return np.array([int(data.shape[axis])], np.int32)
    return picked_one(ctx, ctx.mb.shape(x=data), axis)


def counted(ctx: Context, x: Operand, axis: int) -> Operand:
    """0, 1, ... along an axis; of a free length they are counted while the model runs."""
    if is_known(x.shape[axis]):
        return np.arange(int(x.shape[axis]), dtype=np.int32)
    end = ctx.mb.squeeze(x=length_of(ctx, x, axis), axes=[0])
    return ctx.mb.range_1d(start=np.int32(0), end=end, step=np.int32(1))


def from_start(ctx: Context, indices: Operand, *lengths: object) -> Operand:
    """Indices that may count from the end as ones that count from the start, which Core ML asks for from iOS 17 on.

    Of several ``lengths`` each is that of the axis of which the indices' last axis holds a position.
    """
    known = [int(n) for n in lengths if isinstance(n, int | np.integer)]
    if len(known) < len(lengths):
        return indices
    limits = np.array(known if len(known) > 1 else known[0], np.int32)
    if isinstance(indices, np.ndarray):
        return np.where(indices < 0, indices + limits, indices).astype(np.int32)
    # before, Core ML takes negative indices itself
    if ctx.target < 17:
        return indices
    mb = ctx.mb
    return mb.select(cond=mb.less(x=indices, y=np.int32(0)), a=mb.add(x=indices, y=limits), b=indices)


@lowering("Gather", places=(1,))
def gather(ctx: Context, data: Operand, indices: Operand, *, axis: int = 0) -> Result:
    axis = axis_of(axis, ctx.rank(data))
    places = from_start(ctx, indices, data.shape[axis])
    table = ctx.raw[0]
    if isinstance(table, np.ndarray) and table.dtype in (np.int8, np.uint8) and stays_bytes(ctx, table):
        # a table of embeddings that is dequantised behind: as int32 it would take four times its bytes
        row = ctx.mb.gather(x=table, indices=places, axis=axis)
        return row if read_as_bytes(ctx.node.outputs[0]) else ctx.mb.cast(x=row, dtype="int32")
    # a single index takes the axis away (ONNX, Gather: the rank of the indices replaces it)
    if isinstance(places, np.ndarray) and places.ndim == 0 and not isinstance(data, np.ndarray) and ctx.rank(data) > 1:
        return picked(ctx, data, axis, int(places))
    if ctx.is_network and ctx.rank(places) == 0:
        # A NeuralNetwork holds a single number as [1]; gathered with it, the axis would stay.
        row = ctx.mb.gather(x=data, indices=ctx.mb.reshape(x=places, shape=[1]), axis=axis)
        return ctx.mb.squeeze(x=row, axes=[axis])
    return without_bool(ctx, [data], lambda x: ctx.mb.gather(x=x, indices=places, axis=axis))


def picked(ctx: Context, data: Operand, axis: int, index: int) -> Operand:
    """A single position of an axis: a slice is cheaper than a gather, and takes every dtype."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(np.take(data, index, axis))
    rank = ctx.rank(data)
    here = [i == axis for i in range(rank)]
    others = [not h for h in here]
    return ctx.mb.slice_by_index(
        x=data,
        begin=[index if h else 0 for h in here],
        end=[index + 1 if h and index >= 0 else 0 for h in here],
        begin_mask=others,
        end_mask=others,
        squeeze_mask=here,
    )


@lowering("GatherElements", error="move", hands_on="part", places=(1,))
def gather_elements(ctx: Context, data: Operand, indices: Operand, *, axis: int = 0) -> Result:
    axis = axis_of(axis, ctx.rank(data))
    places = from_start(ctx, indices, data.shape[axis])
    # the indices may be shorter than the data along the other axes, of which the first elements are taken then
    for i, length in enumerate(indices.shape):
        if i == axis or str(length) == str(data.shape[i]):
            continue
        if is_known(length):
            data = part(ctx, data, i, 0, int(length))
        else:
            data = part_as_told(ctx, data, i, np.zeros(1, np.int32), length_of(ctx, indices, i))
    return without_bool(ctx, [data], lambda x: ctx.mb.gather_along_axis(x=x, indices=places, axis=axis))


@lowering("GatherND", places=(1,))
def gather_nd(ctx: Context, data: Operand, indices: Operand, *, batch_dims: int = 0) -> Result:
    depth = int(indices.shape[-1])
    places = from_start(ctx, indices, *tuple(data.shape)[batch_dims : batch_dims + depth])
    # 0 is said by leaving the parameter out, which older targets do not have
    batch = batch_dims or None
    if batch and ctx.target < 16:
        places, batch = _with_batch_positions(ctx, places, batch), None
    return without_bool(ctx, [data], lambda x: ctx.mb.gather_nd(x=x, indices=places, batch_dims=batch))


def _with_batch_positions(ctx: Context, indices: Operand, batch_dims: int) -> Operand:
    """Before iOS 16 there are no batch axes: their positions are put in front of the others."""
    shape = ctx.shape(indices)[:-1]
    grid = np.indices(shape, dtype=np.int32)[:batch_dims]
    return joined(ctx, [np.moveaxis(grid, 0, -1), indices])


def joined(ctx: Context, parts: list[Operand]) -> Operand:
    """Positions side by side, along the last axis."""
    known = [p for p in parts if isinstance(p, np.ndarray)]
    if len(known) == len(parts):
        return np.concatenate(known, axis=-1)
    return ctx.mb.concat(values=[np.ascontiguousarray(p) if isinstance(p, np.ndarray) else p for p in parts], axis=-1)


@lowering("OneHot")
def one_hot(ctx: Context, indices: Operand, depth: Operand, values: Operand, *, axis: int = -1) -> Result:
    """Written as a comparison with the positions, which leaves no doubt about indices that are negative or too large."""
    mb, rank = ctx.mb, ctx.rank(indices) + 1
    axis = axis_of(axis, rank)
    numbers = cast(ctx, indices, "int32")
    shape = [-1 if i == axis else 1 for i in range(rank)]
    if isinstance(depth, np.ndarray) or depth.val is not None:
        count: Operand | np.int32 = np.int32(ctx.constant(depth, "depth").item())
        positions: Operand = np.arange(count, dtype=np.int32).reshape(shape)
    else:
        count = mb.squeeze(x=mb.reshape(x=cast(ctx, depth, "int32"), shape=[1]), axes=[0])
        positions = mb.reshape(x=mb.range_1d(start=np.int32(0), end=count, step=np.int32(1)), shape=shape)
    # ONNX, OneHot: -1 is the last class; what lies outside [-depth, depth) gives a row of off values
    positive = mb.select(cond=mb.less(x=numbers, y=np.int32(0)), a=mb.add(x=numbers, y=count), b=numbers)
    hit = mb.equal(x=mb.expand_dims(x=positive, axes=[axis]), y=positions)
    if not isinstance(values, np.ndarray) and values.val is None:
        low, high = (mb.squeeze(x=picked_one(ctx, values, at), axes=[0]) for at in (0, 1))
        # a choice between two numbers would be a number to MIL
        dtype = "int32" if ctx.is_bool(values) else name_of(ctx, values)
        shares = mb.cast(x=hit, dtype=dtype), mb.cast(x=mb.logical_not(x=hit), dtype=dtype)
        parts = [mb.mul(x=share, y=cast(ctx, v, dtype)) for share, v in zip(shares, (high, low), strict=True)]
        return cast(ctx, mb.add(x=parts[0], y=parts[1]), name_of(ctx, values))
    pair = ctx.constant(values, "pair of values").reshape(-1)
    off, on = pair
    if pair.dtype.kind == "b":
        return mb.logical_not(x=hit) if off and not on else mb.logical_and(x=hit, y=np.bool_(on))
    dtype = "int32" if pair.dtype.kind in "iu" else name_of(ctx, values)
    share = mb.cast(x=hit, dtype=dtype)
    number = np.int32 if dtype == "int32" else ctx.dtype
    # off + hit * (on - off), of which the usual 0 and 1 need neither step
    if on - off != 1:
        share = mb.mul(x=share, y=number(on - off))
    return mb.add(x=share, y=number(off)) if off != 0 else share


@lowering("NonZero")
def non_zero(ctx: Context, x: Operand) -> Result:
    return ctx.mb.transpose(x=_positions(ctx, x), perm=[1, 0])


def _positions(ctx: Context, x: Operand) -> Operand:
    return ctx.mb.non_zero(x=cast(ctx, x, "int32") if ctx.is_bool(x) else x)


@lowering("TopK", places=(1,))
def top_k(ctx: Context, x: Operand, *, k: int, axis: int = -1) -> Result:
    return ctx.mb.topk(x=x, k=k, axis=axis, ascending=False)


@lowering("TopK", since=10)
def top_k_10(
    ctx: Context, x: Operand, k: Operand, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> Result | list[Operand]:
    """Core ML's result is always sorted unless it is told otherwise, which serves ``sorted=0`` as well."""
    if not isinstance(k, np.ndarray) and k.val is None:
        # all of them in their order, of which the first are kept
        axis = axis_of(axis, ctx.rank(x))
        if is_known(x.shape[axis]):
            ordered = several(ctx.mb.topk(x=x, k=int(x.shape[axis]), axis=axis, ascending=not largest))
        else:
            order = ctx.mb.argsort(x=x, axis=axis, ascending=bool(not largest))
            ordered = [ctx.mb.gather_along_axis(x=x, indices=order, axis=axis), order]
        return [part_as_told(ctx, v, axis, np.zeros(1, np.int32), k) for v in ordered]
    count = int(ctx.constant(k, "k").item())
    return ctx.mb.topk(x=x, k=count, axis=axis, ascending=not largest)


@lowering("CumSum")
def cum_sum(ctx: Context, x: Operand, axis: Operand, *, exclusive: int = 0, reverse: int = 0) -> Result:
    def along(at: int) -> Operand:
        return ctx.mb.cumsum(x=x, axis=at, exclusive=bool(exclusive), reverse=bool(reverse))

    return _on_axis(ctx, x, axis, along)


@lowering("CumProd", error="linear")
def cum_prod(ctx: Context, x: Operand, axis: Operand, *, exclusive: int = 0, reverse: int = 0) -> Result:
    """By doubling: each element times the one that is 1, 2, 4 ... places before it."""
    return _on_axis(ctx, x, axis, lambda at: _products(ctx, x, at, exclusive=bool(exclusive), reverse=bool(reverse)))


def _on_axis(ctx: Context, x: Operand, axis: Operand, compute: Callable[[int], Operand]) -> Operand:
    """``compute`` for the axis; where that comes while the model runs, for each, of which the meant one is taken."""
    rank = ctx.rank(x)
    if isinstance(axis, np.ndarray) or axis.val is not None:
        return compute(axis_of(int(ctx.constant(axis, "axis").item()), rank))
    meant = ctx.mb.reshape(x=axis, shape=[1] * rank)
    result = compute(rank - 1)
    for at in range(rank - 1):
        # the axis itself, or counted from the end
        here = [ctx.mb.equal(x=meant, y=np.int32(n)) for n in (at, at - rank)]
        result = ctx.mb.select(cond=ctx.mb.logical_or(x=here[0], y=here[1]), a=compute(at), b=result)
    return result


def _products(ctx: Context, x: Operand, along: int, *, exclusive: bool, reverse: bool) -> Operand:
    mb = ctx.mb
    length = ctx.shape(x)[along]
    kind = np.int32 if name_of(ctx, x) == "int32" else ctx.dtype

    def moved(value: Operand, by: int) -> Operand:
        """By so many places towards the end, with ones where nothing comes from."""
        shape = [by if i == along else n for i, n in enumerate(ctx.shape(value))]
        ones: list[Operand] = [np.ones(shape, kind)]
        return mb.concat(values=ones if by == length else [*ones, part(ctx, value, along, 0, length - by)], axis=along)

    # from the end is from the start of what is turned around; exclusive leaves out the element itself
    value: Operand = mb.reverse(x=x, axes=[along]) if reverse else x
    value = moved(value, 1) if exclusive else value
    by = 1
    while by < length:
        value = mb.mul(x=value, y=moved(value, by))
        by *= 2
    return mb.reverse(x=value, axes=[along]) if reverse else value


@lowering("Trilu", hands_on="part", places=(1,))
def trilu(ctx: Context, x: Operand, k: Operand | None = None, *, upper: int = 1) -> Result:
    if k is not None and not isinstance(k, np.ndarray):
        return _triangle(ctx, x, _diagonals(ctx, x), k, upper)
    diagonal = 0 if k is None else int(k.item())
    # band_part counts diagonals below and above the main one, and keeps all of a side for -1
    if upper and diagonal <= 0:
        return ctx.mb.band_part(x=x, lower=-diagonal, upper=-1)
    if not upper and diagonal >= 0:
        return ctx.mb.band_part(x=x, lower=-1, upper=diagonal)
    return _triangle(ctx, x, _diagonals(ctx, x), np.int32(diagonal), upper)


def _diagonals(ctx: Context, x: Operand) -> Operand:
    """For each element the diagonal that it lies on, above the main one positive; of free lengths for each row and column."""
    shape = tuple(x.shape)
    if all(is_known(n) for n in shape[-2:]):
        rows, columns = np.indices([int(n) for n in shape[-2:]], dtype=np.int32)
        return np.broadcast_to(columns - rows, shape) if all(map(is_known, shape)) else columns - rows
    rows, columns = (counted(ctx, x, ctx.rank(x) + axis) for axis in (-2, -1))
    return ctx.mb.sub(x=expanded(ctx, columns, [0]), y=expanded(ctx, rows, [1]))


def _triangle(ctx: Context, x: Operand, diagonals: Operand, k: Operand | np.int32, upper: int) -> Operand:
    """A triangle that band_part cannot cut out: beyond the main diagonal, or at one that is computed."""
    inside: Operand
    if isinstance(k, np.integer) and isinstance(diagonals, np.ndarray):
        inside = diagonals >= k if upper else diagonals <= k
    else:
        compare = ctx.mb.greater_equal if upper else ctx.mb.less_equal
        told = np.ascontiguousarray(diagonals) if isinstance(diagonals, np.ndarray) else diagonals
        inside = compare(x=told, y=k)
    zero: np.ndarray = np.zeros((), {"bool": np.bool_, "int32": np.int32}.get(name_of(ctx, x), ctx.dtype))
    return ctx.mb.select(cond=inside, a=x, b=zero)


@lowering("ReverseSequence")
def reverse_sequence(
    ctx: Context, x: Operand, sequence_lens: Operand, *, batch_axis: int = 1, time_axis: int = 0
) -> Result:
    return ctx.mb.reverse_sequence(x=x, lengths=sequence_lens, seq_axis=time_axis, batch_axis=batch_axis)


@lowering("Compress")
def compress(ctx: Context, x: Operand, condition: Operand, *, axis: int | None = None) -> Result:
    """The positions at which the condition holds, and the elements there."""
    if isinstance(condition, np.ndarray):
        chosen = np.flatnonzero(condition).astype(np.int32)
        if not chosen.size:
            raise ctx.refuse("nothing is selected", "at least one element")
        places: Operand = chosen
    else:
        places = ctx.mb.squeeze(x=_positions(ctx, condition), axes=[1])
    source = x if axis is not None else ctx.mb.reshape(x=x, shape=[-1])
    return without_bool(ctx, [source], lambda d: ctx.mb.gather(x=d, indices=places, axis=axis or 0))


@lowering("Crop")
def crop(ctx: Context, x: Operand, *, border: Sequence[int], scale: Sequence[int] | None = None) -> Result:
    """An experimental operator of the first exporters, still met in style transfer: cuts a border off height and width."""
    # ONNX, Crop: (leftBorder, topBorder, rightBorder, bottomBorder); scale is (height, width)
    left, top, right, bottom = border
    height, width = ctx.shape(x)[-2:]
    ends = [height - bottom, width - right] if not scale else [top + scale[0], left + scale[1]]
    return slice_of(ctx, x, [top, left], ends, [2, 3], [1, 1])
