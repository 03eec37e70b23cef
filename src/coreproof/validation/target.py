"""Which specification version a NeuralNetwork's layers need: older systems refuse newer layers."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.formats import network as layered
from coreproof.validation.problem import Problem

SYSTEMS = {1: "iOS 11", 2: "iOS 11.2", 3: "iOS 12", 4: "iOS 13", 5: "iOS 14", 6: "iOS 15"}
"""specification version -> the first system that reads it (Model.proto)."""

_FIRST = {
    "convolution", "pooling", "activation", "innerProduct", "embedding", "batchnorm", "mvn", "l2normalize", "softmax",
    "lrn", "crop", "padding", "upsample", "unary", "add", "multiply", "average", "scale", "bias", "max", "min", "dot",
    "reduce", "loadConstant", "reshape", "flatten", "permute", "concat", "split", "sequenceRepeat", "reorganizeData",
    "slice", "simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM",
}  # fmt: skip
_LATER = {
    "custom": 2, "resizeBilinear": 3, "cropResize": 3, "oneHot": 5, "cumSum": 5, "clampedReLU": 5, "argSort": 5,
    "pooling3d": 5, "globalPooling3d": 5, "convolution3d": 5, "sliceBySize": 5,
}  # fmt: skip
_RANKS = 4
"""Every other layer came with the any-rank layers of iOS 13 (NeuralNetwork.proto)."""


def needed_by(layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> int:
    """The least specification version that knows this layer in this form."""
    kind = layer.WhichOneof("layer")
    if kind is None:  # of no type that is known: the lowering says so
        return 1
    version = 1 if kind in _FIRST else _LATER.get(kind, _RANKS)
    params = getattr(layer, kind)
    if kind == "upsample" and (params.fractionalScalingFactor or params.linearUpsampleMode):
        return 5
    if kind == "reorganizeData" and params.mode == params.PIXEL_SHUFFLE:
        return 5
    if kind == "concatND" and params.interleave:
        return 5
    if kind in ("innerProduct", "batchedMatmul") and params.int8DynamicQuantize:
        return 5
    if kind == "softmax" or version > 1:
        return version
    return max(version, _weights_need(params))


def _weights_need(params: NeuralNetwork_pb2.WeightParams) -> int:
    """Half weights came with version 2, quantized ones with version 3."""
    needed = 1
    for _, value in params.ListFields():
        if not isinstance(value, NeuralNetwork_pb2.WeightParams):
            continue
        if value.HasField("quantization"):
            needed = max(needed, 3)
        elif value.float16Value:
            needed = max(needed, 2)
    return needed


def needed_version(model: CoreMLModel) -> int:
    """The least specification version that knows every layer."""
    return max((needed_by(layer) for layer in layered.nodes(model.network.layers)), default=1)


def too_old(model: CoreMLModel) -> Iterator[Problem]:
    """The first layer of each kind that the declared specification version does not know yet."""
    declared = int(model.spec.specificationVersion)
    seen = set()
    for layer in layered.nodes(model.network.layers):
        needed, kind = needed_by(layer), layer.WhichOneof("layer")
        if needed > declared and kind not in seen:
            seen.add(kind)
            yield Problem(
                "target",
                layer.name,
                f"specification version {needed} ({SYSTEMS[needed]}) or later, which brought {kind} in this form",
                f"version {declared} ({SYSTEMS.get(declared, 'unknown')})",
            )
