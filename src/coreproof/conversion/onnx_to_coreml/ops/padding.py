"""Pad and CenterCropPad: tensors surrounded, or cut off at their ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, is_known, known_elements, name_of, without_bool
from coreproof.conversion.onnx_to_coreml.ops.indexing import length_of, picked_one


@lowering("Pad", channelwise=True, places=(1,))
def pad(ctx: Context, data: Operand, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> Result:
    return _pad(ctx, data, np.array(pads).reshape(2, -1).T, mode, value)


@lowering("Pad", since=11)
def pad_11(
    ctx: Context,
    data: Operand,
    pads: Operand,
    constant_value: Operand | None = None,
    axes: Operand | None = None,
    *,
    mode: str = "constant",
) -> Result:
    rank = ctx.rank(data)
    told = [v for v in (pads, constant_value) if v is not None and not isinstance(v, np.ndarray) and v.val is None]
    if told:
        return _pad_as_told(ctx, data, pads, constant_value, axes, mode)
    value = 0.0 if constant_value is None else ctx.constant(constant_value, "constant value").item()
    amounts = ctx.constant(pads, "pads").reshape(2, -1).T
    whole = np.zeros((rank, 2), np.int64)
    chosen = range(rank) if axes is None else ctx.integers(axes, "list of axes")
    for axis, amount in zip(chosen, amounts, strict=True):
        whole[axis] = amount
    return _pad(ctx, data, whole, mode, value)


def _pad_as_told(
    ctx: Context, data: Operand, pads: Operand, value: Operand | None, axes: Operand | None, mode: str
) -> Result:
    """Pads, or the value in them, that are computed while the model runs; negative pads cut off here too."""
    rank = ctx.rank(data)
    chosen = list(range(rank)) if axes is None else [axis_of(a, rank) for a in ctx.integers(axes, "list of axes")]
    amounts = known_elements(pads) or []
    for place, axis in enumerate(chosen):
        # ONNX has all beginnings first, then all ends
        if amounts and amounts[place] == amounts[len(chosen) + place] == 0:
            continue
        length = length_of(ctx, data, axis)
        before, after = (picked_one(ctx, pads, at) for at in (place, len(chosen) + place))
        begin = ctx.mb.sub(x=np.zeros(1, np.int32), y=before)
        end = ctx.mb.add(x=after, y=length)
        data = stretch(ctx, data, axis, begin, end, mode=mode, value=value)
    return data


def stretch(
    ctx: Context, data: Operand, axis: int, begin: Operand, end: Operand, *, mode: str, value: Operand | None = None
) -> Operand:
    """The places from ``begin`` to ``end`` of an axis, [1] each, of which some may lie outside: filled as ``mode`` says."""
    mb = ctx.mb
    length = length_of(ctx, data, axis)
    places = mb.range_1d(start=mb.squeeze(x=begin, axes=[0]), end=mb.squeeze(x=end, axes=[0]), step=np.int32(1))
    last = mb.sub(x=length, y=np.int32(1))
    if mode == "wrap":
        inside: Operand = mb.mod(x=places, y=length)
    elif mode == "reflect":
        # there and back: 0 1 2 3 2 1 0 1 ...
        # an axis of one element has a round trip of 0, by which nothing can be divided
        period = mb.maximum(x=mb.mul(x=last, y=np.int32(2)), y=np.int32(1))
        round_trip = mb.mod(x=places, y=period)
        inside = mb.minimum(x=round_trip, y=mb.sub(x=period, y=round_trip))
        inside = mb.minimum(x=inside, y=last)
    else:
        inside = mb.minimum(x=mb.maximum(x=places, y=np.int32(0)), y=last)
    seen = without_bool(ctx, [data], lambda x: mb.gather(x=x, indices=inside, axis=axis))
    if mode != "constant":
        return seen
    rank = ctx.rank(data)
    # a place that had to be moved inside lies outside
    own = mb.reshape(x=mb.equal(x=places, y=inside), shape=[-1 if i == axis else 1 for i in range(rank)])
    dtype = name_of(ctx, data)
    if dtype == "bool":
        filling = np.bool_(False) if value is None else mb.squeeze(x=mb.reshape(x=value, shape=[1]), axes=[0])
        return mb.logical_or(x=mb.logical_and(x=own, y=seen), y=mb.logical_and(x=mb.logical_not(x=own), y=filling))
    nothing = np.int32(0) if dtype == "int32" else ctx.scalar(0)
    filler: Operand | np.generic = nothing
    if isinstance(value, np.ndarray):
        filler = value.reshape(-1)[0]
    elif value is not None:
        filler = mb.squeeze(x=mb.reshape(x=value, shape=[1]), axes=[0])
    return mb.select(cond=own, a=seen, b=filler)


@lowering("CenterCropPad", since=18, error="move", places=(1,))
def center_crop_pad(ctx: Context, x: Operand, shape: Operand, *, axes: Sequence[int] | None = None) -> Result:
    """The middle of each axis, as long as ``shape`` says; of an odd difference the end loses, or gets, one more."""
    rank = ctx.rank(x)
    chosen = list(range(rank)) if axes is None else [axis_of(a, rank) for a in axes]
    wanted = None if not isinstance(shape, np.ndarray) and shape.val is None else ctx.integers(shape, "shape")
    if wanted is not None and all(isinstance(x.shape[a], int | np.integer) for a in chosen):
        amounts = np.zeros((rank, 2), np.int64)
        for axis, target in zip(chosen, wanted, strict=True):
            more = target - int(x.shape[axis])
            amounts[axis] = (more // 2, more - more // 2) if more > 0 else (-(-more // 2), more + -more // 2)
        return _pad(ctx, x, amounts, "constant", 0.0)
    mb = ctx.mb
    for place, axis in enumerate(chosen):
        asked = picked_one(ctx, shape, place)
        surplus = mb.sub(x=length_of(ctx, x, axis), y=asked)
        # rounded towards zero for crops and pads alike: the odd element is the end's
        half = mb.floor_div(x=mb.abs(x=surplus), y=np.int32(2))
        begin = mb.mul(x=mb.sign(x=surplus), y=half)
        x = stretch(ctx, x, axis, begin, mb.add(x=begin, y=asked), mode="constant")
    return x


def _pad(ctx: Context, data: Operand, amounts: Array, mode: str, value: float) -> Result:
    """Negative amounts cut off; what is left is added in the way of ``mode``."""
    cut = _cut(ctx, data, np.minimum(amounts, 0))
    amounts = np.maximum(amounts, 0)
    if not amounts.any():
        return cut
    if mode == "constant":
        return _pad_constant(ctx, cut, amounts, value)
    rank = ctx.rank(cut)
    # MIL's pad reflects and repeats in the last two dimensions alone, and takes floats alone
    native = mode in ("reflect", "edge") and ctx.is_float(data)
    for axis in range(rank if not native else max(rank - 2, 0)):
        cut = _pad_by_index(ctx, cut, axis, amounts[axis], mode)
    if not native or not amounts[-2:].any():
        return cut
    if rank == 1:
        return _pad_by_index(ctx, cut, 0, amounts[0], mode)
    how = {"reflect": "reflect", "edge": "replicate"}[mode]
    return ctx.mb.pad(x=cut, pad=amounts[-2:].reshape(-1).astype(np.int32), mode=how)


def padded(ctx: Context, data: Operand, amounts: Array) -> Operand:
    """Surrounded by zeros; ``amounts`` [rank, 2], of which negative ones cut off."""
    return _pad(ctx, data, amounts, "constant", 0.0)


def _cut(ctx: Context, data: Operand, amounts: Array) -> Operand:
    if not amounts.any():
        return data
    begin, end = -amounts[:, 0], amounts[:, 1]
    return ctx.mb.slice_by_index(
        x=data,
        begin=begin.astype(np.int32),
        end=end.astype(np.int32),
        begin_mask=[bool(b == 0) for b in begin],
        end_mask=[bool(e == 0) for e in end],
    )


def _pad_constant(ctx: Context, data: Operand, amounts: Array, value: float) -> Operand:
    if ctx.is_float(data):
        # MIL's pad counts from the last dimension: those in front of the first padded one are left out
        first = int(np.flatnonzero(amounts.any(axis=1))[0])
        flat = amounts[first:].reshape(-1).astype(np.int32)
        return ctx.mb.pad(x=data, pad=flat, mode="constant", constant_val=ctx.floats(value)[()])
    # MIL's pad takes floats alone: what is added to others is joined on
    dtype = np.bool_ if ctx.is_bool(data) else np.int32
    if not all(map(is_known, data.shape)):
        return _pad_around(ctx, data, amounts, np.array(value, np.int32))
    for axis, (before, after) in enumerate(amounts.tolist()):
        lengths = list(ctx.shape(data))
        parts: list[Array] = [
            np.full([*lengths[:axis], n, *lengths[axis + 1 :]], value, dtype) for n in (before, after)
        ]
        kept = [*([parts[0]] if before else []), data, *([parts[1]] if after else [])]
        data = ctx.mb.concat(values=kept, axis=axis) if len(kept) > 1 else data
    return data


def _pad_around(ctx: Context, data: Operand, amounts: Array, value: Array) -> Operand:
    """What floats are not, beside free lengths: the places outside are chosen while the model runs."""
    for axis, (before, after) in enumerate(amounts.tolist()):
        if before or after:
            end = ctx.mb.add(x=length_of(ctx, data, axis), y=np.array([after], np.int32))
            begin = np.array([-before], np.int32)
            data = stretch(ctx, data, axis, begin, end, mode="constant", value=value)
    return data


def _pad_by_index(ctx: Context, data: Operand, axis: int, amount: Array, mode: str) -> Operand:
    """Padding as a selection of elements along one axis: for any axis, dtype and mode."""
    if not amount.any():
        return data
    length = data.shape[axis]
    if not is_known(length):
        begin, more = np.array([-amount[0]], np.int32), np.array([amount[1]], np.int32)
        return stretch(ctx, data, axis, begin, ctx.mb.add(x=length_of(ctx, data, axis), y=more), mode=mode)
    indices = np.pad(np.arange(length), tuple(amount.tolist()), mode=mode).astype(np.int32)  # type: ignore[call-overload]
    return without_bool(ctx, [data], lambda x: ctx.mb.gather(x=x, indices=indices, axis=axis))
