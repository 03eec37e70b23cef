"""Operators that write elements at positions: ScatterElements and ScatterND, with their reductions."""

from __future__ import annotations

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
    before, after = np.moveaxis(grid[:axis], 0, -1), np.moveaxis(grid[axis + 1 :], 0, -1)
    return joined(ctx, [part for part in (before, own, after) if part is own or part.shape[-1]])


@lowering("ScatterND", since=11, places=(1,))
def scatter_nd(ctx: Context, data: Operand, indices: Operand, updates: Operand, *, reduction: str = "none") -> Result:
    places = from_start(ctx, indices, *tuple(data.shape)[: int(indices.shape[-1])])
    return _write_nd(ctx, data, places, updates, _MODES[reduction])
