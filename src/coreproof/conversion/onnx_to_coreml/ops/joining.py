"""Concat, Split and Pad: tensors joined, cut and surrounded along their axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, is_known, without_bool, without_elements


@lowering("Concat")
def concat(ctx: Context, *inputs: Operand, axis: int = 1) -> Result:
    axis = axis_of(axis, ctx.rank(inputs[0]))
    parts = [x for x in inputs if not (is_known(x.shape[axis]) and x.shape[axis] == 0)]
    if not parts:
        raise ctx.refuse("all its operands are empty", "at least one element")
    return parts[0] if len(parts) == 1 else ctx.mb.concat(values=parts, axis=axis)


@lowering("Split")
def split(ctx: Context, x: Operand, *, axis: int = 0, split: Sequence[int] | None = None) -> Result | list[Operand]:
    return _split(ctx, x, axis, split)


@lowering("Split", since=13)
def split_13(
    ctx: Context, x: Operand, split: Operand | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> Result | list[Operand]:
    return _split(ctx, x, axis, None if split is None else ctx.integers(split, "list of lengths"))


def _split(ctx: Context, x: Operand, axis: int, sizes: Sequence[int] | None) -> Result | list[Operand]:
    axis, count, length = axis_of(axis, ctx.rank(x)), len(ctx.node.outputs), x.shape[axis]
    if count == 1:
        return x
    if sizes is None and not is_known(length):
        return ctx.mb.split(x=x, num_splits=count, axis=axis)
    if sizes is None:
        # of uneven parts the last is the shorter one (opset 18)
        chunk = -(-int(length) // count)
        sizes = [min(chunk, int(length) - i * chunk) for i in range(count)]
    filled = [size for size in sizes if size > 0]
    whole = len(filled) == 1
    parts = [x] if whole else several(ctx.mb.split(x=x, split_sizes=np.array(filled, np.int32), axis=axis))
    # a part without elements is known: definitions of the standard split such a part off and join it again
    return [parts.pop(0) if size > 0 else without_elements(ctx, x, axis) for size in sizes]


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
    value = 0.0 if constant_value is None else ctx.constant(constant_value, "constant value").item()
    if not isinstance(pads, np.ndarray) and pads.val is None:
        return _pad_as_told(ctx, data, pads, axes, mode, value)
    amounts = ctx.constant(pads, "pads").reshape(2, -1).T
    whole = np.zeros((rank, 2), np.int64)
    chosen = range(rank) if axes is None else ctx.integers(axes, "list of axes")
    for axis, amount in zip(chosen, amounts, strict=True):
        whole[axis] = amount
    return _pad(ctx, data, whole, mode, value)


def _pad_as_told(ctx: Context, data: Operand, pads: Operand, axes: Operand | None, mode: str, value: float) -> Result:
    if mode != "constant" or axes is not None or not ctx.is_float(data):
        raise ctx.refuse("its pads are computed while the model runs", "constant pads")
    pairs = ctx.mb.transpose(x=ctx.mb.reshape(x=pads, shape=[2, -1]), perm=[1, 0])
    flat = ctx.mb.reshape(x=pairs, shape=[2 * ctx.rank(data)])
    return ctx.mb.pad(x=data, pad=flat, mode="constant", constant_val=ctx.floats(value)[()])


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
        first = int(np.flatnonzero(amounts.any(axis=1))[0])
        flat = amounts[first:].reshape(-1).astype(np.int32)
        return ctx.mb.pad(x=data, pad=flat, mode="constant", constant_val=ctx.floats(value)[()])
    # MIL's pad takes floats alone: what is added to others is joined on
    dtype = np.bool_ if ctx.is_bool(data) else np.int32
    for axis, (before, after) in enumerate(amounts.tolist()):
        lengths = list(ctx.shape(data))
        parts: list[Array] = [
            np.full([*lengths[:axis], n, *lengths[axis + 1 :]], value, dtype) for n in (before, after)
        ]
        kept = [*([parts[0]] if before else []), data, *([parts[1]] if after else [])]
        data = ctx.mb.concat(values=kept, axis=axis) if len(kept) > 1 else data
    return data


def _pad_by_index(ctx: Context, data: Operand, axis: int, amount: Array, mode: str) -> Operand:
    """Padding as a selection of elements along one axis: for any axis, dtype and mode."""
    if not amount.any():
        return data
    length = ctx.shape(data)[axis]
    indices = np.pad(np.arange(length), tuple(amount.tolist()), mode=mode).astype(np.int32)  # type: ignore[call-overload]
    return without_bool(ctx, [data], lambda x: ctx.mb.gather(x=x, indices=indices, axis=axis))
