"""MIL's gathers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("gather", exact=True, error="move", hands_on="part")
def gather(
    low: Lowering,
    *,
    x: Operand,
    indices: Operand,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> ir.Value:
    rank, batch = low.rank(x), int(batch_dims)
    at = int(axis) % rank
    if validate_indices:
        indices = refuse_negative(low, x, indices, at)
    if batch == 0:
        return low.op("Gather", x, indices, axis=at)
    # counted from the end, it is the rank of the indices that it is counted in
    if batch < 0:
        batch += low.rank(indices)
    # GatherND reads the dimension after the batch: bring ``axis`` there, and what stood between behind it.
    moved = low.op("Transpose", x, perm=[*range(batch), at, *range(batch, at), *range(at + 1, rank)])
    index = low.op("Unsqueeze", low.i64(indices), [-1])
    gathered = low.op("GatherND", moved, index, batch_dims=batch)
    picked = low.rank(indices) - batch
    between = at - batch
    # what was picked comes to stand where the axis was, as MIL's gather has it
    order = [
        *range(batch),
        *range(batch + picked, batch + picked + between),
        *range(batch, batch + picked),
        *range(batch + picked + between, rank - 1 + picked),
    ]
    return low.op("Transpose", gathered, perm=order)


@lowers("gather_along_axis", exact=True, error="move")
def gather_along_axis(
    low: Lowering, *, x: Operand, indices: Operand, axis: int = 0, validate_indices: bool = False
) -> ir.Value:
    at = int(axis) % low.rank(x)
    if validate_indices:
        indices = refuse_negative(low, x, indices, at)
    return low.op("GatherElements", x, indices, axis=at)


@lowers("gather_nd", exact=True, error="move", hands_on="part")
def gather_nd(
    low: Lowering, *, x: Operand, indices: Operand, batch_dims: int = 0, validate_indices: bool = False
) -> ir.Value:
    batch = int(batch_dims)
    index = low.i64(indices)
    if validate_indices:
        depth = low.shape(indices)[-1]
        if depth is None:
            raise low.refuse("the length of an index is not known")
        part = low.op("Slice", low.dims(x), [batch], [batch + depth])
        index = _too_large_where_negative(low, low.value(index), part)
    return low.op("GatherND", x, index, batch_dims=batch)


def refuse_negative(low: Lowering, x: Operand, indices: Operand, axis: int) -> ir.Value:
    """Indices in which a negative one is out of bounds, so that the engine refuses it when it runs."""
    length = low.op("Gather", low.dims(x), np.array(axis, np.int64), axis=0)
    return _too_large_where_negative(low, low.value(low.i64(indices)), length)


def _too_large_where_negative(low: Lowering, indices: ir.Value, limit: ir.Value) -> ir.Value:
    return low.op("Where", low.op("Less", indices, np.array(0, np.int64)), limit, indices)
