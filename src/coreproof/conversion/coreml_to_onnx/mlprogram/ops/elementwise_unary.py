"""MIL operations on each element of one tensor: arithmetic, trigonometry, rounding, cast."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers

CARRIERS = {
    "fp16": ir.DataType.FLOAT, "fp32": ir.DataType.FLOAT, "fp64": ir.DataType.FLOAT, "bool": ir.DataType.BOOL,
    "int8": ir.DataType.INT8, "uint8": ir.DataType.UINT8, "int16": ir.DataType.INT16, "uint16": ir.DataType.UINT16,
    "int32": ir.DataType.INT32, "int64": ir.DataType.INT32,
}  # fmt: skip


@lowers("abs", exact=True, error="move", hands_on="part")
@lowers("sign", exact=True, error="move")
@lowers("ceil", "floor", "round", exact=True, error="move", steps=True)
@lowers("cosh", "sinh", error="exponential")
@lowers("exp", error="exponential", flattens=True)
@lowers("acos", "asin", "atanh", "cos", "sin", "sqrt", "tan")
@lowers("atan", "erf", "tanh", flattens=True)
def same_operator(low: Lowering, *, x: Operand) -> ir.Value:
    if low.operation in ("ceil", "floor", "round") and not low.is_float(x):
        return low.value(x)
    return low.op(low.operation.capitalize(), x)


@lowers("cast", keeps_order=True, passes_on=True, hands_on="whole")
def cast(low: Lowering, *, x: Operand, dtype: str) -> ir.Value:
    target = CARRIERS.get(dtype)
    if target is None:
        raise low.refuse("this dtype is not known", expected=sorted(CARRIERS), found=dtype)
    if target in (ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.INT32):
        return low.cast(x, target)
    # Narrow integers are carried as int32 after they went through their own width.
    whole = low.cast(x, ir.DataType.INT32)
    return low.cast(low.op("Cast", whole, to=target), ir.DataType.INT32)


@lowers("clip", exact=True, commutes=True, error="move", flattens=True)
def clip(low: Lowering, *, x: Operand, alpha: Operand, beta: Operand) -> ir.Value:
    return low.op("Clip", x, alpha, beta)


@lowers("exp2", error="exponential", flattens=True)
def exp2(low: Lowering, *, x: Operand) -> ir.Value:
    return low.op("Pow", np.float32(2), x)


@lowers("inverse")
def inverse(low: Lowering, *, x: Operand, epsilon: float = 1e-4) -> ir.Value:
    return low.op("Reciprocal", low.op("Add", x, epsilon) if float(epsilon) else x)


@lowers("log", error="exponential")
def log(low: Lowering, *, x: Operand, epsilon: float = 1e-45) -> ir.Value:
    # the default 1e-45 is float32's smallest number: it keeps log(0) finite, and is lost in sums beyond 5e-38
    return low.op("Log", low.op("Add", x, epsilon) if float(epsilon) else x)


@lowers("rsqrt")
def rsqrt(low: Lowering, *, x: Operand, epsilon: float = 1e-12) -> ir.Value:
    return low.op("Reciprocal", low.op("Sqrt", low.op("Add", x, epsilon) if float(epsilon) else x))


@lowers("square")
def square(low: Lowering, *, x: Operand) -> ir.Value:
    return low.op("Mul", x, x)


@lowers("logical_not")
def logical_not(low: Lowering, *, x: Operand) -> ir.Value:
    return low.op("Not", x)


@lowers("threshold", exact=True, error="move")
def threshold(low: Lowering, *, x: Operand, alpha: Operand) -> ir.Value:
    return low.op("Max", x, alpha)
