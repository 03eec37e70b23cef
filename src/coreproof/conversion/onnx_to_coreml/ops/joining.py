"""Concat and Split: tensors joined and cut along their axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import as_whole, axis_of, is_known, without_elements
from coreproof.conversion.onnx_to_coreml.ops.indexing import part_as_told, picked_one


@lowering("Concat")
def concat(ctx: Context, *inputs: Operand, axis: int = 1, interleave: int = 0) -> Result:
    """``interleave`` is no attribute of ONNX's, but of what ``fuse`` makes of channels that are dealt out in turn."""
    if interleave:
        return ctx.mb.concat(values=list(inputs), axis=axis, interleave=True)
    axis = axis_of(axis, ctx.rank(inputs[0]))
    parts = [x for x in inputs if not (is_known(x.shape[axis]) and x.shape[axis] == 0)]
    if not parts:
        raise ctx.refuse("all its operands are empty", "at least one element")
    return parts[0] if len(parts) == 1 else ctx.mb.concat(values=parts, axis=axis)


@lowering("Split")
def split(
    ctx: Context, x: Operand, lengths: Operand | None = None, *, axis: int = 0, split: Sequence[int] | None = None
) -> Result | list[Operand]:
    """Opset 1 takes the lengths as floats of the operand's own type, too."""
    if lengths is None:
        return _split(ctx, x, axis, split)
    return split_13(ctx, x, as_whole(ctx, 1, "list of lengths"), axis=axis)


@lowering("Split", since=13)
def split_13(
    ctx: Context, x: Operand, split: Operand | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> Result | list[Operand]:
    if split is not None and not isinstance(split, np.ndarray) and split.val is None:
        return _split_as_told(ctx, x, axis_of(axis, ctx.rank(x)), split)
    return _split(ctx, x, axis, None if split is None else ctx.integers(split, "list of lengths"))


def _split_as_told(ctx: Context, x: Operand, axis: int, lengths: Operand) -> list[Operand]:
    """Parts whose lengths are computed while the model runs: each begins where the ones before it end."""
    ends = ctx.mb.cumsum(x=lengths, axis=0)
    begins = ctx.mb.sub(x=ends, y=lengths)
    count = len(ctx.node.outputs)
    return [part_as_told(ctx, x, axis, picked_one(ctx, begins, i), picked_one(ctx, ends, i)) for i in range(count)]


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
