"""MIL operations on the elements of two tensors that broadcast: arithmetic, comparison, logic, selection."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers

_SAME = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "pow": "Pow", "maximum": "Max", "minimum": "Min", "equal": "Equal",
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less", "less_equal": "LessOrEqual",
    "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor",
}  # fmt: skip
"""MIL name -> ONNX name, where both mean the same."""


@lowers("add", "sub", error="add", weights_may_vary=True)
@lowers("mul", weights_may_vary=True)
@lowers("pow", error="exponential")
@lowers("maximum", "minimum", exact=True, error="move", weights_may_vary=True)
@lowers("equal", "greater", "greater_equal", "less", "less_equal", compares=True)
@lowers("logical_and", "logical_or", "logical_xor")
def same_operator(low: Lowering, *, x: Operand, y: Operand) -> ir.Value:
    # of booleans ONNX knows Equal alone, no order and no sum; here they count as 0 and 1
    if low.is_bool(x) and not low.operation.startswith("logical"):
        x, y = low.i32(x), low.i32(y)
    return low.op(_SAME[low.operation], x, y)


@lowers("not_equal", compares=True)
def not_equal(low: Lowering, *, x: Operand, y: Operand) -> ir.Value:
    return low.op("Not", low.op("Equal", low.i32(x) if low.is_bool(x) else x, low.i32(y) if low.is_bool(y) else y))


@lowers("real_div", weights_may_vary=True)
def real_div(low: Lowering, *, x: Operand, y: Operand) -> ir.Value:
    if low.is_float(x):
        return low.op("Div", x, y)
    # MIL divides whole numbers truly and then drops the fraction
    quotient = low.op("Div", low.cast(x, ir.DataType.FLOAT), low.cast(y, ir.DataType.FLOAT))
    return low.cast(quotient, ir.DataType.INT32)


@lowers("floor_div")
def floor_div(low: Lowering, *, x: Operand, y: Operand) -> ir.Value:
    if low.is_float(x):
        return low.op("Floor", low.op("Div", x, y))
    # ONNX divides integers towards zero; x - mod(x, y), with the divisor's sign, divides evenly.
    return low.op("Div", low.op("Sub", x, low.op("Mod", x, y)), y)


@lowers("mod")
def mod(low: Lowering, *, x: Operand, y: Operand) -> ir.Value:
    if not low.is_float(x):
        return low.op("Mod", x, y)
    # ONNX's Mod takes the dividend's sign for floats; MIL's takes the divisor's, as x - floor(x / y) * y does.
    remainder = low.op("Mod", x, y, fmod=1)
    # of their signs: the product of two small numbers would be zero
    differs = low.op("Less", low.op("Mul", low.op("Sign", remainder), low.op("Sign", y)), 0.0)
    return low.op("Where", differs, low.op("Add", remainder, y), remainder)


@lowers("select", exact=True, error="move")
def select(low: Lowering, *, cond: Operand, a: Operand, b: Operand) -> ir.Value:
    # ONNX Runtime has no Where of booleans
    if low.is_bool(a):
        chosen = low.op("Where", cond, low.i32(a), low.i32(b))
        return low.cast(chosen, ir.DataType.BOOL)
    return low.op("Where", cond, a, b)
