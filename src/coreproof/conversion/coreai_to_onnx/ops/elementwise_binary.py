"""Core AI operations on the elements of two tensors; the broadcasting forms are those of ONNX, which broadcasts by itself."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers

_FORM = "broadcasting_"
_SAME = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min", "equal": "Equal", "greater": "Greater",
    "and": "And", "or": "Or", "xor": "Xor", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "pow": "Pow",
}  # fmt: skip
_OF_BOOLEANS = {
    "add": "Or", "mul": "And", "maximum": "Or", "minimum": "And", "bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor",
}  # fmt: skip
"""What the arithmetic of booleans is by the dialect's definition."""


def _plain(low: CoreAILowering) -> str:
    return low.operation.rpartition(".")[2].removeprefix(_FORM)


@lowers("add", "sub", "broadcasting_sub", error="add")
@lowers("broadcasting_add", error="add", word="add")
@lowers("mul")
@lowers("broadcasting_mul", word="mul")
@lowers("pow", error="exponential")
@lowers("broadcasting_pow", error="exponential")
@lowers("maximum", "minimum", "broadcasting_maximum", "broadcasting_minimum", exact=True, error="move")
@lowers("equal", "greater", "broadcasting_equal", "broadcasting_greater", exact=True, compares=True)
@lowers("and", "or", "xor", "broadcasting_and", "broadcasting_or", "broadcasting_xor", exact=True)
@lowers("bitwise_and", "bitwise_or", "bitwise_xor", exact=True)
@lowers("broadcasting_bitwise_and", "broadcasting_bitwise_or", "broadcasting_bitwise_xor", exact=True)
def same_operator(low: CoreAILowering, x: Operand, y: Operand) -> ir.Value:
    name = _plain(low)
    if low.is_bool(x) and name == "greater":
        return low.op("And", x, low.op("Not", y))
    if low.is_bool(x):
        return low.op(_OF_BOOLEANS.get(name, _SAME[name]), x, y)
    return low.op(_SAME[name], x, y)


@lowers("not_equal", "broadcasting_not_equal", exact=True, compares=True)
def not_equal(low: CoreAILowering, x: Operand, y: Operand) -> ir.Value:
    return low.op("Not", low.op("Equal", x, y))


@lowers("divide")
@lowers("broadcasting_divide", word="div")
def divide(low: CoreAILowering, x: Operand, y: Operand) -> ir.Value:
    # ONNX cuts the quotient of whole numbers off, as Core AI does
    return low.op("Div", x, y if low.is_float(x) else _divisor(low, y))


@lowers("floor_divide", "broadcasting_floor_divide", steps=True)
def floor_divide(low: CoreAILowering, x: Operand, y: Operand) -> ir.Value:
    if low.is_float(x):
        return low.op("Floor", low.op("Div", x, y))
    by = _divisor(low, y)
    quotient, left = low.op("Div", x, by), low.op("Mod", x, by, fmod=1)
    zero = low.like(0, left)
    opposite = low.op("Not", low.op("Equal", low.op("Less", left, zero), low.op("Less", by, zero)))
    below = low.op("And", opposite, low.op("Not", low.op("Equal", left, zero)))
    return low.op("Sub", quotient, low.op("Cast", below, to=low.value(x).dtype))


@lowers("modulo", "broadcasting_modulo", steps=True)
def modulo(low: CoreAILowering, x: Operand, y: Operand) -> ir.Value:
    return low.op("Mod", x, y if low.is_float(x) else _divisor(low, y), fmod=1)


def _divisor(low: CoreAILowering, y: Operand) -> Operand:
    """A whole number to divide by; 1 in the place of 0, over which the processor ends the process."""
    return low.op("Where", low.op("Equal", y, low.like(0, y)), low.like(1, y), y)


@lowers("where", "broadcasting_where", exact=True, error="move")
def where(low: CoreAILowering, condition: Operand, a: Operand, b: Operand) -> ir.Value:
    if low.is_bool(a):  # ONNX Runtime chooses between numbers only
        return low.op("Or", low.op("And", condition, a), low.op("And", low.op("Not", condition), b))
    return low.op("Where", condition, a, b)
