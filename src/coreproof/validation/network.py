"""The shapes of a NeuralNetwork, followed layer by layer through the lowering, which knows each layer's rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from coreproof.conversion.coreml_to_onnx.neuralnetwork import network
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.scope import Scope
from coreproof.conversion.operators import LAYERS
from coreproof.errors import CoreproofError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature
from coreproof.model.formats import network as layered
from coreproof.validation.names import score_blob, wanted_outputs
from coreproof.validation.problem import Problem
from coreproof.validation.target import too_old

MOST_DIMENSIONS = 5
"""The highest rank of a Core ML tensor."""


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
    problems += _too_many_dimensions(model, shapes)
    problems += _label_count(model, shapes)
    problems += _declared(model, scope)
    return problems, shapes


def _lower(scope: Scope, message: Any) -> Problem | None:
    if any(scope.find(name) is None for name in message.input):
        return None
    if any(layer.WhichOneof("layer") not in LAYERS for layer in layered.nodes([message])):
        return None
    if any(name in scope.blobs for name in message.output) and message.WhichOneof("layer") != "copy":
        return None  # said by the names
    try:
        scope.lower([message])
    except CoreproofError as error:
        ranks = "rank" in error.problem or "dimensions" in error.problem
        return Problem("rank" if ranks else "shape", message.name, f"{error.expected}", f"{error.found}")
    return None


def _whole(blob: Blob) -> tuple[int, ...] | None:
    shape = known(blob.value)
    if shape is None or None in shape:
        return None
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


def _too_many_dimensions(model: CoreMLModel, shapes: Mapping[str, tuple[int, ...]]) -> list[Problem]:
    return [
        Problem("rank", node.name, f"at most {MOST_DIMENSIONS} dimensions", f"{name} {list(shapes[name])}")
        for node in model.graph.nodes
        for name in node.outputs
        if len(shapes.get(name, ())) > MOST_DIMENSIONS
    ]


def _label_count(model: CoreMLModel, shapes: Mapping[str, tuple[int, ...]]) -> list[Problem]:
    blob = score_blob(model)
    labels = model.signature.labels
    if blob is None or blob not in shapes or labels is None or prod(shapes[blob]) == len(labels):
        return []
    producer = model.graph.producer(blob)
    return [
        Problem(
            "label-count",
            producer.name if producer is not None else blob,
            f"{len(labels)} scores in {blob!r}, one a label",
            f"{prod(shapes[blob])} scores in {list(shapes[blob])}",
        )
    ]


def _declared(model: CoreMLModel, scope: Scope) -> list[Problem]:
    """Outputs whose declared shape is another one than their blob has, dimensions of 1 apart. Empty ones say nothing."""
    flexible = any(f.ranges or len(f.enumerated) > 1 for f in model.signature.inputs)
    problems = []
    wanted = set(wanted_outputs(model))
    for feature in model.signature.outputs:
        blob = scope.find(feature.name) if feature.name in wanted else None
        shape = None if blob is None else _whole(blob)
        if shape is None or flexible or feature.ranges or feature.enumerated:
            continue
        if not fits(feature, shape):
            producer = model.graph.producer(feature.name)
            problems.append(
                Problem(
                    "declared-shape",
                    producer.name if producer is not None else None,
                    f"output {feature.name!r} of shape {_told(feature)}, as declared",
                    f"{list(shape)}",
                    fatal=False,
                )
            )
    return problems


def _told(feature: Feature) -> str:
    if feature.image is not None:
        return str([feature.image.channels, feature.image.height, feature.image.width])
    return str(list(feature.shape or ()))


def fits(feature: Feature, shape: tuple[int, ...]) -> bool:
    """Whether a declared output can hold a value of that shape: the same lengths in the same order, ones apart."""
    if feature.image is not None:
        feature = replace(feature, shape=(feature.image.channels, feature.image.height, feature.image.width))
    if not feature.shape or any(not isinstance(d, int) or d < 1 for d in feature.shape):
        return True
    return [d for d in feature.shape if d != 1] == [n for n in shape if n != 1]
