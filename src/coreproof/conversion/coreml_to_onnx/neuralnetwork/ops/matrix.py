"""Matrix products and look-ups: innerProduct, batchedMatmul, embedding, embeddingND."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import Array, int8_weights, read_weights


@lowers("innerProduct", error="linear", word="linear")
def inner_product(
    layer: Layer,
    x: Blob,
    *,
    inputChannels: int = 0,
    outputChannels: int = 0,
    hasBias: bool = False,
    weights: NeuralNetwork_pb2.WeightParams | None = None,
    bias: NeuralNetwork_pb2.WeightParams | None = None,
    int8DynamicQuantize: bool = False,
) -> Blob:
    """A dense layer: ranks 1 to 3 multiply the last dimension, ranks 4 and 5 the last three together."""
    rank = layer.rank(x)
    shape = layer.shape(x)
    if rank > 5:
        raise layer.refuse("its input has too many dimensions", expected="rank 1 to 5", found=list(shape))
    features = shape[-3:] if rank >= 4 else shape[-1:]
    count = prod(n for n in features if n is not None)
    if None not in features and count != inputChannels:
        raise layer.refuse(
            "its input has the wrong number of channels",
            expected=f"{inputChannels} input channels",
            found=f"{count} in a blob of shape {list(shape)}",
        )
    b = layer.b
    added = read_weights(bias, (outputChannels,), "bias") if hasBias else None
    value = x.value if rank >= 4 else layer.exact(x)
    # ranks 4 and 5 have [C, H, W] in their last dimensions, which count as one vector
    flat = value if rank == 2 or rank == 3 else b.op("Reshape", value, i64([-1, inputChannels]))
    product = _product(layer, flat, weights, (outputChannels, inputChannels), added, quantised=int8DynamicQuantize)
    if rank in (2, 3):
        return Blob(product)
    if rank == 1:
        return Blob(b.op("Reshape", product, i64([outputChannels])))
    leading = len(value.shape or ()) - 3
    if leading == 1:
        return Blob(b.op("Reshape", product, i64([-1, outputChannels, 1, 1])), x.hidden)
    before = shape[:leading]
    if before.count(None) > 1:
        raise layer.refuse("both its leading dimensions are only known when the model runs")
    target = [*(-1 if n is None else n for n in before), outputChannels, 1, 1]
    return Blob(b.op("Reshape", product, i64(target)), x.hidden)


def _product(
    layer: Layer,
    value: ir.Value,
    weights: NeuralNetwork_pb2.WeightParams | None,
    shape: tuple[int, int],
    added: Array | None,
    *,
    quantised: bool,
) -> ir.Value:
    """value @ weights.T + added."""
    if quantised:
        product = _quantised_product(layer, value, *int8_weights(weights, shape))
    else:
        stored = read_weights(weights, shape)
        if len(value.shape or ()) == 2:
            return layer.b.op("Gemm", value, stored, added, transB=1)
        product = layer.b.op("MatMul", value, np.ascontiguousarray(stored.T))
    return product if added is None else layer.b.op("Add", product, added)


def _quantised_product(layer: Layer, value: ir.Value, stored: Array, scale: float) -> ir.Value:
    """The product as ``int8DynamicQuantize`` makes it: the blob rounded to 255 steps of its own largest value."""
    b = layer.b
    # a blob of zeros has no largest value to make steps of
    step = b.op("Div", b.op("Max", b.op("ReduceMax", b.op("Abs", value), keepdims=0), f32(1e-30)), f32(127))
    # -127 to 127: a step is the largest size over 127, so that zero is zero
    rounded = b.op("Round", b.op("Div", value, step))
    product = b.op("MatMul", rounded, np.ascontiguousarray(stored.T))
    return b.op("Mul", product, b.op("Mul", step, f32(scale)))


@lowers("batchedMatmul", error="linear", word="linear")
def batched_matmul(
    layer: Layer,
    x: Blob,
    y: Blob | None = None,
    *,
    transposeA: bool = False,
    transposeB: bool = False,
    weightMatrixFirstDimension: int = 0,
    weightMatrixSecondDimension: int = 0,
    hasBias: bool = False,
    weights: NeuralNetwork_pb2.WeightParams | None = None,
    bias: NeuralNetwork_pb2.WeightParams | None = None,
    int8DynamicQuantize: bool = False,
) -> Blob:
    left = layer.exact(x)
    if y is not None:
        return Blob(_two_blobs(layer, left, layer.exact(y), transposeA, transposeB))
    rows, columns = weightMatrixFirstDimension, weightMatrixSecondDimension
    layer.check_channels(x, rows, -1)
    added = read_weights(bias, (columns,), "bias") if hasBias else None
    vector = layer.rank(x) == 1
    # a vector is a row, and the result one again
    if vector:
        left = layer.b.op("Unsqueeze", left, i64([0]))
    product = _product(layer, left, weights, (columns, rows), added, quantised=int8DynamicQuantize)
    return Blob(layer.b.op("Squeeze", product, i64([0])) if vector else product)


def _two_blobs(layer: Layer, left: ir.Value, right: ir.Value, transpose_left: bool, transpose_right: bool) -> ir.Value:
    """Batches of matrices; a vector on the left is a row, one on the right a column, and that dimension stays."""
    b = layer.b
    if len(known(left) or ()) == 1:
        left = b.op("Unsqueeze", left, i64([0]))
    if len(known(right) or ()) == 1:
        right = b.op("Unsqueeze", right, i64([1]))
    if transpose_left:
        left = _swapped(layer, left)
    if transpose_right:
        right = _swapped(layer, right)
    return b.op("MatMul", left, right)


def _swapped(layer: Layer, value: ir.Value) -> ir.Value:
    order = list(range(len(value.shape or ())))
    order[-2:] = order[-1], order[-2]
    return layer.b.op("Transpose", value, perm=order)


@lowers("embedding")
def embedding(
    layer: Layer,
    x: Blob,
    *,
    inputDim: int = 0,
    outputChannels: int = 0,
    hasBias: bool = False,
    weights: NeuralNetwork_pb2.WeightParams | None = None,
    bias: NeuralNetwork_pb2.WeightParams | None = None,
) -> Blob:
    """[..., 1, 1, 1] indices to [..., outputChannels, 1, 1]."""
    layer.at_least(x, 4)
    if any(n not in (1, None) for n in layer.shape(x)[-3:]):
        raise layer.refuse(
            "its input is not a list of indices", expected="1, 1, 1 as last dimensions", found=list(layer.shape(x))
        )
    table = _table(layer, weights, bias, outputChannels, inputDim, hasBias)
    # [..., 1, 1, 1] without one of its ones, so that the channels that Gather appends make the old rank
    indices = layer.b.op("Cast", layer.b.op("Squeeze", x.value, i64([-3])), to=int(ir.DataType.INT64))
    found = layer.b.op("Gather", table, indices)  # [..., 1, 1, channels]
    order = list(range(len(found.shape or ())))
    return Blob(layer.b.op("Transpose", found, perm=[*order[:-3], order[-1], order[-3], order[-2]]), x.hidden)


@lowers("embeddingND")
def embedding_nd(
    layer: Layer,
    x: Blob,
    *,
    vocabSize: int = 0,
    embeddingSize: int = 0,
    hasBias: bool = False,
    weights: NeuralNetwork_pb2.WeightParams | None = None,
    bias: NeuralNetwork_pb2.WeightParams | None = None,
) -> Blob:
    """[..., 1] indices to [..., embeddingSize]."""
    layer.at_least(x, 2)
    table = _table(layer, weights, bias, embeddingSize, vocabSize, hasBias)
    indices = layer.b.op("Squeeze", layer.integers(x), i64([-1]))
    return Blob(layer.b.op("Gather", table, indices))


def _table(
    layer: Layer,
    weights: NeuralNetwork_pb2.WeightParams | None,
    bias: NeuralNetwork_pb2.WeightParams | None,
    channels: int,
    count: int,
    has_bias: bool,
) -> Array:
    table = read_weights(weights, (channels, count)).T
    if has_bias:
        table = table + read_weights(bias, (channels,), "bias")
    # stored [channels, entries]; Gather takes rows
    return np.ascontiguousarray(table)
