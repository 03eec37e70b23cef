"""Operators that write elements at positions: ScatterElements and ScatterND, with their reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, without_bool
from coreproof.conversion.onnx_to_coreml.ops.indexing import from_start, joined

_MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@lowering("Scatter", since=9)
@lowering("ScatterElements", since=11, hands_on="part", places=(1,))
def scatter_elements(
    ctx: Context, data: Operand, indices: Operand, updates: Operand, *, axis: int = 0, reduction: str = "none"
) -> Result:
    axis = axis_of(axis, ctx.rank(data))
    places = from_start(ctx, indices, data.shape[axis])
    mode = _MODES[reduction]
    # lengths may be symbols, which are told apart by their names
    if all(i == axis or str(n) == str(data.shape[i]) for i, n in enumerate(indices.shape)):
        along = ctx.mb.scatter_along_axis
        return without_bool(
            ctx, [data, updates], lambda d, u: along(data=d, indices=places, updates=u, axis=axis, mode=mode)
        )
    positions = _all_positions(ctx, places, axis)
    return _write_nd(ctx, data, positions, updates, mode)


def _write_nd(ctx: Context, data: Operand, places: Operand, updates: Operand, mode: str) -> Result:
    return without_bool(
        ctx, [data, updates], lambda d, u: ctx.mb.scatter_nd(data=d, indices=places, updates=u, mode=mode)
    )


def _all_positions(ctx: Context, indices: Operand, axis: int) -> Operand:
    """Each index with its own place along the other axes: what scatter_nd asks for, and it takes smaller indices."""
    shape = ctx.shape(indices)
    grid = np.indices(shape, dtype=np.int32)
    if isinstance(indices, np.ndarray):
        grid[axis] = indices
        return np.ascontiguousarray(np.moveaxis(grid, 0, -1))
    own = ctx.mb.expand_dims(x=indices, axes=[-1])
    # of the first or the last axis one of the two has no positions, and no width
    before, after = np.moveaxis(grid[:axis], 0, -1), np.moveaxis(grid[axis + 1 :], 0, -1)
    return joined(ctx, [part for part in (before, own, after) if part is own or part.shape[-1]])


@lowering("ScatterND", since=11, places=(1,))
def scatter_nd(ctx: Context, data: Operand, indices: Operand, updates: Operand, *, reduction: str = "none") -> Result:
    places = from_start(ctx, indices, *tuple(data.shape)[: int(indices.shape[-1])])
    return _write_nd(ctx, data, places, updates, _MODES[reduction])


@lowering("TensorScatter", error="move")
def tensor_scatter(
    ctx: Context,
    cache: Operand,
    update: Operand,
    places: Operand | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Result:
    """Writes ``update`` into each sample's cache from its place on; a circular cache goes on at its start."""
    mb = ctx.mb
    along = axis_of(axis, ctx.rank(cache))
    shape = ctx.shape(update)
    # row k of the update goes k places behind its start
    steps = np.arange(shape[along], dtype=np.int32).reshape([-1 if i == along else 1 for i in range(len(shape))])
    if places is None:
        where: Operand = steps
    else:
        # each sample of the batch has a start of its own
        where = mb.add(x=mb.reshape(x=places, shape=[-1, *[1] * (len(shape) - 1)]), y=steps)
        if mode == "circular":
            where = mb.mod(x=where, y=np.int32(ctx.shape(cache)[along]))
    if isinstance(where, np.ndarray):
        spread: Operand = np.ascontiguousarray(np.broadcast_to(where, shape))
    else:
        spread = mb.add(x=where, y=np.zeros(shape, np.int32))
    positions = _all_positions(ctx, spread, along)
    return _write_nd(ctx, cache, positions, update, "update")


@lowering("MaxUnpool", error="move")
def max_unpool(
    ctx: Context,
    x: Operand,
    indices: Operand,
    output_shape: Operand | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """Each value at its place in the unpooled tensor, of which the indices count all elements; zeros elsewhere.

    The indices belong to the shape that the window implies, which stands first in a larger ``output_shape``.
    """
    mb, shape = ctx.mb, ctx.shape(x)
    count = len(kernel_shape)
    strides, pads = list(strides or [1] * count), list(pads or [0] * 2 * count)
    implied = [
        # the inverse of the pooling formula: windows begin every s elements, and the last is k long
        (n - 1) * s - pads[i] - pads[count + i] + k
        for i, (n, s, k) in enumerate(zip(shape[2:], strides, kernel_shape, strict=True))
    ]
    natural = [*shape[:2], *implied]
    # ONNX counts the indices over the whole tensor, batch and channels too
    flat = np.zeros(math.prod(natural), ctx.dtype)
    places, values = (mb.reshape(x=v, shape=[-1]) for v in (indices, x))
    result = mb.reshape(x=mb.scatter(data=flat, indices=places, updates=values, axis=0, mode="update"), shape=natural)
    if output_shape is None:
        return result
    if not isinstance(output_shape, np.ndarray) and output_shape.val is None:
        behind = mb.sub(x=output_shape, y=np.array(natural, np.int32))
        pairs = mb.stack(values=[np.zeros(len(natural), np.int32), behind], axis=1)
        told = mb.reshape(x=pairs, shape=[2 * len(natural)])
        return mb.pad(x=result, pad=told, mode="constant", constant_val=ctx.scalar(0))
    wanted = ctx.integers(output_shape, "output shape")
    if wanted == natural:
        return result
    extra = [p for w, n in zip(wanted, natural, strict=True) for p in (0, w - n)]
    return mb.pad(x=result, pad=extra, mode="constant", constant_val=ctx.scalar(0))
