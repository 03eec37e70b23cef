"""k nearest neighbours: NearestNeighbors.proto. An index is a way to find the neighbours, and does not change which they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.counts import other_count, unfit_label_type
from coreproof.conversion.coreml_to_onnx.classic.held import Dictionary, Labels
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage, f64, label_array
from coreproof.model.coreml.features import label_lists, read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2

_FIRST, _SECOND = np.array([0], np.int64), np.array([1], np.int64)


def _of_samples(model: CoreMLModel) -> list[object]:
    """The label of each sample."""
    return [label for held in label_lists(model.spec) for label in held]


def _default(neighbours: Model_pb2.KNearestNeighborsClassifier) -> str | int | None:
    which = neighbours.WhichOneof("DefaultClassLabel")
    return None if which is None else getattr(neighbours, which)


def _problems(model: CoreMLModel) -> Iterator[str]:
    neighbours = model.spec.kNearestNeighborsClassifier
    index, labels = neighbours.nearestNeighborsIndex, _of_samples(model)
    if len(labels) != len(index.floatSamples):
        yield f"it has {len(index.floatSamples)} samples, and {len(labels)} labels of samples"
    odd = sorted({len(sample.vector) for sample in index.floatSamples} - {index.numberOfDimensions})
    if odd:
        yield f"a sample has {odd[0]} numbers, and it says {index.numberOfDimensions}"
    if index.WhichOneof("DistanceFunction") is None:
        yield "it names no function of distance"
    if neighbours.WhichOneof("WeightingScheme") is None:
        yield "it does not say how neighbours are weighed"
    if neighbours.numberOfNeighbors.defaultValue < 1:
        yield f"it asks for {neighbours.numberOfNeighbors.defaultValue} neighbours"
    default = _default(neighbours)
    if not labels and default is None:
        yield "it has no samples, and no label that it gives without them"
    yield from other_count(model, index.numberOfDimensions, "a sample has")
    known: Labels | None = read_labels(model.spec)
    if known is None and default is not None:
        known = (default,) if isinstance(default, str) else (int(default),)
    yield from unfit_label_type(model, known)


@lowers_model(_problems)
def lower_classifier(stage: Stage) -> None:
    """The class with most of the nearest samples, each of which counts the same, or by the inverse of its distance.

    The distance is the one that the file names, squared. Samples at the very place count alone. Of equal classes the first in
    the order of the alphabet, or of the numbers, wins.
    """
    neighbours, b = stage.model.spec.kNearestNeighborsClassifier, stage.b
    samples = neighbours.nearestNeighborsIndex.floatSamples
    if not samples:
        _write_default(stage, _default(neighbours))
        return
    labels = read_labels(stage.model.spec) or ()
    # the file labels samples; votes are counted by class
    of_samples = np.array([list(labels).index(label) for label in _of_samples(stage.model)], np.int64)
    places = b.constant(f64([list(sample.vector) for sample in samples]), "samples")
    apart = b.op("Sub", places, stage.vector())
    distance = b.op("ReduceSum", b.op("Mul", apart, apart), _SECOND, keepdims=0)
    count = np.array([min(int(neighbours.numberOfNeighbors.defaultValue), len(samples))], np.int64)
    # the squared distance has the same order as the distance itself
    nearest, which = b.op("TopK", distance, count, axis=0, largest=0, outputs=2)
    weight = b.op("Expand", f64(1), b.op("Shape", nearest))
    if neighbours.WhichOneof("WeightingScheme") == "inverseDistanceWeighting":
        # 1 / 0 would be infinite: a sample at the very place decides, and several of them vote
        here = b.op("Cast", b.op("Equal", nearest, f64(0)), to=int(ir.DataType.DOUBLE))
        any_here = b.op("Greater", b.op("ReduceMax", here, _FIRST, keepdims=1), f64(0))
        weight = b.op("Where", any_here, here, b.op("Div", f64(1), nearest))
    classes = b.op("Gather", of_samples, which)
    votes = b.op("ScatterElements", f64(np.zeros(len(labels))), classes, weight, axis=0, reduction="add")
    stage.write_class(labels, b.op("Div", votes, b.op("ReduceSum", votes, _FIRST, keepdims=1)))


def _write_default(stage: Stage, default: str | int | None) -> None:
    """A classifier that has not learned anything gives its default label, and no chances."""
    signature, b = stage.model.signature, stage.b
    label = label_array((default,) if isinstance(default, str) else (int(default or 0),))
    for feature in signature.outputs:
        if feature.name == signature.predicted_label:
            stage.write(feature.name, b.op("Gather", label, np.array(0, np.int64)))
        elif feature.kind == "dictionary":
            stage.write(feature.name, Dictionary((), b.copy(f64(np.zeros(0)))))
