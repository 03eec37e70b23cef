"""Core AI's interpolation: numbers between the elements of a grid."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers


@lowers("interpolate", error="average", interpolates=True)
def interpolate(low: CoreAILowering, x: Operand, shape: Operand, scale: Operand, offset: Operand) -> ir.Value:
    """Axis by axis: element ``i`` lies at ``(i + 0.5 - offset) / scale - 0.5`` of the input, within its edges."""
    mode = low.attribute("interpolation_mode")
    lengths = low.fixed(low.shape(x))
    made = low.integers(shape, "output_shape")
    scales, offsets = (low.constant(v, n).astype(np.float64).ravel() for v, n in ((scale, "scale"), (offset, "offset")))
    value = low.value(x)
    for axis, (length, wanted) in enumerate(zip(lengths, made, strict=True)):
        at = np.clip((np.arange(wanted) + 0.5 - offsets[axis]) / scales[axis] - 0.5, 0, length - 1)
        if length == wanted and np.array_equal(at, np.arange(length)):
            continue
        if mode == "nearest_neighbor":
            value = low.op("Gather", value, np.rint(at).astype(np.int64), axis=axis)
        elif mode == "linear":
            value = _between(low, value, axis, at, length)
        else:
            raise low.refuse("its mode is not known", found=mode)
    return low.op("Identity", value)


def _between(low: CoreAILowering, x: ir.Value, axis: int, at: np.ndarray, length: int) -> ir.Value:
    left = np.floor(at).astype(np.int64)
    right = np.minimum(left + 1, length - 1)
    share = (at - left).reshape([-1 if i == axis else 1 for i in range(low.rank(x))])
    a, b = low.op("Gather", x, left, axis=axis), low.op("Gather", x, right, axis=axis)
    dtype = np.float32 if x.dtype is None else x.dtype.numpy()
    return low.op("Add", low.op("Mul", a, (1 - share).astype(dtype)), low.op("Mul", b, share.astype(dtype)))


@lowers("interpolate_coordinates", error="average", interpolates=True)
def interpolate_coordinates(low: CoreAILowering, x: Operand, coords: Operand) -> ir.Value:
    """At places that are given: of each place its neighbours on the grid, by their nearness."""
    mode, lengths = low.attribute("interpolation_mode"), low.fixed(low.shape(x))
    last = np.array(lengths, np.float32) - 1
    at = low.op("Min", low.op("Max", low.cast(coords, ir.DataType.FLOAT), np.zeros_like(last)), last)
    if mode == "nearest_neighbor":
        return low.op("GatherND", x, low.i64(low.op("Round", at)))
    if mode != "linear":
        raise low.refuse("its mode is not known", found=mode)
    if len(lengths) > _MOST_AXES:
        raise low.refuse("it has more axes than are lowered", expected=f"at most {_MOST_AXES}", found=len(lengths))
    left = low.op("Floor", at)
    share = low.op("Sub", at, left)
    rest = low.op("Sub", np.float32(1), share)
    parts = []
    for corner in itertools.product((0, 1), repeat=len(lengths)):
        places = low.op("Min", low.op("Add", left, np.array(corner, np.float32)), last)
        weights = low.op("Where", np.array(corner, bool), share, rest)
        weight = low.op("ReduceProd", weights, [-1], keepdims=0)
        parts.append(low.op("Mul", low.op("GatherND", x, low.i64(places)), weight))
    return low.op("Sum", *parts) if len(parts) > 1 else parts[0]


_MOST_AXES = 5
