"""Elementwise layers of one blob: unary functions, trigonometry, rounding, scale and bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import Array, read_weights


@lowers("ceil", "floor", "sign", "round", "erf", "sin", "cos", "tan", "asin", "acos", "atan")
@lowers("sinh", "cosh", "tanh", "asinh", "acosh", "atanh")
def same_named(layer: Layer, x: Blob) -> Blob:
    # ONNX has these under the same words, with a capital
    return Blob(layer.b.op(layer.kind.capitalize(), x.value), x.hidden)


@lowers("exp2")
def exp2(layer: Layer, x: Blob) -> Blob:
    return Blob(layer.b.op("Pow", f32(2), x.value), x.hidden)


@lowers("clip")
def clip(layer: Layer, x: Blob, *, minVal: float = 0.0, maxVal: float = 0.0) -> Blob:
    return Blob(layer.b.op("Clip", x.value, f32(minVal), f32(maxVal)), x.hidden)


@lowers("unary")
def unary(
    layer: Layer,
    x: Blob,
    *,
    type: str = "SQRT",
    alpha: float = 0.0,
    epsilon: float = 1e-6,
    shift: float = 0.0,
    scale: float = 1.0,
) -> Blob:
    b = layer.b
    value = x.value
    # scaled, then shifted, then the function (NeuralNetwork.proto, UnaryFunctionLayerParams)
    if scale != 1:
        value = b.op("Mul", value, f32(scale))
    if shift:
        value = b.op("Add", value, f32(shift))
    match type:
        case "SQRT":
            value = b.op("Sqrt", value)
        case "RSQRT":
            value = b.op("Reciprocal", b.op("Sqrt", b.op("Add", value, f32(epsilon))))
        case "INVERSE":
            value = b.op("Reciprocal", b.op("Add", value, f32(epsilon)))
        case "POWER":
            value = b.op("Mul", value, value) if alpha == 2 else b.op("Pow", value, f32(alpha))
        case "EXP":
            value = b.op("Exp", value)
        case "LOG":
            # a field of 0 reads as one that is not said: a subnormal number stands for no epsilon
            if epsilon > np.finfo(np.float32).tiny:
                value = b.op("Add", value, f32(epsilon))
            value = b.op("Log", value)
        case "ABS":
            value = b.op("Abs", value)
        case "THRESHOLD":
            value = b.op("Max", value, f32(alpha))
        case _:
            raise layer.refuse("its function is unknown", found=type)
    return Blob(value, x.hidden)


@lowers("scale")
def scale(
    layer: Layer,
    x: Blob,
    *,
    shapeScale: Sequence[int] = (1,),
    scale: NeuralNetwork_pb2.WeightParams | None = None,
    hasBias: bool = False,
    shapeBias: Sequence[int] = (1,),
    bias: NeuralNetwork_pb2.WeightParams | None = None,
) -> Blob:
    value = layer.b.op("Mul", x.value, _spread(layer, x, read_weights(scale, shapeScale, "scale")))
    if hasBias:
        value = layer.b.op("Add", value, _spread(layer, x, read_weights(bias, shapeBias, "bias")))
    return Blob(value, x.hidden)


@lowers("bias", error="add")
def bias(
    layer: Layer, x: Blob, *, shape: Sequence[int] = (1,), bias: NeuralNetwork_pb2.WeightParams | None = None
) -> Blob:
    added = _spread(layer, x, read_weights(bias, shape, "bias"))
    return Blob(layer.b.op("Add", x.value, added), x.hidden)


def _spread(layer: Layer, x: Blob, values: Array) -> Array:
    """[1], [C], [1, H, W] or [C, H, W] against the last three dimensions."""
    if values.ndim != 1 or values.size == 1:
        return values
    layer.at_least(x, 3)
    return values.reshape(-1, 1, 1)


@lowers("copy", error="move", keeps_order=True, hands_on="whole")
def copy(layer: Layer, x: Blob) -> Blob:
    return Blob(layer.b.op("Identity", x.value), x.hidden)
