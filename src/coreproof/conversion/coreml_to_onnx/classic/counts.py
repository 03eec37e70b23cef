"""How many numbers a model is fed, and whether that, its labels and its outputs fit its parameters: what several kinds ask."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from coreproof.conversion.coreml_to_onnx.classic.held import Labels
from coreproof.model.coreml.features import read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature


def fed_count(model: CoreMLModel) -> int | None:
    """The numbers in all inputs together; None where an input does not say its shape."""
    counts = [count_of(feature) for feature in model.signature.inputs]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def count_of(feature: Feature) -> int | None:
    """The numbers in a feature; None for one that holds none, or does not say how many."""
    if feature.kind in ("double", "int64"):
        return 1
    if feature.kind != "tensor" or feature.shape is None or feature.ranges or feature.enumerated:
        return None
    lengths = [d for d in feature.shape if isinstance(d, int)]
    return prod(lengths) if len(lengths) == len(feature.shape) else None


def other_count(model: CoreMLModel, wanted: int, what: str) -> Iterator[str]:
    """The problem of a model that is fed another number of values than it has parameters for."""
    fed = fed_count(model)
    if fed is not None and fed != wanted:
        names = ", ".join(feature.name for feature in model.signature.inputs[:4])
        yield f"it is fed {fed} numbers ({names}{', ...' if len(model.signature.inputs) > 4 else ''}), and {what} {wanted}"


def labels_of(model: CoreMLModel, count: int) -> Labels:
    """The class labels; 0, 1, ... where the file has none."""
    return read_labels(model.spec) or tuple(range(count))


def unfit_labels(model: CoreMLModel, wanted: int) -> Iterator[str]:
    """The problem of a classifier with another number of labels than of classes, or whose label is of another type."""
    labels = read_labels(model.spec)
    if labels is not None and len(labels) != wanted:
        yield f"it tells {wanted} classes apart, and has {len(labels)} labels"
    yield from unfit_label_type(model, labels)


def unfit_label_type(model: CoreMLModel, labels: Labels | None) -> Iterator[str]:
    """The problem of a classifier whose output is declared as a text where its labels are numbers, or the other way round."""
    predicted = next((f for f in model.signature.outputs if f.name == model.signature.predicted_label), None)
    if predicted is None:
        yield "no output is named as its predicted class (predictedFeatureName)"
    elif labels and predicted.kind != ("string" if isinstance(labels[0], str) else "int64"):
        yield f"its output {predicted.name!r} is declared as {predicted.kind}, and its labels are of another type"
