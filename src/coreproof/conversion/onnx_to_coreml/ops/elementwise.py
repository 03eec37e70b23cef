"""Arithmetic and other functions that act on each element alone."""

from __future__ import annotations

from functools import reduce

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, name_of
from coreproof.model.numbers import FLOAT16_MAX

_BINARY = {
    "Add": "add",
    "Sub": "sub",
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
}
"""ONNX name -> MIL name, where both mean the same and take two operands."""


_TURNED = {
    "greater": "less",
    "greater_equal": "less_equal",
    "less": "greater",
    "less_equal": "greater_equal",
}
"""A comparison with its operands exchanged."""


@lowering("Add", "Sub", guards=True)
@lowering("And", "Or", "Xor", truths=True)
def binary(ctx: Context, a: Operand, b: Operand, **_: object) -> Result:
    result: Result = getattr(ctx.mb, _BINARY[ctx.node.op_type])(x=a, y=b)
    return result


@lowering("Greater", "GreaterOrEqual", "Less", "LessOrEqual", compares=True, truths=True, guards=True)
def comparison(ctx: Context, a: Operand, b: Operand) -> Result:
    operator = _BINARY[ctx.node.op_type]
    for place, value in ((1, a), (0, b)):
        if (ends := _ends(ctx, place)) is not None and not isinstance(value, np.ndarray):
            asked = operator if place == 1 else _TURNED[operator]
            # of all numbers that float16 has, the end itself stands for what lay beyond it
            strict = asked.startswith("greater") == bool((ends < 0).all())
            compare = asked.removesuffix("_equal") + ("" if strict else "_equal")
            told: Result = getattr(ctx.mb, compare)(x=value, y=ends)
            return told
    result: Result = getattr(ctx.mb, operator)(x=a, y=b)
    return result


def _ends(ctx: Context, place: int) -> Array | None:
    """A constant operand of which all numbers lie beyond one end of float16, as -1e30 does, held at it; None for every other.

    Below float32's own lowest number is infinity alone, which float16 has: that bound becomes float16's own lowest number.
    """
    known = ctx.raw[place] if ctx.dtype == np.float16 else None
    if not isinstance(known, np.ndarray) or known.dtype.kind != "f" or known.dtype == np.float16 or not known.size:
        return None
    beyond = (np.abs(known) > FLOAT16_MAX) & (np.abs(known) < np.finfo(np.float32).max)
    return ctx.floats(known) if beyond.all() and np.unique(np.sign(known)).size == 1 else None


@lowering("Erf", "Exp", "Sigmoid", "Tanh", channelwise=True)
@lowering("Abs", "Ceil", "Floor", "Round", "Sign", "Softsign", "Sqrt")
@lowering("Acos", "Asin", "Atan", "Atanh", "Cos", "Cosh", "Sin", "Sinh", "Tan")
def unary(ctx: Context, x: Operand) -> Result:
    """MIL has these under the same name, in small letters."""
    result: Result = getattr(ctx.mb, ctx.node.op_type.lower())(x=x)
    return result


@lowering("Mul")
def mul(ctx: Context, a: Operand, b: Operand, **_: object) -> Result:
    for place, other in ((1, a), (0, b)):
        if (factors := _in_two(ctx, place)) is not None and not isinstance(other, np.ndarray):
            return ctx.mb.mul(x=ctx.mb.mul(x=other, y=factors[0]), y=factors[1])
    return ctx.mb.mul(x=a, y=b)


def _in_two(ctx: Context, place: int) -> tuple[object, object] | None:
    """A constant operand beyond float16 as two factors within it: clipped to 65504 it would be another number.

    What is farther than that from float16 is infinite, or held at its end, with any factor.
    """
    known = ctx.raw[place] if ctx.dtype == np.float16 else None
    if not isinstance(known, np.ndarray) or known.dtype.kind != "f" or known.dtype == np.float16:
        return None
    size = np.abs(known.astype(np.float64))
    if not (np.isfinite(size) & (size > FLOAT16_MAX)).any():
        return None
    with np.errstate(invalid="ignore"):
        # two factors of like size: both are in range up to 65504 squared
        first = np.where(size > FLOAT16_MAX, np.sqrt(size), 1.0)
        return ctx.floats(first), ctx.floats(np.where(size > FLOAT16_MAX, known / first, known))


@lowering("Div", guards=True)
def div(ctx: Context, a: Operand, b: Operand, **_: object) -> Result:
    """Integers are divided towards zero: floor(|a| / |b|) with the sign of a * b."""
    if ctx.is_float(a) and ctx.is_float(b):
        if (factors := _in_two(ctx, 1)) is not None and not isinstance(a, np.ndarray):
            return ctx.mb.real_div(x=ctx.mb.real_div(x=a, y=factors[0]), y=factors[1])
        return ctx.mb.real_div(x=a, y=b)
    # MIL's floor_div rounds down, which is towards zero of what is not negative
    quotient = ctx.mb.floor_div(x=magnitude(ctx, a), y=magnitude(ctx, b))
    return ctx.mb.mul(x=quotient, y=ctx.mb.mul(x=sign_of(ctx, a), y=sign_of(ctx, b)))


def magnitude(ctx: Context, x: Operand) -> Operand:
    """|x|, of a constant or a variable."""
    return np.abs(x) if isinstance(x, np.ndarray) else ctx.mb.abs(x=x)


def sign_of(ctx: Context, x: Operand) -> Operand:
    """-1 for negative integers, 1 for all others."""
    if isinstance(x, np.ndarray):
        return np.where(x < 0, -1, 1).astype(np.int32)
    # a quotient of 0 has no sign to lose, so that 0 may count as positive
    return ctx.mb.select(cond=ctx.mb.less(x=x, y=np.int32(0)), a=np.int32(-1), b=np.int32(1))


@lowering("Pow")
def pow_(ctx: Context, a: Operand, b: Operand, **_: object) -> Result:
    if isinstance(b, np.ndarray) and b.size == 1 and ctx.is_float(a):
        exponent = float(b.reshape(-1)[0])
        # a device may compute a power by logarithms, which negative numbers do not have
        if exponent == 2.0:
            return ctx.mb.square(x=a)
        if exponent == 0.5:
            return ctx.mb.sqrt(x=a)
        return ctx.mb.pow(x=a, y=ctx.scalar(exponent))
    if ctx.is_network and isinstance(b, np.ndarray) and b.size > 1:
        # the layer takes one exponent, or a second blob that is computed
        raise ctx.refuse(
            f"its exponents differ: {b.size} in the shape {list(b.shape)}", "one exponent for all elements"
        )
    # ONNX lets base and exponent differ in type, and gives that of the base
    if ctx.is_float(a) != ctx.is_float(b):
        b = cast(ctx, b, name_of(ctx, a))
    return ctx.mb.pow(x=a, y=b)


@lowering("Mod")
def mod(ctx: Context, a: Operand, b: Operand, *, fmod: int = 0) -> Result:
    """With ``fmod`` the result has the sign of a (C), without it that of b (Python), which MIL's mod has."""
    if not fmod:
        return ctx.mb.mod(x=a, y=b)
    # of magnitudes both conventions are one
    remainder = ctx.mb.mod(x=magnitude(ctx, a), y=magnitude(ctx, b))
    zero = ctx.scalar(0) if ctx.is_float(a) else np.int32(0)
    return ctx.mb.select(cond=ctx.mb.less(x=a, y=zero), a=ctx.mb.mul(x=remainder, y=negative_one(ctx, a)), b=remainder)


def negative_one(ctx: Context, x: Operand) -> object:
    return ctx.scalar(-1) if ctx.is_float(x) else np.int32(-1)


@lowering("Neg", error="move", channelwise=True, hands_on="part")
def neg(ctx: Context, x: Operand) -> Result:
    return ctx.mb.mul(x=x, y=negative_one(ctx, x))


@lowering("Softplus", channelwise=True)
def softplus(ctx: Context, x: Operand) -> Result:
    """In float16 as relu(x) and what is left, the softplus of -|x|, whose exponential never grows.

    Apple's Neural Engine makes 0 of a softplus of more than 10.4 (``known_faults``: softplus-cliff).
    """
    mb = ctx.mb
    if ctx.dtype != np.float16:
        return mb.softplus(x=x)
    return mb.add(x=mb.relu(x=x), y=mb.softplus(x=mb.mul(x=mb.abs(x=x), y=ctx.scalar(-1))))


@lowering("Reciprocal")
def reciprocal(ctx: Context, x: Operand) -> Result:
    """Not MIL's inverse: that adds an epsilon."""
    return ctx.mb.real_div(x=ctx.scalar(1), y=x)


@lowering("Log")
def log(ctx: Context, x: Operand) -> Result:
    """Of a sigmoid -softplus(-x): a small sigmoid has few digits left, and in float16 none."""
    maker = getattr(x, "op", None)
    if maker is not None and maker.op_type == "sigmoid":
        minus = negative_one(ctx, x)
        return ctx.mb.mul(x=softplus(ctx, ctx.mb.mul(x=maker.x, y=minus)), y=minus)
    return ctx.mb.log(x=x, epsilon=ctx.epsilon(0))


@lowering("Acosh")
def acosh(ctx: Context, x: Operand) -> Result:
    """Below 2 as 2 atanh(sqrt((x - 1) / (x + 1))), which keeps the digits near 1; else log(x) + log(1 + sqrt(1 - 1 / x^2))."""
    mb, one = ctx.mb, ctx.scalar(1)
    share = mb.real_div(x=mb.sub(x=x, y=one), y=mb.add(x=x, y=one))
    near = mb.mul(x=mb.atanh(x=mb.sqrt(x=share)), y=ctx.scalar(2))
    return mb.select(cond=mb.less(x=x, y=ctx.scalar(2)), a=near, b=_log_of_twice(ctx, x, -1))


@lowering("Asinh")
def asinh(ctx: Context, x: Operand) -> Result:
    """Below 1 as atanh(x / sqrt(x^2 + 1)), which keeps the digits near 0; else log(|x|) + log(1 + sqrt(1 + 1 / x^2)), signed."""
    mb, one, size = ctx.mb, ctx.scalar(1), ctx.mb.abs(x=x)
    near = mb.atanh(x=mb.real_div(x=x, y=mb.sqrt(x=mb.add(x=mb.square(x=x), y=one))))
    far = mb.mul(x=mb.sign(x=x), y=_log_of_twice(ctx, size, 1))
    return mb.select(cond=mb.less(x=size, y=one), a=near, b=far)


def _log_of_twice(ctx: Context, x: object, sign: int) -> object:
    """log(x + sqrt(x^2 + sign)) of x >= 1, without a square that overflows."""
    mb, one, nothing = ctx.mb, ctx.scalar(1), ctx.epsilon(0)
    inverse = mb.square(x=mb.real_div(x=one, y=x))
    root = mb.sqrt(x=mb.add(x=one, y=inverse) if sign > 0 else mb.sub(x=one, y=inverse))
    return mb.add(x=mb.log(x=x, epsilon=nothing), y=mb.log(x=mb.add(x=one, y=root), epsilon=nothing))


@lowering("Sum", error="average", guards=True)
def sum_(ctx: Context, *operands: Operand) -> Result:
    return reduce(lambda a, b: ctx.mb.add(x=a, y=b), operands) if len(operands) > 1 else operands[0]


@lowering("Mean", error="average")
def mean(ctx: Context, *operands: Operand) -> Result:
    return ctx.mb.mul(x=sum_(ctx, *operands), y=ctx.scalar(1 / len(operands)))


@lowering("Clip", channelwise=True, guards=True)
def clip_attributes(ctx: Context, x: Operand, *, min: float | None = None, max: float | None = None) -> Result:
    return clip(ctx, x, None if min is None else ctx.floats(min), None if max is None else ctx.floats(max))


@lowering("Clip", since=11)
def clip(ctx: Context, x: Operand, low: Operand | None = None, high: Operand | None = None) -> Result:
    """Bounds that are left out do not bound. relu6 where the bounds are 0 and 6."""
    if ctx.is_float(x) and all(b is None or isinstance(b, np.ndarray) for b in (low, high)):
        bounds = [None if b is None else float(np.asarray(b).reshape(-1)[0]) for b in (low, high)]
        if bounds == [0.0, 6.0]:
            return ctx.mb.relu6(x=x)
        if bounds == [0.0, None]:
            return ctx.mb.relu(x=x)
        # as the program stores them: two may become one in float16
        ends = [ctx.floats(b)[()] for b in bounds if b is not None]
        # Crossed bounds give the upper one in ONNX; what MIL's clip makes of them its definition does not say.
        # Equal ones it refuses.
        if len(ends) == 2 and ends[0] < ends[1]:
            return ctx.mb.clip(x=x, alpha=ends[0], beta=ends[1])
    if low is not None:
        x = ctx.mb.maximum(x=x, y=low)
    return x if high is None else ctx.mb.minimum(x=x, y=high)


@lowering("ImageScaler")
def image_scaler(ctx: Context, x: Operand, *, bias: tuple[float, ...] = (), scale: float = 1.0) -> Result:
    """x * scale + bias per channel; an experimental operator that Windows ML models of 2018 carry."""
    offset = ctx.floats(np.asarray(bias, np.float32).reshape(1, -1, 1, 1))
    return ctx.mb.add(x=ctx.mb.mul(x=x, y=ctx.scalar(scale)), y=offset)


@lowering("Affine")
def affine(ctx: Context, x: Operand, *, alpha: float = 1.0, beta: float = 0.0) -> Result:
    """alpha * x + beta; experimental, as ImageScaler."""
    return ctx.mb.add(x=ctx.mb.mul(x=x, y=ctx.scalar(alpha)), y=ctx.scalar(beta))
