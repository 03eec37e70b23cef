"""Activations: the ``activation`` layer's kinds, gelu and clampedReLU."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
from google.protobuf.message import Message

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import read_vector


@lowers("activation")
def activation(layer: Layer, x: Blob, **kinds: Message) -> Blob:
    """``kinds``: the one that is set of the message's activations."""
    if not kinds:
        raise layer.refuse("it does not say which activation it is")
    ((kind, params),) = kinds.items()
    return Blob(_ACTIVATIONS[kind](layer, x, params), x.hidden)


def _plain(operator: str) -> Callable[[Layer, Blob, Message], ir.Value]:
    def lowering(layer: Layer, x: Blob, params: Message) -> ir.Value:
        return layer.b.op(operator, x.value)

    return lowering


def _linear(layer: Layer, x: Blob, params: NeuralNetwork_pb2.ActivationLinear) -> ir.Value:
    value = x.value
    if params.alpha != 1:
        value = layer.b.op("Mul", value, f32(params.alpha))
    if params.beta != 0:
        value = layer.b.op("Add", value, f32(params.beta))
    return value


def _thresholded(layer: Layer, x: Blob, params: NeuralNetwork_pb2.ActivationThresholdedReLU) -> ir.Value:
    # ONNX's ThresholdedRelu drops x == alpha, Core ML keeps it
    above = layer.b.op("GreaterOrEqual", x.value, f32(params.alpha))
    return layer.b.op("Where", above, x.value, f32(0))


def _prelu(layer: Layer, x: Blob, params: NeuralNetwork_pb2.ActivationPReLU) -> ir.Value:
    return layer.b.op("PRelu", x.value, channelwise(layer, x, read_vector(params.alpha, "alpha")))


def _scaled_tanh(layer: Layer, x: Blob, params: NeuralNetwork_pb2.ActivationScaledTanh) -> ir.Value:
    inner = layer.b.op("Tanh", layer.b.op("Mul", x.value, f32(params.beta)))
    return layer.b.op("Mul", inner, f32(params.alpha))


def _parametric_softplus(layer: Layer, x: Blob, params: NeuralNetwork_pb2.ActivationParametricSoftplus) -> ir.Value:
    alpha = channelwise(layer, x, read_vector(params.alpha, "alpha"))
    beta = channelwise(layer, x, read_vector(params.beta, "beta"))
    # alpha * log(1 + exp(beta * x)) (NeuralNetwork.proto, ActivationParametricSoftplus)
    return layer.b.op("Mul", layer.b.op("Softplus", layer.b.op("Mul", x.value, beta)), alpha)


def channelwise(layer: Layer, x: Blob, values: np.ndarray) -> np.ndarray:
    """A value a channel (axis -3), or one for all, ready to broadcast."""
    if values.size == 1:
        return values.reshape(1)
    layer.at_least(x, 3)
    channels = layer.shape(x)[-3]
    if channels is not None and channels != values.size:
        raise layer.refuse(
            "its parameters do not fit its channels", expected=f"1 or {channels} values", found=values.size
        )
    return values.reshape(-1, 1, 1)


_ACTIVATIONS: Mapping[str, Callable[..., ir.Value]] = {
    "linear": _linear,
    "ReLU": _plain("Relu"),
    "leakyReLU": lambda layer, x, params: layer.b.op("LeakyRelu", x.value, alpha=float(params.alpha)),
    "thresholdedReLU": _thresholded,
    "PReLU": _prelu,
    "tanh": _plain("Tanh"),
    "scaledTanh": _scaled_tanh,
    "sigmoid": _plain("Sigmoid"),
    "sigmoidHard": lambda layer, x, params: layer.b.op(
        "HardSigmoid", x.value, alpha=float(params.alpha), beta=float(params.beta)
    ),
    "ELU": lambda layer, x, params: layer.b.op("Elu", x.value, alpha=float(params.alpha)),
    "softsign": _plain("Softsign"),
    "softplus": _plain("Softplus"),
    "parametricSoftplus": _parametric_softplus,
}


@lowers("gelu")
def gelu(layer: Layer, x: Blob, *, mode: str = "EXACT") -> Blob:
    b = layer.b
    if mode == "SIGMOID_APPROXIMATION":
        # x * sigmoid(1.702 x), as Hendrycks and Gimpel (2016) approximate it
        return Blob(b.op("Mul", x.value, b.op("Sigmoid", b.op("Mul", x.value, f32(1.702)))), x.hidden)
    approximate = "tanh" if mode == "TANH_APPROXIMATION" else "none"
    return Blob(b.op("Gelu", x.value, approximate=approximate), x.hidden)


@lowers("clampedReLU")
def clamped_relu(layer: Layer, x: Blob, *, alpha: float = 0.0, beta: float = 0.0) -> Blob:
    # x above 0 and alpha * x below, at most beta (NeuralNetwork.proto, ClampedReLULayerParams)
    return Blob(layer.b.op("Min", layer.b.op("LeakyRelu", x.value, alpha=alpha), f32(beta)), x.hidden)
