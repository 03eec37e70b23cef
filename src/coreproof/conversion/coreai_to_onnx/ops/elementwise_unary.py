"""Core AI operations on the elements of one tensor."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, carrier, lowers

_SAME = {
    "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan", "atanh": "Atanh", "cos": "Cos",
    "cosh": "Cosh", "erf": "Erf", "exp": "Exp", "log": "Log", "round": "Round", "sigmoid": "Sigmoid", "sin": "Sin",
    "sinh": "Sinh", "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh", "abs": "Abs", "not": "Not",
}  # fmt: skip
"""Core AI's name -> ONNX's, where both mean the same."""


@lowers(*(name for name in _SAME if name not in ("abs", "not")))
@lowers("abs", "not", exact=True)
def same_operator(low: CoreAILowering, x: Operand) -> ir.Value:
    return low.op(_SAME[low.operation.removeprefix("coreai.")], x)


@lowers("relu", exact=True, error="move")
def relu(low: CoreAILowering, x: Operand) -> ir.Value:
    # ONNX Runtime's Relu hands NaN on, as the definition's max does; of whole numbers it knows Max
    return low.op("Relu", x) if low.is_float(x) else low.op("Max", x, low.like(0, x))


@lowers("rsqrt")
def rsqrt(low: CoreAILowering, x: Operand) -> ir.Value:
    return low.op("Reciprocal", low.op("Sqrt", x))


@lowers("silu", flattens=True)
def silu(low: CoreAILowering, x: Operand) -> ir.Value:
    return low.op("Mul", x, low.op("Sigmoid", x))


@lowers("gelu", flattens=True)
def gelu(low: CoreAILowering, x: Operand) -> ir.Value:
    form = low.attribute("approximate") or "none"
    if form in ("none", "tanh"):
        return low.op("Gelu", x, approximate=form)
    if form != "sigmoid":
        raise low.refuse("it is approximated in a way that is not known", found=form)
    return low.op("Mul", x, low.op("Sigmoid", low.op("Mul", x, low.like(1.702, x))))


@lowers("cast")
def cast(low: CoreAILowering, x: Operand) -> ir.Value:
    to = carrier(low.element)
    if to is None:
        raise low.refuse("ONNX has no numbers of that kind", found=low.element)
    value = low.value(x)
    held = low.given[0]
    # a fraction becomes a whole number by being cut off; NaN is true
    if low.is_float(value) and to == ir.DataType.BOOL:
        return low.op("Not", low.op("Equal", value, low.like(0, value)))
    if to in (ir.DataType.INT32, ir.DataType.INT64) and low.element in _ENDS and held is not None:
        # the definition is silent on what does not fit; Apple's interpreter takes the nearest number that does
        least, most = _ENDS[low.element]
        if held.element != low.element and not low.is_bool(value):
            value = low.op("Min", low.op("Max", value, low.like(least, value)), low.like(most, value))
    # without an Identity: behind the Cast of an input of half width ONNX Runtime (1.32) takes one for half width itself
    return low.cast(value, to)


_ENDS = {
    **{f"ui{bits}": (0, 2**bits - 1) for bits in (8, 16)},
    **{f"si{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16)},
}
