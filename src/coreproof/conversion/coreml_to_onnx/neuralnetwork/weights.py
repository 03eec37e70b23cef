"""A layer's weights while it is lowered: read by ``model.weight_params``, refused in the layer's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Layer
from coreproof.model.coreml import weight_params
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import Array as Array
from coreproof.model.coreml.weight_params import WeightsError

Read = TypeVar("Read")


def read_weights(
    layer: Layer,
    params: NeuralNetwork_pb2.WeightParams | None,
    shape: Sequence[int],
    what: str = "weights",
    channel_axis: int = 0,
) -> Array:
    """The weights in ``shape``; per-channel scales of quantised ones run along ``channel_axis``."""
    return _named(layer, lambda: weight_params.read_weights(params, shape, what, channel_axis))


def read_vector(layer: Layer, params: NeuralNetwork_pb2.WeightParams | None, what: str) -> Array:
    """Weights that are a list of any length."""
    return _named(layer, lambda: weight_params.read_vector(params, what))


def int8_weights(
    layer: Layer, params: NeuralNetwork_pb2.WeightParams | None, shape: Sequence[int]
) -> tuple[Array, float]:
    """``int8RawValue`` as whole float32 numbers, and their one scale."""
    return _named(layer, lambda: weight_params.int8_weights(params, shape))


def _named(layer: Layer, read: Callable[[], Read]) -> Read:
    try:
        return read()
    except WeightsError as error:
        raise layer.refuse(error.problem, expected=error.expected, found=error.found) from None
