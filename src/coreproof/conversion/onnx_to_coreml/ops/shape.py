"""Operators that change what shape a tensor has, or say it, and leave its elements as they are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from coreproof.conversion.onnx_to_coreml.int_range import check_fits
from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering, mil_array
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import (
    as_whole,
    axis_of,
    cast,
    in_floats,
    is_known,
    known_elements,
    name_of,
)


@lowering("Identity", channelwise=True, sequences=True)
def identity(ctx: Context, x: Operand) -> Result:
    return x


@lowering("Reshape", places=(1,))
def reshape(ctx: Context, data: Operand, shape: Operand, *, allowzero: int = 0) -> Result:
    elements = known_elements(shape)
    if elements is None:
        return ctx.mb.reshape(x=data, shape=shape)
    source = tuple(data.shape)
    # ONNX, Reshape: 0 copies the length at its place, unless allowzero says that it means none
    wanted = [source[i] if not allowzero and is_known(n) and n == 0 else n for i, n in enumerate(elements)]
    target = _solve(source, wanted)
    if any(is_known(n) and n == 0 for n in target):
        raise ctx.refuse(f"the shape {tuple(target)} has no elements", "at least one element")
    if all(is_known(n) for n in target) and tuple(target) == source:
        return data
    return ctx.mb.reshape(x=data, shape=_as_target(ctx, data, shape, target))


def _solve(source: Sequence[int], target: list[int]) -> list[int]:
    """``target`` with its -1 replaced by the length that it stands for, where that is a number."""
    if not any(is_known(n) and n == -1 for n in target):
        return target
    at = next(i for i, n in enumerate(target) if is_known(n) and n == -1)
    free = [n for n in source if not is_known(n)]
    kept = [n for n in target if not is_known(n)]
    # free lengths on both sides cancel; symbols are told apart by their names
    if sorted(map(str, free)) != sorted(map(str, kept)):
        return target
    rest = prod(int(n) for i, n in enumerate(target) if is_known(n) and i != at)
    length = prod(int(n) for n in source if is_known(n)) // rest if rest else 0
    return [length if i == at else n for i, n in enumerate(target)]


def _as_target(ctx: Context, data: Operand, shape: Operand, target: list[int]) -> Operand:
    """What reshape takes: numbers, with -1 for one free length; several free lengths are measured while the model runs."""
    symbols = [i for i, n in enumerate(target) if not is_known(n)]
    inferred = any(is_known(n) and n == -1 for n in target)
    if len(symbols) + inferred <= 1:
        return np.array([n if is_known(n) else -1 for n in target], np.int32)
    source = list(map(str, data.shape))
    lengths = ctx.mb.shape(x=data) if any(str(target[i]) in source for i in symbols) else shape
    pieces = [
        np.array([n], np.int32)
        if is_known(n)
        else _element(ctx, lengths, source.index(str(n)))
        if str(n) in source
        else _element(ctx, shape, i)
        for i, n in enumerate(target)
    ]
    return ctx.mb.concat(values=pieces, axis=0)


def _element(ctx: Context, vector: Operand, index: int) -> Operand:
    return ctx.mb.slice_by_index(x=vector, begin=[index], end=[index + 1])


@lowering("Flatten", error="move", hands_on="reshaped")
def flatten(ctx: Context, x: Operand, *, axis: int = 1) -> Result:
    axis = axis_of(axis, ctx.rank(x))
    before, after = tuple(x.shape)[:axis], tuple(x.shape)[axis:]
    if all(is_known(n) for n in after):
        # at most one free length: MIL's -1 stands for it
        first = prod(map(int, before)) if all(is_known(n) for n in before) else -1
        return ctx.mb.reshape(x=x, shape=np.array([first, prod(map(int, after))], np.int32))
    if all(is_known(n) for n in before):
        return ctx.mb.reshape(x=x, shape=np.array([prod(map(int, before)), -1], np.int32))
    return in_floats(ctx, x, lambda wide: ctx.mb.flatten2d(x=wide, axis=axis))


@lowering("Transpose")
def transpose(ctx: Context, data: Operand, *, perm: Sequence[int] | None = None) -> Result:
    order = list(perm) if perm is not None else list(range(ctx.rank(data)))[::-1]
    if sorted(order) != list(range(ctx.rank(data))):
        raise ctx.refuse(f"perm {order} for {ctx.rank(data)} dimensions", "each dimension once")
    return data if order == sorted(order) else ctx.mb.transpose(x=data, perm=order)


@lowering("Squeeze")
def squeeze(ctx: Context, data: Operand, *, axes: Sequence[int] | None = None) -> Result:
    if axes is None:
        # a free length may be 1 at times, but the rank of a program's value does not change
        axes = [i for i, n in enumerate(data.shape) if is_known(n) and n == 1]
    if not axes:
        return data
    for axis in axes:
        if not is_known(data.shape[axis]):
            raise ctx.refuse(f"axis {axis} is free, so it need not be 1", "a fixed length", "fix the input's shape")
    return ctx.mb.squeeze(x=data, axes=[int(a) for a in axes])


@lowering("Squeeze", since=13)
def squeeze_13(ctx: Context, data: Operand, axes: Operand | None = None) -> Result:
    if axes is not None and not isinstance(axes, np.ndarray) and axes.val is None:
        return _squeezed_as_told(ctx, data, axes)
    chosen = None if axes is None else ctx.integers(axes, "list of axes")
    return squeeze(ctx, data, axes=chosen)


def _squeezed_as_told(ctx: Context, data: Operand, axes: Operand) -> Result:
    """Axes that are computed while the model runs; how many there are is known. One that is longer than 1 fails there."""
    mb, rank = ctx.mb, ctx.rank(data)
    left = rank - int(axes.shape[0])
    if not left:
        return mb.squeeze(x=mb.reshape(x=data, shape=[1]), axes=[0])
    # the axes that stay come first, each group in its order
    order = mb.add(x=mb.mul(x=_axis_mask(ctx, axes, rank), y=np.int32(rank)), y=np.arange(rank, dtype=np.int32))
    kept = mb.slice_by_index(x=mb.argsort(x=order, axis=0, ascending=True), begin=[0], end=[left])
    return mb.reshape(x=data, shape=mb.gather(x=mb.shape(x=data), indices=kept, axis=0))


def _unsqueezed_as_told(ctx: Context, data: Operand, axes: Operand) -> Result:
    """Axes that are computed while the model runs; how many there are is known."""
    mb, before = ctx.mb, ctx.rank(data)
    rank = before + int(axes.shape[0])
    if not before:
        return mb.reshape(x=data, shape=[1] * rank)
    new = _axis_mask(ctx, axes, rank)
    own = mb.sub(x=np.int32(1), y=new)
    # the lengths of the others follow each other
    places = mb.maximum(x=mb.sub(x=mb.cumsum(x=own, axis=0), y=np.int32(1)), y=np.int32(0))
    # at the new axes this is some neighbour's length, which counts 0 times
    lengths = mb.gather(x=mb.shape(x=data), indices=places, axis=0)
    return mb.reshape(x=data, shape=mb.add(x=mb.mul(x=lengths, y=own), y=new))


def _axis_mask(ctx: Context, axes: Operand, rank: int) -> Operand:
    """[rank]: 1 at each of the axes, of which negative ones count from the end, 0 elsewhere."""
    mb = ctx.mb
    # MIL's mod has the sign of the divisor, so that -1 becomes rank - 1
    places = mb.expand_dims(x=mb.mod(x=axes, y=np.int32(rank)), axes=[1])
    hit = mb.cast(x=mb.equal(x=places, y=np.arange(rank, dtype=np.int32).reshape(1, rank)), dtype="int32")
    return mb.reduce_max(x=hit, axes=[0], keep_dims=False)


@lowering("Unsqueeze", error="move", keeps_order=True, hands_on="reshaped")
def unsqueeze(ctx: Context, data: Operand, *, axes: Sequence[int]) -> Result:
    return ctx.mb.expand_dims(x=data, axes=[int(a) for a in axes]) if len(axes) else data


@lowering("Unsqueeze", since=13)
def unsqueeze_13(ctx: Context, data: Operand, axes: Operand) -> Result:
    if not isinstance(axes, np.ndarray) and axes.val is None:
        return _unsqueezed_as_told(ctx, data, axes)
    return unsqueeze(ctx, data, axes=ctx.integers(axes, "list of axes"))


@lowering("Expand", error="move", hands_on="reshaped", places=(1,))
def expand(ctx: Context, x: Operand, shape: Operand) -> Result:
    target = known_elements(shape)
    if target is None:
        dtype = name_of(ctx, x)
        number = cast(ctx, x, "int32") if dtype == "bool" else x
        one = np.int32(1) if dtype in ("bool", "int32") else ctx.scalar(1.0)
        # MIL broadcasts within arithmetic alone: times a tensor of ones
        return cast(ctx, ctx.mb.mul(x=number, y=ctx.mb.fill(shape=shape, value=one)), dtype)
    # ONNX, Expand: broadcasting both ways, so that the target may have fewer dimensions than the data
    missing = len(target) - ctx.rank(x)
    expanded = ctx.mb.expand_dims(x=x, axes=list(range(missing))) if missing > 0 else x
    target = [1] * -missing + target
    reps: list[int | Operand] = []
    for i, (length, wanted) in enumerate(zip(expanded.shape, target, strict=True)):
        if (is_known(wanted) and wanted == 1) or str(length) == str(wanted):
            reps.append(1)
        elif is_known(length) and is_known(wanted) and length != 1:
            raise ctx.refuse(f"a length of {length} would become {wanted}", "equal lengths, or 1")
        elif is_known(length) and length != 1:
            reps.append(1)  # what it would become is free, and can be nothing but its own length, or 1
        else:
            reps.append(_times(ctx, expanded, i, wanted, shape, i + min(missing, 0)))
    return _repeat(ctx, expanded, reps)


def _times(ctx: Context, x: Operand, axis: int, wanted: int, shape: Operand, at: int) -> int | Operand:
    """How often an axis is repeated that is 1, or free and thus 1 or as long as it is wanted already."""
    length = x.shape[axis]
    if is_known(length):
        return wanted if is_known(wanted) else _element(ctx, shape, at)
    # of what a mask chose there may be nothing, which no number divides
    own = ctx.mb.maximum(x=_element(ctx, ctx.mb.shape(x=x), axis), y=np.array([1], np.int32))
    told = np.array([wanted], np.int32) if is_known(wanted) else _element(ctx, shape, at)
    return ctx.mb.floor_div(x=ctx.mb.maximum(x=told, y=own), y=own)


def _repeat(ctx: Context, x: Operand, reps: Sequence[int | Operand]) -> Operand:
    if all(is_known(n) for n in reps):
        return x if all(n == 1 for n in reps) else ctx.mb.tile(x=x, reps=np.array(reps, np.int32))
    pieces = [np.array([n], np.int32) if is_known(n) else n for n in reps]
    return ctx.mb.tile(x=x, reps=ctx.mb.concat(values=pieces, axis=0))


@lowering("Tile", places=(1,))
def tile_1(ctx: Context, x: Operand, tiles: Operand, axis: Operand) -> Result:
    """Both are single floats of the operand's own type: one axis is repeated."""
    (at,) = ctx.integers(as_whole(ctx, 2, "axis"), "axis")
    often = as_whole(ctx, 1, "number of repetitions")
    reps: list[int | Operand] = [1] * ctx.rank(x)
    at = axis_of(at, ctx.rank(x))
    reps[at] = int(often.item()) if isinstance(often, np.ndarray) else ctx.mb.reshape(x=often, shape=[1])
    return _repeat(ctx, x, reps)


@lowering("Tile", since=6, places=(1,))
def tile(ctx: Context, x: Operand, repeats: Operand) -> Result:
    reps = known_elements(repeats)
    if reps is None:
        return ctx.mb.tile(x=x, reps=repeats)
    # a symbol is a length that is free: it stands in the operand while the model runs
    return _repeat(ctx, x, [n if is_known(n) else _element(ctx, repeats, at) for at, n in enumerate(reps)])


@lowering("Shape")
def shape(ctx: Context, data: Operand, *, start: int = 0, end: int | None = None) -> Result:
    rank = ctx.rank(data)
    first = min(max(axis_of(start, rank), 0), rank)
    last = rank if end is None else min(max(axis_of(end, rank), 0), rank)
    lengths = tuple(data.shape)[first:last]
    if all(is_known(n) for n in lengths):
        return np.array(lengths, np.int32)
    whole = ctx.mb.shape(x=data)
    return whole if (first, last) == (0, rank) else ctx.mb.slice_by_index(x=whole, begin=[first], end=[last])


@lowering("Size", error="move", positions=True)
def size(ctx: Context, data: Operand) -> Result:
    if all(is_known(n) for n in data.shape):
        return np.array(prod(map(int, data.shape)), np.int32)
    return ctx.mb.reduce_prod(x=ctx.mb.shape(x=data), axes=[0], keep_dims=False)


@lowering("Constant")
def constant(
    ctx: Context,
    *,
    value: Array | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Result:
    for given, dtype in (
        (value, None),
        (value_float, np.float32),
        (value_floats, np.float32),
        (value_int, np.int64),
        (value_ints, np.int64),
    ):
        if given is not None:
            return mil_array(np.asarray(given, dtype), ctx.dtype)
    raise ctx.refuse("it holds strings or a sparse tensor", "numbers in a dense tensor")


@lowering("ConstantOfShape", error="move", places=(0,))
def constant_of_shape(ctx: Context, shape: Operand, *, value: Array | None = None) -> Result:
    # the standard's default: a zero of float32
    given = np.zeros(1, np.float32) if value is None else np.asarray(value)
    check_fits(given, f"node {ctx.node.name!r} (ConstantOfShape), its value")
    filling = mil_array(given, ctx.dtype).reshape(-1)[0]
    return ctx.mb.fill(shape=shape, value=filling)


@lowering("Range", positions=True)
def range_1d(ctx: Context, start: Operand, limit: Operand, delta: Operand) -> Result:
    return ctx.mb.range_1d(start=start, end=limit, step=delta)


@lowering("DepthToSpace")
def depth_to_space(ctx: Context, x: Operand, *, blocksize: int, mode: str = "DCR") -> Result:
    if blocksize < 1:
        raise ctx.refuse(f"a blocksize of {blocksize}", "at least 1")
    if blocksize == 1:
        return x
    if mode == "CRD":
        return in_floats(ctx, x, lambda wide: ctx.mb.pixel_shuffle(x=wide, upscale_factor=blocksize))
    return in_floats(ctx, x, lambda wide: ctx.mb.depth_to_space(x=wide, block_size=blocksize))


@lowering("SpaceToDepth")
def space_to_depth(ctx: Context, x: Operand, *, blocksize: int, mode: str = "DCR") -> Result:
    if blocksize == 1:
        return x
    blocks = in_floats(ctx, x, lambda wide: ctx.mb.space_to_depth(x=wide, block_size=blocksize))
    return blocks if mode == "DCR" else _channels_first(ctx, blocks, blocksize * blocksize)


def _channels_first(ctx: Context, x: Operand, blocks: int) -> Operand:
    """[N, blocks * C, H, W] to [N, C * blocks, H, W]."""
    batch, channels, *size = tuple(x.shape)
    if not all(is_known(n) for n in (channels, *size)):
        raise ctx.refuse("its height or width is free", "a fixed height and width")
    first = int(batch) if is_known(batch) else -1
    split = ctx.mb.reshape(x=x, shape=np.array([first, blocks, channels // blocks, *size], np.int32))
    turned = ctx.mb.transpose(x=split, perm=[0, 2, 1, 3, 4])
    return ctx.mb.reshape(x=turned, shape=np.array([first, channels, *size], np.int32))
