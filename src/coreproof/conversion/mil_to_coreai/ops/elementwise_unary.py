"""MIL operations on each element of one tensor, in Core AI's."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.mil_to_coreai.translation import ELEMENTS, Operand, Tensor, Translation, translates

_NAMES = {"logical_not": "not"}
_MIL_DTYPES = {"fp16": "f16", "fp32": "f32", "bool": "i1"}


@translates("abs", "acos", "asin", "atan", "atanh", "cos", "cosh", "erf", "exp", "logical_not", "sin", "sinh", "sqrt")
@translates("tan", "tanh")
def same_operation(t: Translation, *, x: Operand) -> Tensor:
    return t.unary(_NAMES.get(t.operation, t.operation), x)


@translates("round")
def round_(t: Translation, *, x: Operand) -> Tensor:
    return t.unary("round", x) if t.is_float(x) else t.value(x)


@translates("floor")
def floor(t: Translation, *, x: Operand) -> Tensor:
    return floored(t, t.value(x)) if t.is_float(x) else t.value(x)


@translates("ceil")
def ceil(t: Translation, *, x: Operand) -> Tensor:
    if not t.is_float(x):
        return t.value(x)
    nearest = t.unary("round", x)
    return t.where(t.binary("greater", x, nearest, "i1"), t.binary("add", nearest, 1.0), nearest)


def floored(t: Translation, x: Tensor) -> Tensor:
    """The largest whole number that is not above: Core AI rounds to the nearest one, which may be one too large."""
    nearest = t.unary("round", x)
    return t.where(t.binary("greater", nearest, x, "i1"), t.binary("sub", nearest, 1.0), nearest)


@translates("sign")
def sign(t: Translation, *, x: Operand) -> Tensor:
    value = t.value(x)
    below = t.where(t.binary("greater", 0.0, value, "i1"), t.like(-1, value), value)
    return t.where(t.binary("greater", value, 0.0, "i1"), t.like(1, value), below)


@translates("cast")
def cast(t: Translation, *, x: Operand, dtype: str) -> Tensor:
    element = _MIL_DTYPES.get(dtype) or ELEMENTS.get(dtype)
    if element is None:
        raise t.refuse("this dtype is not known", found=dtype)
    value = t.value(x)
    if value.element != element and t.is_float(value) and element in ("ui8", "si8", "si16", "ui16"):
        # cut off first, and wrapped then, as Core ML does
        value = t.cast(value, "si32")
    return t.cast(value, element)


@translates("clip")
def clip(t: Translation, *, x: Operand, alpha: Operand, beta: Operand) -> Tensor:
    return t.binary("minimum", t.binary("maximum", x, alpha), beta)


@translates("threshold")
def threshold(t: Translation, *, x: Operand, alpha: Operand) -> Tensor:
    return t.binary("maximum", x, alpha)


@translates("exp2", in_float32=True)
def exp2(t: Translation, *, x: Operand) -> Tensor:
    return t.binary("pow", 2.0, x)


@translates("square")
def square(t: Translation, *, x: Operand) -> Tensor:
    return t.binary("mul", x, x)


@translates("inverse", in_float32=True)
def inverse(t: Translation, *, x: Operand, epsilon: float = 1e-4) -> Tensor:
    return t.binary("divide", 1.0, _raised(t, x, epsilon))


@translates("log", in_float32=True)
def log(t: Translation, *, x: Operand, epsilon: float = 1e-45) -> Tensor:
    return t.unary("log", _raised(t, x, epsilon))


@translates("rsqrt", in_float32=True)
def rsqrt(t: Translation, *, x: Operand, epsilon: float = 1e-12) -> Tensor:
    return t.unary("rsqrt", _raised(t, x, epsilon))


def _raised(t: Translation, x: Operand, epsilon: float) -> Operand:
    return t.binary("add", x, np.float32(epsilon)) if float(epsilon) else x
