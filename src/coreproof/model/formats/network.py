"""A NeuralNetwork as it is stored (NeuralNetwork.proto): its layers and those of branches and loops walked, named and renamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from google.protobuf.message import Message

from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2

Network: TypeAlias = (
    NeuralNetwork_pb2.NeuralNetwork
    | NeuralNetwork_pb2.NeuralNetworkClassifier
    | NeuralNetwork_pb2.NeuralNetworkRegressor
)

_EXACT = 1
"""``arrayInputShapeMapping``: arrays keep their rank; else they become [Seq, Batch, C, H, W]."""


def main(spec: Model_pb2.Model) -> Network:
    """The NeuralNetwork message (plain, classifier or regressor: all three hold layers and preprocessing)."""
    network: Network = getattr(spec, str(spec.WhichOneof("Type")))
    return network


def is_network(spec: Model_pb2.Model) -> bool:
    """Whether the model is made of layers: a plain network, a classifier or a regressor."""
    return str(spec.WhichOneof("Type")).startswith("neuralNetwork")


def nested(layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> list[NeuralNetwork_pb2.NeuralNetwork]:
    """The networks inside a branch or loop layer, in the order in which they first run."""
    kind = layer.WhichOneof("layer")
    if kind == "branch":
        return [layer.branch.ifBranch, layer.branch.elseBranch]
    if kind == "loop":
        return [layer.loop.conditionNetwork, layer.loop.bodyNetwork]
    return []


def nodes(layers: Iterable[NeuralNetwork_pb2.NeuralNetworkLayer]) -> Iterator[NeuralNetwork_pb2.NeuralNetworkLayer]:
    """The layers with those of all nested networks."""
    for layer in layers:
        yield layer
        for network in nested(layer):
            yield from nodes(network.layers)


def reads(layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> Iterator[str]:
    """The blobs that a layer reads, those that its nested networks read before they write them included.

    A body that reads what it writes later goes on from what stands there when its loop begins.
    """
    yield from layer.input
    for network in nested(layer):
        own: set[str] = set()
        for inner in network.layers:
            yield from (read for read in reads(inner) if read not in own)
            own.update(inner.output)
    if layer.WhichOneof("layer") == "loop" and layer.loop.conditionVar:
        judged = {written for inner in layer.loop.conditionNetwork.layers for written in inner.output}
        yield from {layer.loop.conditionVar} - judged


def writes(layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> list[str]:
    """The blobs that a layer writes: branches and loops share the names of the network around them."""
    return list(dict.fromkeys(written for inner in nodes([layer]) for written in inner.output))


def rename(network: Network, names: Mapping[str, str]) -> None:
    """Renames blobs and features wherever a network says them: layers, nested ones, preprocessing, classifier, losses."""
    for layer in nodes(network.layers):
        for blobs in (layer.input, layer.output):
            blobs[:] = [names.get(blob, blob) for blob in blobs]
    for message, field in _single_names(network):
        setattr(message, field, names.get(getattr(message, field), getattr(message, field)))


def _single_names(network: Network) -> Iterator[tuple[Message, str]]:
    """Every field that holds one name of a blob or a feature."""
    for layer in nodes(network.layers):
        if layer.WhichOneof("layer") == "loop":
            yield layer.loop, "conditionVar"
    for step in network.preprocessing:
        yield step, "featureName"
    if "labelProbabilityLayerName" in network.DESCRIPTOR.fields_by_name:
        yield network, "labelProbabilityLayerName"
    if network.HasField("updateParams"):
        for loss in network.updateParams.lossLayers:
            kind = loss.WhichOneof("LossLayerType")
            if kind is not None:
                yield getattr(loss, kind), "input"
                yield getattr(loss, kind), "target"


def rename_reads(layer: NeuralNetwork_pb2.NeuralNetworkLayer, names: Mapping[str, str]) -> None:
    """Makes a layer, and those nested in it, read other blobs; what they write keeps its name."""
    for inner in nodes([layer]):
        inner.input[:] = [names.get(blob, blob) for blob in inner.input]


# types


def keeps_rank(spec: Model_pb2.Model) -> bool:
    """Whether arrays enter the network in the rank that they are declared in."""
    return bool(spec.specificationVersion >= 4 and main(spec).arrayInputShapeMapping == _EXACT)


def feature_shape(spec: Model_pb2.Model, blob: Sequence[int]) -> tuple[int, ...]:
    """How a blob's shape is declared: older networks leave out sequence and batch, and height and width where all are 1."""
    if keeps_rank(spec) or len(blob) != 5 or tuple(blob[:2]) != (1, 1):
        return tuple(blob)
    return tuple(blob[2:3] if tuple(blob[3:]) == (1, 1) else blob[2:])
