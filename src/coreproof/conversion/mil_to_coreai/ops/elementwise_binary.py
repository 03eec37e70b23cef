"""MIL operations on the elements of two tensors that broadcast, in Core AI's."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai.ops.elementwise_unary import floored
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates

_LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}


@translates("add", "sub", "mul", "pow", "maximum", "minimum")
def arithmetic(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    return t.binary(t.operation, *_numbers(t, x, y))


@translates("logical_and", "logical_or", "logical_xor")
def logic(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    return t.binary(_LOGIC[t.operation], x, y)


@translates("equal", "greater", "less", "not_equal")
def comparison(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    a, b = _numbers(t, x, y)
    return t.binary("greater", b, a, "i1") if t.operation == "less" else t.binary(t.operation, a, b, "i1")


@translates("greater_equal", "less_equal")
def inclusive(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    a, b = _numbers(t, x, y)
    return at_least(t, a, b) if t.operation == "greater_equal" else at_least(t, b, a)


def at_least(t: Translation, x: Operand, y: Operand) -> Tensor:
    """x >= y, which NaN is not on either side."""
    return t.binary("or", t.binary("greater", x, y, "i1"), t.binary("equal", x, y, "i1"))


def _numbers(t: Translation, x: Operand, y: Operand) -> tuple[Operand, Operand]:
    """Truth values as 0 and 1."""
    return (t.cast(x, "si32"), t.cast(y, "si32")) if t.is_bool(x) and t.is_bool(y) else (x, y)


@translates("real_div")
def real_div(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    if t.is_float(x) or t.is_float(y):
        return t.binary("divide", x, y)
    # MIL divides whole numbers truly and then drops the fraction
    return t.cast(t.binary("divide", t.cast(x, "f32"), t.cast(y, "f32")), "si32")


@translates("floor_div", in_float32=True)
def floor_div(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    if t.is_float(x) or t.is_float(y):
        return floored(t, t.binary("divide", x, y))
    return t.binary("floor_divide", x, y)


@translates("mod")
def mod(t: Translation, *, x: Operand, y: Operand) -> Tensor:
    # Core AI's takes the sign of what is divided, MIL's that of the divisor
    a, b = t.pair(x, y)
    left, zero = t.binary("modulo", a, b), t.like(0, a)
    opposite = t.binary("xor", t.binary("greater", zero, left, "i1"), t.binary("greater", zero, b, "i1"))
    wrong = t.binary("and", opposite, t.binary("not_equal", left, zero, "i1"))
    return t.where(wrong, t.binary("add", left, b), left)


@translates("select")
def select(t: Translation, *, cond: Operand, a: Operand, b: Operand) -> Tensor:
    return t.where(cond, a, b)
