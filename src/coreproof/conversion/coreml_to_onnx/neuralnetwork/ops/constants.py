"""Layers that make blobs: constants, fills, ranges, shapes, broadcasts, random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.neuralnetwork.ops.reshaping import with_rank
from coreproof.conversion.coreml_to_onnx.neuralnetwork.ops.slicing import shape_of, shaped_like
from coreproof.model.budget import afford
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import read_weights


@lowers("loadConstant")
def load_constant(
    layer: Layer, *, shape: Sequence[int] = (), data: NeuralNetwork_pb2.WeightParams | None = None
) -> Blob:
    """A [C, H, W] constant, seen as [1, 1, C, H, W]."""
    return Blob(layer.b.constant(read_weights(data, (1, *shape), "data")), 1)


@lowers("loadConstantND")
def load_constant_nd(
    layer: Layer, *, shape: Sequence[int] = (), data: NeuralNetwork_pb2.WeightParams | None = None
) -> Blob:
    return Blob(layer.b.constant(read_weights(data, tuple(shape), "data")))


@lowers("getShape")
def get_shape(layer: Layer, x: Blob) -> Blob:
    shape = shape_of(layer, x)
    if isinstance(shape, np.ndarray):
        return Blob(layer.b.constant(shape.astype(np.float32)))
    return Blob(layer.floats(shape))


@lowers("fillLike")
def fill_like(layer: Layer, x: Blob, *, value: float = 0.0) -> Blob:
    return Blob(shaped_like(layer.b.op("Expand", f32(value), shape_of(layer, x)), layer.shape(x)))


@lowers("fillStatic")
def fill_static(layer: Layer, *, value: float = 0.0, targetShape: Sequence[int] = ()) -> Blob:
    return Blob(layer.b.op("Expand", f32(value), i64(targetShape)))


@lowers("fillDynamic")
def fill_dynamic(layer: Layer, shape: Blob, *, value: float = 0.0) -> Blob:
    return Blob(with_rank(layer.b.op("Expand", f32(value), layer.integers(shape)), shape))


@lowers("broadcastToLike")
def broadcast_to_like(layer: Layer, x: Blob, like: Blob) -> Blob:
    value = layer.b.op("Expand", layer.exact(x), shape_of(layer, like))
    return Blob(shaped_like(value, layer.shape(like)))


@lowers("broadcastToStatic")
def broadcast_to_static(layer: Layer, x: Blob, *, targetShape: Sequence[int] = ()) -> Blob:
    return Blob(layer.b.op("Expand", layer.exact(x), i64(targetShape)))


@lowers("broadcastToDynamic")
def broadcast_to_dynamic(layer: Layer, x: Blob, shape: Blob) -> Blob:
    return Blob(with_rank(layer.b.op("Expand", layer.exact(x), layer.integers(shape)), shape))


@lowers("rangeStatic")
def range_static(layer: Layer, *, endValue: float = 0.0, startValue: float = 0.0, stepSizeValue: float = 0.0) -> Blob:
    if not stepSizeValue:
        raise layer.refuse("its step is 0", expected="a step other than 0")
    count = (endValue - startValue) / stepSizeValue
    if not math.isfinite(count):
        raise layer.refuse(
            "its range has no end", expected="finite numbers", found=[startValue, endValue, stepSizeValue]
        )
    afford("its result", [max(0, math.ceil(count))], 8)
    return Blob(layer.b.constant(np.arange(startValue, endValue, stepSizeValue, np.float32)))


@lowers("rangeDynamic")
def range_dynamic(
    layer: Layer,
    end: Blob,
    start: Blob | None = None,
    step: Blob | None = None,
    *,
    startValue: float = 0.0,
    stepSizeValue: float = 1.0,
) -> Blob:
    def scalar(blob: Blob | None, field: float) -> Operand:
        return f32(field) if blob is None else layer.b.op("Reshape", layer.exact(blob), i64([]))

    value = layer.b.op("Range", scalar(start, startValue), scalar(end, 0), scalar(step, stepSizeValue))
    return Blob(shaped_like(value, [None]))


# random numbers: the distribution is Core ML's, the numbers themselves are not


@lowers("randomNormalStatic", "randomUniformStatic", "randomBernoulliStatic")
def random_static(layer: Layer, *, outputShape: Sequence[int] = (), **distribution: float) -> Blob:
    return Blob(_random(layer, i64(outputShape), list(outputShape), **distribution))


@lowers("randomNormalLike", "randomUniformLike", "randomBernoulliLike")
def random_like(layer: Layer, x: Blob, **distribution: float) -> Blob:
    return Blob(_random(layer, shape_of(layer, x), layer.shape(x), **distribution))


@lowers("randomNormalDynamic", "randomUniformDynamic", "randomBernoulliDynamic")
def random_dynamic(layer: Layer, shape: Blob, **distribution: float) -> Blob:
    length = layer.shape(shape)[0]
    return Blob(_random(layer, layer.integers(shape), None if length is None else [None] * length, **distribution))


def _random(
    layer: Layer,
    shape: Operand,
    dims: Sequence[int | None] | None,
    *,
    seed: float = 0,
    mean: float = 0.0,
    stdDev: float = 0.0,
    minVal: float = 0.0,
    maxVal: float = 0.0,
    prob: float = 0.0,
) -> ir.Value:
    b = layer.b
    chosen = float(seed) if seed >= 0 else None
    zeros = b.op("Expand", f32(0), shape)
    if "Normal" in layer.kind:
        # drawn from the standard distribution: ONNX Runtime crashes on a deviation of 0
        drawn = b.op("RandomNormalLike", zeros, mean=0.0, scale=1.0, seed=chosen)
        value = b.op("Add", b.op("Mul", drawn, f32(stdDev)), f32(mean))
    else:
        value = b.op("RandomUniformLike", zeros, low=0.0, high=1.0, seed=chosen)
        if "Uniform" in layer.kind:
            value = b.op("Add", b.op("Mul", value, f32(maxVal - minVal)), f32(minVal))
        else:
            # a number drawn evenly is below prob as often as prob says
            value = layer.floats(b.op("Less", value, f32(prob)))
    return shaped_like(value, dims) if dims is not None else value


@lowers("categoricalDistribution")
def categorical_distribution(
    layer: Layer,
    x: Blob,
    *,
    seed: int = 0,
    numSamples: int = 1,
    isLogits: bool = False,
    eps: float = 1e-10,
    temperature: float = 1.0,
) -> Blob:
    """Draws class indices from the distributions in the last dimension."""
    b = layer.b
    value = layer.exact(x)
    *lead, classes = layer.fixed(layer.shape(x), "the shape of its input")
    # Multinomial draws by logarithms; eps keeps that of zero finite
    logits = value if isLogits else b.op("Log", b.op("Add", value, f32(eps)))
    if temperature != 1:
        logits = b.op("Div", logits, f32(temperature))
    flat = b.op("Reshape", logits, i64([-1, classes]))
    drawn = b.op("Multinomial", flat, sample_size=numSamples, seed=float(seed) if seed >= 0 else None)
    return Blob(b.op("Reshape", layer.floats(drawn), i64([*lead, numSamples])))
