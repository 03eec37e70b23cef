"""Detections: what a detector finds in a picture, as its non-maximum suppression or the cells of its grids give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.errors import RunError
from coreproof.model.base import Model
from coreproof.model.coreml.features import read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature
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


IOU, CONFIDENCE = 0.45, 0.25
"""The thresholds of Ultralytics' own Core ML export: of boxes that overlap by more the surest stays, and none less sure."""
_GRIDS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the grids in whose cells YOLO networks place boxes: of most, with a fourth for large or small things, of v3-tiny."""


def box_count(shape: Sequence[object], size: tuple[int, int]) -> int | None:
    """How many boxes a YOLO network's raw output of this shape holds for a picture of this width and height; None for others.

    [1, 4 + classes, boxes] (v8 and later) has a box for each cell of its grids, [1, boxes, 5 + classes] (v5, v7, YOLOX) one or
    three.
    """
    if len(shape) != 3 or shape[0] != 1 or not all(isinstance(length, int) for length in shape):
        return None
    cells = {sum(-(-size[0] // step) * -(-size[1] // step) for step in steps) for steps in _GRIDS}
    across, along = int(str(shape[1])), int(str(shape[2]))
    if along in cells and 4 < across < along:
        return along
    return across if across in cells | {3 * count for count in cells} and 5 < along < across else None


def boxes_of_grids(value: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
    """The boxes and scores of a YOLO network's raw output, [boxes, 4] in pixels and [boxes, classes]; None for other outputs.

    ``size``: width and height of the picture that the network saw. What has its shape and no scores from 0 to 1 is none, either.
    """
    count = box_count(value.shape, size)
    if count is None or value.dtype.kind != "f" or not np.isfinite(value).all():
        return None
    rows = value[0].astype(np.float64)
    if rows.shape[1] == count:
        rows = rows.T
        scores = rows[:, 4:]
    else:
        # the class given an object, and how sure the network is that there is any
        scores = rows[:, 4:5] * rows[:, 5:]
    told = scores.min() >= 0 and scores.max() <= 1 and rows[:, 2:4].min() >= 0
    return (rows[:, :4], scores) if told else None


def suppressed(
    confidence: np.ndarray, coordinates: np.ndarray, *, iou: float, least: float, per_class: bool
) -> np.ndarray:
    """Which rows stay, the surest first; [boxes, classes] and [boxes, 4] (centre, width, height).

    NonMaximumSuppression.proto: a box goes that overlaps a surer one, that stays, by more than ``iou``; of its own class alone
    where ``per_class``. The first of equally sure ones comes first.
    """
    best, classes = confidence.max(axis=1), confidence.argmax(axis=1)
    middle, size = coordinates[:, :2].astype(np.float64), coordinates[:, 2:].astype(np.float64)
    low, high, area = middle - size / 2, middle + size / 2, size.prod(axis=1)
    kept: list[int] = []
    for row in np.argsort(-best, kind="stable"):
        if best[row] < least:
            break
        others = [other for other in kept if not per_class or classes[other] == classes[row]]
        shared = np.clip(np.minimum(high[row], high[others]) - np.maximum(low[row], low[others]), 0, None).prod(axis=1)
        together = area[row] + area[others] - shared
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = np.where(together > 0, shared / together, 0.0)
        if not (overlap > iou).any():
            kept.append(int(row))
    return np.array(kept, np.int64)


@dataclass(frozen=True)
class RawBoxes:
    """A YOLO network's one raw output, for a picture of ``size`` pixels: width and height."""

    output: str
    size: tuple[int, int]
    labels: Sequence[str | int] | None

    def detections(self, outputs: Mapping[str, object]) -> list[Detection]:
        """The boxes that Ultralytics' thresholds leave, the surest first, in shares of the picture.

        Raises RunError for numbers that are no boxes with scores from 0 to 1.
        """
        read = boxes_of_grids(np.asarray(outputs[self.output]), self.size)
        if read is None:
            raise RunError(
                "the network's rows are no boxes with scores from 0 to 1",
                where=f"output {self.output!r}",
                expected="four numbers of a box, then scores after their sigmoid",
                fix="convert it with --detection, which says what its outputs hold",
            )
        rows, scores = read
        shares = rows / np.array(self.size * 2, np.float64)
        found = []
        for row in suppressed(scores, shares, iou=IOU, least=CONFIDENCE, per_class=True):
            best = int(scores[row].argmax())
            label = self.labels[best] if self.labels and best < len(self.labels) else None
            x, y, width, height = (float(length) for length in shares[row])
            found.append(Detection(best, label, float(scores[row, best]), (x, y, width, height)))
        return found


def detector_of(model: Model, labels: Sequence[str] | None = None) -> DetectorOutputs | RawBoxes | None:
    """How a model's outputs are read as boxes: those of a suppression, or a YOLO network's own; None for other models.

    ``labels`` name the classes of a model that brings no names.
    """
    if not isinstance(model, CoreMLModel):
        return _raw_boxes(model, labels)
    made = {feature.name for feature in model.signature.outputs}
    for spec in classic.nodes([model.spec]):
        if spec.WhichOneof("Type") == "nonMaximumSuppression":
            nms = spec.nonMaximumSuppression
            if {nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName} <= made:
                names = str(nms.confidenceOutputFeatureName), str(nms.coordinatesOutputFeatureName)
                return DetectorOutputs(*names, read_labels(spec) or model.signature.labels)
    return _raw_boxes(model, labels)


def _raw_boxes(model: Model, labels: Sequence[str] | None) -> RawBoxes | None:
    """By the shapes that are declared: a box for each cell of the grids over the picture."""
    inputs = [f for f in model.signature.inputs if not f.optional]
    outputs = [f for f in model.signature.outputs if f.shape is not None and len(f.shape) == 3]
    size = _picture_size(inputs[0]) if len(inputs) == 1 else None
    fit = [f for f in outputs if size is not None and box_count(f.shape or (), size) is not None]
    if size is None or len(fit) != 1:
        return None
    return RawBoxes(fit[0].name, size, model.signature.labels or labels)


def _picture_size(feature: Feature) -> tuple[int, int] | None:
    """Width and height in pixels, where a feature declares a picture or [N, C, H, W]."""
    if feature.image is not None:
        return feature.image.width, feature.image.height
    height, width = (feature.shape or ())[2:] if len(feature.shape or ()) == 4 else (None, None)
    return (width, height) if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0 else None
