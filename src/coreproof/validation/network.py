"""The shapes of a NeuralNetwork, followed layer by layer through the lowering, which knows each layer's rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from coreproof.conversion.coreml_to_onnx.neuralnetwork import network
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.scope import Scope
from coreproof.errors import CoreproofError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.formats import network as layered
from coreproof.validation.names import score_blob, wanted_outputs
from coreproof.validation.problem import (
    MOST_DIMENSIONS,
    Problem,
    declared_shape,
    label_count,
    rank_or_shape,
    too_many_dimensions,
)
from coreproof.validation.target import too_old


def follow_network(model: CoreMLModel) -> tuple[list[Problem], dict[str, tuple[int, ...]]]:
    """Every layer whose inputs do not fit it, and the shape of each blob.

    A layer that depends on a broken one is passed over: its inputs are not known. Flexible inputs have their default size.
    """
    problems: list[Problem] = [*too_old(model)]
    try:
        scope = network.open_scope(model, _default_shapes(model))
    except CoreproofError as error:
        return [*problems, Problem("shape", None, str(error.expected), f"{error.problem}: {error.found}")], {}
    for message in model.network.layers:
        problem = _lower(scope, message)
        if problem is not None:
            problems.append(problem)
    shapes = {name: shape for name, blob in scope.blobs.items() if (shape := _whole(blob)) is not None}
    problems += [
        too_many_dimensions(node.name, name, shapes[name])
        for node in model.graph.nodes
        for name in node.outputs
        if len(shapes.get(name, ())) > MOST_DIMENSIONS
    ]
    blob, labels = score_blob(model), model.signature.labels
    if blob in shapes and labels is not None and prod(shapes[blob]) != len(labels):
        problems.append(label_count(model.graph.layer_of(blob) or blob, blob, shapes[blob], len(labels)))
    problems += _declared(model, scope)
    return problems, shapes


def _lower(scope: Scope, message: NeuralNetwork_pb2.NeuralNetworkLayer) -> Problem | None:
    # one fault, one problem: what a broken layer should have made is not known, and the layers behind say nothing
    if any(scope.find(name) is None for name in message.input):
        return None
    # custom layers, and those of a later coremltools, are no fault
    if any(network.missing_kind(layer) is not None for layer in layered.nodes([message])):
        return None
    if any(name in scope.blobs for name in message.output) and message.WhichOneof("layer") != "copy":
        return None  # said by the names
    try:
        scope.lower([message])
    except CoreproofError as error:
        kind = "rank" if "dimensions" in error.problem else rank_or_shape(error.problem)
        return Problem(kind, message.name, f"{error.expected}", f"{error.found}")
    return None


def _whole(blob: Blob) -> tuple[int, ...] | None:
    shape = known(blob.value)
    if shape is None or None in shape:
        return None
    # the lowering leaves out leading ones of the five dimensions [Seq, Batch, C, H, W]; Core ML counts them
    return (1,) * blob.hidden + tuple(n or 0 for n in shape)


def _default_shapes(model: CoreMLModel) -> Mapping[str, list[int]]:
    """The size that each flexible input has when nothing else is said."""
    found = {}
    for feature in model.signature.inputs:
        if feature.image is not None:
            found[feature.name] = [1, feature.image.channels, feature.image.height, feature.image.width]
        elif feature.shape is not None and all(isinstance(d, int) and d > 0 for d in feature.shape):
            found[feature.name] = [int(d or 0) for d in feature.shape]
    return found


def _declared(model: CoreMLModel, scope: Scope) -> Iterator[Problem]:
    """Outputs whose declared shape is another one than their blob has, dimensions of 1 apart. Empty ones say nothing."""
    if any(f.ranges or len(f.enumerated) > 1 for f in model.signature.inputs):
        return
    wanted = set(wanted_outputs(model))
    for feature in model.signature.outputs:
        blob = scope.find(feature.name) if feature.name in wanted else None
        shape = None if blob is None else _whole(blob)
        image, stated = feature.image, feature.shape
        if image is not None:
            stated = (image.channels, image.height, image.width)
        if shape is None or feature.ranges or feature.enumerated or not stated:
            continue
        if any(not isinstance(d, int) or d < 1 for d in stated):
            continue
        if [d for d in stated if d != 1] != [n for n in shape if n != 1]:
            yield declared_shape(model.graph, feature.name, str(list(stated)), str(list(shape)))
