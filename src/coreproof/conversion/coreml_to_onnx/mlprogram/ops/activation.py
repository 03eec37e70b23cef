"""MIL's activations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("relu", exact=True, commutes=True, error="move", flattens=True)
@lowers("sigmoid", error="bounded", flattens=True)
@lowers("softplus", "softsign", flattens=True)
def same_operator(low: Lowering, *, x: Operand) -> ir.Value:
    return low.op(low.operation.capitalize(), x)


@lowers("relu6", exact=True, commutes=True, error="move", word="clip", flattens=True)
def relu6(low: Lowering, *, x: Operand) -> ir.Value:
    return low.op("Clip", x, 0.0, 6.0)


@lowers("clamped_relu")
def clamped_relu(low: Lowering, *, x: Operand, alpha: float, beta: float) -> ir.Value:
    # the slope alpha is that of negative numbers; beta bounds what comes of both
    return low.op("Min", low.op("LeakyRelu", x, alpha=float(alpha)), beta)


@lowers("elu", flattens=True)
def elu(low: Lowering, *, x: Operand, alpha: float) -> ir.Value:
    return low.op("Elu", x, alpha=float(alpha))


@lowers("gelu", flattens=True)
def gelu(low: Lowering, *, x: Operand, mode: str = "EXACT") -> ir.Value:
    if mode == "SIGMOID_APPROXIMATION":
        # x * sigmoid(1.702 x), as Hendrycks and Gimpel (2016) approximate it
        return low.op("Mul", x, low.op("Sigmoid", low.op("Mul", x, 1.702)))
    return low.op("Gelu", x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@lowers("leaky_relu")
def leaky_relu(low: Lowering, *, x: Operand, alpha: float) -> ir.Value:
    return low.op("LeakyRelu", x, alpha=float(alpha))


@lowers("linear_activation")
def linear_activation(low: Lowering, *, x: Operand, alpha: Operand, beta: Operand) -> ir.Value:
    return low.op("Add", low.op("Mul", x, alpha), beta)


@lowers("prelu")
def prelu(low: Lowering, *, x: Operand, alpha: Operand) -> ir.Value:
    return low.op("PRelu", x, _per_channel(low, x, alpha))


@lowers("scaled_tanh", flattens=True)
def scaled_tanh(low: Lowering, *, x: Operand, alpha: Operand, beta: Operand) -> ir.Value:
    return low.op("Mul", low.op("Tanh", low.op("Mul", x, beta)), alpha)


@lowers("sigmoid_hard", error="bounded", flattens=True)
def sigmoid_hard(low: Lowering, *, x: Operand, alpha: float = 0.2, beta: float = 0.5) -> ir.Value:
    return low.op("HardSigmoid", x, alpha=float(alpha), beta=float(beta))


@lowers("silu", flattens=True)
def silu(low: Lowering, *, x: Operand) -> ir.Value:
    return low.op("Mul", x, low.op("Sigmoid", x))


@lowers("softplus_parametric")
def softplus_parametric(low: Lowering, *, x: Operand, alpha: Operand, beta: Operand) -> ir.Value:
    inner = low.op("Softplus", low.op("Mul", x, _per_channel(low, x, beta)))
    return low.op("Mul", inner, _per_channel(low, x, alpha))


@lowers("softmax", error="exponential")
def softmax(low: Lowering, *, x: Operand, axis: int = -1) -> ir.Value:
    return low.op("Softmax", x, axis=int(axis))


@lowers("thresholded_relu", exact=True)
def thresholded_relu(low: Lowering, *, x: Operand, alpha: Operand) -> ir.Value:
    # MIL keeps x where it equals alpha; ONNX's ThresholdedRelu does not.
    return low.op("Where", low.op("GreaterOrEqual", x, alpha), x, 0.0)


def _per_channel(low: Lowering, x: Operand, vector: Operand) -> np.ndarray:
    """A vector along dimension 1, shaped so that it broadcasts over ``x``."""
    return low.constant(vector, "alpha").reshape(-1, *[1] * (low.rank(x) - 2))
