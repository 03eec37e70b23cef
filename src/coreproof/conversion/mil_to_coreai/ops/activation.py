"""MIL's activations in Core AI's operations."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai.ops.elementwise_binary import at_least
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates

_GELU = {"EXACT": "none", "TANH_APPROXIMATION": "tanh", "SIGMOID_APPROXIMATION": "sigmoid"}


@translates("relu", "sigmoid", "silu")
def same_operation(t: Translation, *, x: Operand) -> Tensor:
    return t.unary(t.operation, x)


@translates("gelu")
def gelu(t: Translation, *, x: Operand, mode: str = "EXACT") -> Tensor:
    value = t.value(x)
    if mode not in _GELU:
        raise t.refuse("this mode is not known", expected=sorted(_GELU), found=mode)
    return t.op("gelu", value, shape=value.shape, approximate=f"#coreai.approximate<{_GELU[mode]}>")


@translates("softmax")
def softmax(t: Translation, *, x: Operand, axis: int = -1) -> Tensor:
    value = t.value(x)
    return t.op("softmax", value, si(int(axis) % len(value.shape)), shape=value.shape)


@translates("relu6")
def relu6(t: Translation, *, x: Operand) -> Tensor:
    return t.binary("minimum", t.unary("relu", x), 6.0)


@translates("clamped_relu", in_float32=True)
def clamped_relu(t: Translation, *, x: Operand, alpha: Operand, beta: Operand) -> Tensor:
    return t.binary("minimum", _leaky(t, x, alpha), beta)


@translates("leaky_relu", in_float32=True)
def leaky_relu(t: Translation, *, x: Operand, alpha: Operand) -> Tensor:
    return _leaky(t, x, alpha)


@translates("prelu", in_float32=True)
def prelu(t: Translation, *, x: Operand, alpha: Operand) -> Tensor:
    return _leaky(t, x, per_channel(t, x, alpha))


def _leaky(t: Translation, x: Operand, slope: Operand) -> Tensor:
    return t.where(t.binary("greater", 0.0, x, "i1"), t.binary("mul", x, slope), x)


@translates("elu", in_float32=True)
def elu(t: Translation, *, x: Operand, alpha: Operand) -> Tensor:
    below = t.binary("sub", t.unary("exp", t.binary("minimum", x, 0.0)), 1.0)
    return t.where(t.binary("greater", x, 0.0, "i1"), x, t.binary("mul", below, alpha))


@translates("linear_activation", in_float32=True)
def linear_activation(t: Translation, *, x: Operand, alpha: Operand, beta: Operand) -> Tensor:
    return t.binary("add", t.binary("mul", x, alpha), beta)


@translates("scaled_tanh", in_float32=True)
def scaled_tanh(t: Translation, *, x: Operand, alpha: Operand, beta: Operand) -> Tensor:
    return t.binary("mul", t.unary("tanh", t.binary("mul", x, beta)), alpha)


@translates("sigmoid_hard", in_float32=True)
def sigmoid_hard(t: Translation, *, x: Operand, alpha: Operand = 0.2, beta: Operand = 0.5) -> Tensor:
    line = t.binary("add", t.binary("mul", x, alpha), beta)
    return t.binary("minimum", t.binary("maximum", line, 0.0), 1.0)


@translates("softplus", in_float32=True)
def softplus(t: Translation, *, x: Operand) -> Tensor:
    return _softplus(t, x)


@translates("softplus_parametric", in_float32=True)
def softplus_parametric(t: Translation, *, x: Operand, alpha: Operand, beta: Operand) -> Tensor:
    inner = _softplus(t, t.binary("mul", x, per_channel(t, x, beta)))
    return t.binary("mul", inner, per_channel(t, x, alpha))


def _softplus(t: Translation, x: Operand) -> Tensor:
    """log(1 + exp(x)), of which nothing grows beyond what a float holds."""
    falling = t.unary("exp", t.binary("sub", 0.0, t.unary("abs", x)))
    return t.binary("add", t.unary("relu", x), t.unary("log", t.binary("add", falling, 1.0)))


@translates("softsign", in_float32=True)
def softsign(t: Translation, *, x: Operand) -> Tensor:
    return t.binary("divide", x, t.binary("add", t.unary("abs", x), 1.0))


@translates("thresholded_relu")
def thresholded_relu(t: Translation, *, x: Operand, alpha: Operand) -> Tensor:
    value = t.value(x)
    return t.where(at_least(t, value, alpha), value, t.like(0, value))


def per_channel(t: Translation, x: Operand, vector: Operand) -> Tensor:
    """A vector along dimension 1, shaped so that it broadcasts over ``x``."""
    held = t.value(vector, t.element(x) if not isinstance(vector, Tensor) else None)
    return t.expand_dims(held, list(range(1, t.rank(x) - 1))) if held.shape else held
