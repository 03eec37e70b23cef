"""Normalisations: batchnorm (and instance norm), mvn, l2normalize, lrn, softmax, layerNormalization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import read_weights


@lowers("batchnorm")
def batchnorm(
    layer: Layer,
    x: Blob,
    *,
    channels: int = 0,
    computeMeanVar: bool = False,
    instanceNormalization: bool = False,
    epsilon: float = 1e-5,
    gamma: NeuralNetwork_pb2.WeightParams | None = None,
    beta: NeuralNetwork_pb2.WeightParams | None = None,
    mean: NeuralNetwork_pb2.WeightParams | None = None,
    variance: NeuralNetwork_pb2.WeightParams | None = None,
) -> Blob:
    layer.at_least(x, 3)
    layer.check_channels(x, channels)
    value, restore = layer.batched(x)
    scale = np.ones(channels, np.float32) if gamma is None else read_weights(gamma, (channels,), "gamma")
    shift = np.zeros(channels, np.float32) if beta is None else read_weights(beta, (channels,), "beta")
    b = layer.b
    # the mean and variance of training are stored, unless those of the input itself are asked for
    if not computeMeanVar:
        m = np.zeros(channels, np.float32) if mean is None else read_weights(mean, (channels,), "mean")
        v = np.ones(channels, np.float32) if variance is None else read_weights(variance, (channels,), "variance")
        return restore(b.op("BatchNormalization", value, scale, shift, m, v, epsilon=epsilon))
    if instanceNormalization:
        return restore(b.op("InstanceNormalization", value, scale, shift, epsilon=epsilon))
    # over the batch too, one mean and variance a channel
    normalised = _normalised(layer, value, [0, 2, 3], epsilon)
    return restore(b.op("Add", b.op("Mul", normalised, scale.reshape(-1, 1, 1)), shift.reshape(-1, 1, 1)))


@lowers("mvn", error="norm")
def mvn(
    layer: Layer,
    x: Blob,
    *,
    acrossChannels: bool = False,
    normalizeVariance: bool = False,
    epsilon: float = 1e-6,
) -> Blob:
    layer.at_least(x, 3)
    axes = [-3, -2, -1] if acrossChannels else [-2, -1]
    return Blob(_normalised(layer, x.value, axes, epsilon if normalizeVariance else None), x.hidden)


def _normalised(layer: Layer, value: ir.Value, axes: Sequence[int], epsilon: float | None) -> ir.Value:
    """(value - mean) / sqrt(variance + epsilon) over ``axes``; only the mean is taken away when epsilon is None."""
    b = layer.b
    centred: ir.Value = b.op("Sub", value, b.op("ReduceMean", value, i64(axes)))
    if epsilon is None:
        return centred
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), i64(axes))
    return b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, f32(epsilon))))


@lowers("l2normalize", error="norm")
def l2normalize(layer: Layer, x: Blob, *, epsilon: float = 1e-6) -> Blob:
    layer.at_least(x, 3)
    b = layer.b
    # over the whole picture: x / sqrt(sum of x^2 + epsilon) (NeuralNetwork.proto)
    squares = b.op("ReduceSumSquare", x.value, i64([-3, -2, -1]))
    return Blob(b.op("Div", x.value, b.op("Sqrt", b.op("Add", squares, f32(epsilon)))), x.hidden)


@lowers("lrn")
def lrn(layer: Layer, x: Blob, *, alpha: float = 0.0, beta: float = 0.0, localSize: int = 1, k: float = 1.0) -> Blob:
    value, restore = layer.batched(x)
    b = layer.b
    if localSize % 2:
        # ONNX's LRN divides alpha by the size, as NeuralNetwork.proto writes it
        return restore(b.op("LRN", value, alpha=alpha, beta=beta, size=localSize, bias=k))
    # ONNX Runtime has odd windows only; an even one reaches one channel further back
    square = b.op("Unsqueeze", b.op("Mul", value, value), i64([1]))
    pads = [localSize // 2, 0, 0, (localSize - 1) // 2, 0, 0]
    mean = b.op("AveragePool", square, kernel_shape=[localSize, 1, 1], pads=pads, count_include_pad=1)
    base = b.op("Add", b.op("Mul", b.op("Squeeze", mean, i64([1])), f32(alpha)), f32(k))
    return restore(b.op("Div", value, b.op("Pow", base, f32(beta))))


@lowers("softmax")
def softmax(layer: Layer, x: Blob) -> Blob:
    layer.at_least(x, 3)
    # over the channels, whatever the rank
    return Blob(layer.b.op("Softmax", x.value, axis=-3), x.hidden)


@lowers("softmaxND", error="exponential", word="softmax")
def softmax_nd(layer: Layer, x: Blob, *, axis: int = 0) -> Blob:
    return Blob(layer.b.op("Softmax", layer.exact(x), axis=layer.axis(x, axis)))


@lowers("layerNormalization")
def layer_normalization(
    layer: Layer,
    x: Blob,
    *,
    normalizedShape: Sequence[int] = (),
    eps: float = 0.0,
    gamma: NeuralNetwork_pb2.WeightParams | None = None,
    beta: NeuralNetwork_pb2.WeightParams | None = None,
) -> Blob:
    value = layer.exact(x)
    shape = tuple(normalizedShape)
    scale = np.ones(shape, np.float32) if gamma is None else read_weights(gamma, shape, "gamma")
    shift = np.zeros(shape, np.float32) if beta is None else read_weights(beta, shape, "beta")
    return Blob(layer.b.op("LayerNormalization", value, scale, shift, axis=-len(shape), epsilon=eps))
