"""Detections: what a detector that ends in non-maximum suppression finds in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from coreproof.model.base import Model
from coreproof.model.coreml.features import read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats import classic


@dataclass(frozen=True)
class Detection:
    """One box: its best class (None where the model has no labels), how sure of it, and centre, width and height.

    The lengths are in the unit of the model: mostly shares of the picture's width and height.
    """

    index: int
    label: str | int | None
    confidence: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectorOutputs:
    """Which outputs of a model hold confidences and coordinates, a row a box, and the labels of the classes."""

    confidences: str
    coordinates: str
    labels: tuple[str, ...] | tuple[int, ...] | None

    def detections(self, outputs: Mapping[str, object]) -> list[Detection]:
        """The boxes, in the model's order: the surest first."""
        rows = zip(np.asarray(outputs[self.confidences]), np.asarray(outputs[self.coordinates]), strict=True)
        found = []
        for scores, box in rows:
            best = int(np.argmax(scores))
            label = self.labels[best] if self.labels and best < len(self.labels) else None
            x, y, width, height = (float(length) for length in box[:4])
            found.append(Detection(best, label, float(scores[best]), (x, y, width, height)))
        return found


def detector_of(model: Model) -> DetectorOutputs | None:
    """How a model's outputs are read as boxes, where a non-maximum suppression makes them; None for other models."""
    if not isinstance(model, CoreMLModel):
        return None
    made = {feature.name for feature in model.signature.outputs}
    for spec in classic.nodes([model.spec]):
        if spec.WhichOneof("Type") == "nonMaximumSuppression":
            nms = spec.nonMaximumSuppression
            if {nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName} <= made:
                names = str(nms.confidenceOutputFeatureName), str(nms.coordinatesOutputFeatureName)
                return DetectorOutputs(*names, read_labels(spec) or model.signature.labels)
    return None
