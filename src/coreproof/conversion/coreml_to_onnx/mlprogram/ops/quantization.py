"""MIL's quantize and dequantize of activations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("quantize", since="iOS17", steps=True)
def quantize(
    low: Lowering,
    *,
    input: Operand,
    scale: Operand,
    output_dtype: str,
    zero_point: Operand = None,
    axis: int | None = None,
) -> ir.Value:
    """clip(round(input / scale) + zero_point)"""
    scaled = low.op("Round", low.op("Div", input, _along(low, input, scale, axis)))
    if zero_point is not None:
        scaled = low.op("Add", scaled, _along(low, input, zero_point, axis))
    # what is scaled beyond an integer's ends stays at them
    low_end, high_end = (-128.0, 127.0) if output_dtype == "int8" else (0.0, 255.0)
    return low.i32(low.op("Clip", scaled, low_end, high_end))


@lowers("dequantize", since="iOS17")
def dequantize(
    low: Lowering, *, input: Operand, scale: Operand, zero_point: Operand = None, axis: int | None = None
) -> ir.Value:
    """scale * (input - zero_point)"""
    value = low.cast(input, ir.DataType.FLOAT)
    if zero_point is not None:
        value = low.op("Sub", value, _along(low, input, zero_point, axis))
    return low.op("Mul", value, _along(low, input, scale, axis))


def _along(low: Lowering, x: Operand, parameter: Operand, axis: int | None) -> np.ndarray:
    """A scalar, or a vector along ``axis``, as float32 that broadcasts over ``x``."""
    array = low.constant(parameter, "scale").astype(np.float32)
    if array.ndim == 0 or axis is None:
        return array
    rank = low.rank(x)
    return array.reshape([-1 if a == int(axis) % rank else 1 for a in range(rank)])
