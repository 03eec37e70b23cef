"""MIL's scatters, in all their modes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.ops.gathering import refuse_negative

_REDUCTIONS = {"update": "none", "add": "add", "sub": "add", "mul": "mul", "div": "mul", "max": "max", "min": "min"}


def _reduction(low: Lowering, mode: str, updates: Operand) -> tuple[str, Operand]:
    """ONNX's reduction for a mode, and the updates that make it so."""
    if mode not in _REDUCTIONS:
        raise low.refuse("this mode is not known", expected=sorted(_REDUCTIONS), found=mode)
    # ONNX's reductions neither subtract nor divide: the updates are turned around
    if mode == "sub":
        updates = low.op("Neg", updates)
    if mode == "div":
        if not low.is_float(updates):
            raise low.refuse("mode div is lowered for floats only")
        updates = low.op("Reciprocal", updates)
    return _REDUCTIONS[mode], updates


@lowers("scatter", error="move")
def scatter(
    low: Lowering,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    rank = low.rank(data)
    at = int(axis) % rank
    reduction, updates = _reduction(low, mode, updates)
    index = refuse_negative(low, data, indices, at) if validate_indices else low.value(low.i64(indices))
    # One index a slice becomes one index an element: along ``axis``, the same for all other dimensions.
    if low.rank(indices) != 1:
        index = low.op("Reshape", index, [-1])
        dims = low.dims(data)
        before = low.op("Slice", dims, [0], [at])
        after = low.op("Slice", dims, [at + 1], [rank])
        updates = low.op("Reshape", updates, low.op("Concat", before, [-1], after, axis=0))
    column = low.op("Reshape", index, [-1 if a == at else 1 for a in range(rank)])
    everywhere = low.op("Expand", column, low.dims(updates))
    return low.op("ScatterElements", data, everywhere, updates, axis=at, reduction=reduction)


@lowers("scatter", "scatter_along_axis", since="iOS17")
def scatter_ios17(
    low: Lowering,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    handler = scatter if low.operation == "scatter" else scatter_along_axis

    def put(data: Operand, indices: Operand) -> ir.Value:
        return handler(low, data=data, indices=indices, updates=updates, axis=axis, mode=mode, validate_indices=True)

    return put(data, indices) if validate_indices else _unchecked(low, data, indices, int(axis) % low.rank(data), put)


def _unchecked(
    low: Lowering, data: Operand, indices: Operand, at: int, put: Callable[[Operand, Operand], ir.Value]
) -> ir.Value:
    """What ``put`` makes of ``data`` where an index, also a negative one, may lie outside: its update goes nowhere.

    Core ML promises no more than to go on (iOS17's scatter); ONNX Runtime refuses such an index. A spare place behind the
    others takes these updates.
    """
    length = low.shape(data)[at]
    if not isinstance(indices, ir.Value) and length is not None:
        known = np.asarray(indices)
        if np.all((known >= 0) & (known < length)):
            return put(data, indices)
    limit = low.op("Slice", low.dims(data), [at], [at + 1])
    index = low.value(low.i64(indices))
    inside = low.op("And", low.op("GreaterOrEqual", index, np.array(0, np.int64)), low.op("Less", index, limit))
    result = put(_with_spare(low, data, at), low.op("Where", inside, index, limit))
    return low.op("Slice", result, [0], limit, [at])


def _with_spare(low: Lowering, data: Operand, at: int) -> ir.Value:
    """``data`` with one place more at the end of a dimension."""
    amounts = np.zeros((2, low.rank(data)), np.int64)
    amounts[1, at] = 1
    return low.op("Pad", data, amounts.reshape(-1))


@lowers("scatter_along_axis")
def scatter_along_axis(
    low: Lowering,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    at = int(axis) % low.rank(data)
    reduction, updates = _reduction(low, mode, updates)
    if validate_indices:
        indices = refuse_negative(low, data, indices, at)
    return low.op("ScatterElements", data, indices, updates, axis=at, reduction=reduction)


@lowers("scatter_nd", error="move", hands_on="part")
def scatter_nd(
    low: Lowering,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    reduction, updates = _reduction(low, mode, updates)
    index = low.value(low.i64(indices))
    if validate_indices:
        depth = low.shape(indices)[-1]
        if depth is None:
            raise low.refuse("the length of an index is not known")
        limit = low.op("Slice", low.dims(data), [0], [depth])
        # ONNX counts a negative index from the end; the length, which no index may be, is refused
        index = low.op("Where", low.op("Less", index, np.array(0, np.int64)), limit, index)
    return low.op("ScatterND", data, index, updates, reduction=reduction)


@lowers("scatter_nd", since="iOS17")
def scatter_nd_ios17(
    low: Lowering,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    mode: str = "add",
    validate_indices: bool = False,
) -> ir.Value:
    def put(data: Operand, indices: Operand) -> ir.Value:
        return scatter_nd(low, data=data, indices=indices, updates=updates, mode=mode, validate_indices=True)

    if validate_indices:
        return put(data, indices)
    depth = low.fixed(low.shape(indices)[-1:], "the length of an index is not known")[0]
    lengths = low.shape(data)[:depth]
    if not isinstance(indices, ir.Value) and None not in lengths:
        known = np.asarray(indices)
        if np.all((known >= 0) & (known < np.array(lengths))):
            return put(data, indices)
    # as in ``_unchecked``; the spare place is the first of a row more
    limits = low.op("Slice", low.dims(data), [0], [depth])
    index = low.value(low.i64(indices))
    fits = low.op("And", low.op("GreaterOrEqual", index, np.array(0, np.int64)), low.op("Less", index, limits))
    # one index of a place outside, and the whole place is
    inside = low.op("Cast", low.op("ReduceMin", low.i32(fits), [-1], keepdims=1), to=ir.DataType.BOOL)
    spare = low.op("Mul", limits, np.array([1] + [0] * (depth - 1), np.int64))
    result = put(_with_spare(low, data, 0), low.op("Where", inside, index, spare))
    return low.op("Slice", result, [0], low.op("Slice", limits, [0], [1]), [0])
