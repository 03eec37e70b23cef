"""Non-maximum suppression as a model of its own, as detectors end that were exported with it: NonMaximumSuppression.proto."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage
from coreproof.model.budget import afford
from coreproof.model.coreml.features import read_labels
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature

_FIRST, _SECOND = np.array([0], np.int64), np.array([1], np.int64)
_NAMED = ("confidenceInputFeatureName", "coordinatesInputFeatureName")
_MADE = ("confidenceOutputFeatureName", "coordinatesOutputFeatureName")
_OPTIONAL = ("iouThresholdInputFeatureName", "confidenceThresholdInputFeatureName")


def _problems(model: CoreMLModel) -> Iterator[str]:
    nms, signature = model.spec.nonMaximumSuppression, model.signature
    inputs, outputs = {f.name: f for f in signature.inputs}, {f.name: f for f in signature.outputs}
    for fields, declared, what in ((_NAMED, inputs, "input"), (_MADE, outputs, "output")):
        for field in fields:
            name = getattr(nms, field)
            if name not in declared:
                yield f"{field} names {name!r}, which is no {what}"
            elif declared[name].kind != "tensor":
                yield f"its {what} {name!r} is to be an array, and is a {declared[name].kind}"
    for field in _OPTIONAL:
        name = getattr(nms, field)
        if name in inputs and inputs[name].kind not in ("double", "int64", "tensor"):
            yield f"its threshold {name!r} is to be a number, and is a {inputs[name].kind}"
    if not 0 <= nms.iouThreshold <= 1:
        yield f"its threshold of overlap is {nms.iouThreshold}, and lies between 0 and 1"
    if not nms.confidenceThreshold >= 0:
        yield f"its threshold of confidence is {nms.confidenceThreshold}, and is not below 0"
    yield from _shape_problems(inputs.get(nms.confidenceInputFeatureName), inputs.get(nms.coordinatesInputFeatureName))
    labels = read_labels(model.spec)
    classes = _length(inputs.get(nms.confidenceInputFeatureName), -1)
    if labels and classes is not None and len(labels) != classes:
        yield f"it has {len(labels)} labels, and confidences of {classes} classes"


def _shape_problems(confidences: Feature | None, coordinates: Feature | None) -> Iterator[str]:
    for feature in (confidences, coordinates):
        if feature is not None and feature.shape and len(feature.shape) < 2:
            yield f"{feature.name!r} is to have a row a box, and is {feature}"
    width, rows = _length(coordinates, -1), (_length(confidences, -2), _length(coordinates, -2))
    if width not in (None, 4):
        yield f"{coordinates.name if coordinates else ''!r} is to hold 4 numbers a box, and holds {width}"
    if None not in rows and rows[0] != rows[1]:
        yield f"it has confidences of {rows[0]} boxes, and coordinates of {rows[1]}"


def _length(feature: Feature | None, axis: int) -> int | None:
    if feature is None or not feature.shape or len(feature.shape) < -axis or feature.ranges or feature.enumerated:
        return None
    length = feature.shape[axis]
    return length if isinstance(length, int) and length > 0 else None


@lowers_model(_problems)
def lower_suppression(stage: Stage) -> None:
    """The boxes of enough confidence that no better one overlaps too far, the best first; of equal ones the first.

    Confidences [N, C] and coordinates [N, 4] (centre, width, height). A box is as good as its best class; where suppression goes
    by class, it competes with the boxes of that class alone. Rows are cut off, or filled up with zeros, as the outputs declare.
    """
    nms, b = stage.model.spec.nonMaximumSuppression, stage.b
    confidences = _rows(stage, nms.confidenceInputFeatureName)
    boxes = _rows(stage, nms.coordinatesInputFeatureName)
    best = b.op("ReduceMax", confidences, _SECOND, keepdims=0)
    least = _threshold(stage, nms.confidenceThresholdInputFeatureName, nms.confidenceThreshold)
    overlap = _threshold(stage, nms.iouThresholdInputFeatureName, nms.iouThreshold)
    enough = b.op("GreaterOrEqual", best, least)
    # stable: TopK gives the first of equal ones first
    count = b.op("Shape", best)
    # boxes of too little confidence go to the end, where nothing reads them
    order = b.op("TopK", b.op("Where", enough, best, np.array(-np.inf)), count, axis=0, outputs=2)[1]
    candidates = b.op("Compress", order, b.op("Gather", enough, order), axis=0)
    sorted_boxes = b.op("Gather", boxes, candidates)
    classes = (
        b.op("Gather", b.op("ArgMax", confidences, axis=1, keepdims=0), candidates) if nms.pickTop.perClass else None
    )
    kept = b.op("Compress", candidates, _survivors(stage, sorted_boxes, classes, overlap), axis=0)
    for name, rows in ((nms.confidenceOutputFeatureName, confidences), (nms.coordinatesOutputFeatureName, boxes)):
        stage.write(name, _fitted(stage, b.op("Gather", rows, kept)))


def _rows(stage: Stage, name: str) -> ir.Value:
    """An input of a row a box, as float64; a batch of one before it is left out."""
    value = stage.numbers(name)
    if value.shape is None or len(value.shape) == 2:  # a file need not say the shape, which is that of rows then
        return value
    width = value.shape[-1] if len(value.shape) else None
    if not isinstance(width, int):
        raise stage.refuse(f"input {name!r} does not say how many numbers a box has", found=str(value.shape))
    return stage.b.op("Reshape", value, np.array([-1, width], np.int64))


def _threshold(stage: Stage, name: str, stored: float) -> ir.Value:
    """What is fed under that name, whether the stage declares it or its pipeline alone; else what the file stores."""
    if name not in stage.held:
        return stage.b.constant(np.array([stored]), "threshold")
    stage.may_be_left_out(name)
    return stage.flat(stage.numbers(name, default=stored))


def _survivors(stage: Stage, boxes: ir.Value, classes: ir.Value | None, overlap: ir.Value) -> ir.Value:
    """Which boxes, the best first, stay: the first of those that are left does, and takes those out that it overlaps too far."""
    b = stage.b
    middle = b.op("Slice", boxes, _FIRST, np.array([2], np.int64), _SECOND)
    size = b.op("Slice", boxes, np.array([2], np.int64), np.array([4], np.int64), _SECOND)
    half = b.op("Mul", size, np.array(0.5))
    low, high = b.op("Sub", middle, half), b.op("Add", middle, half)
    area = b.op("ReduceProd", size, _SECOND, keepdims=0)
    count = b.op("Gather", b.op("Shape", boxes), np.array(0, np.int64))
    places = b.op("Range", np.array(0, np.int64), count, np.array(1, np.int64))
    everyone = b.op("GreaterOrEqual", places, np.array(0, np.int64))
    nobody = b.op("Not", everyone)
    body = OnnxBuilder("suppress", parent=b)
    body.input(b.unique("round"), "int64", [])
    body.input(b.unique("going"), "bool", [])
    left, stays = (body.input(b.unique(name), "bool", [None]) for name in ("left", "stays"))
    at = body.op("ArgMax", body.op("Cast", left, to=int(ir.DataType.INT32)), axis=0, keepdims=0)
    own = [body.op("Gather", value, at, axis=0) for value in (low, high, area)]
    width = body.op("Sub", body.op("Min", high, own[1]), body.op("Max", low, own[0]))
    shared = body.op("ReduceProd", body.op("Max", width, np.array(0.0)), _SECOND, keepdims=0)
    union = body.op("Sub", body.op("Add", area, own[2]), shared)
    # boxes without an area overlap nothing: 0 / 0 is no number, and no number is more than another
    taken = body.op("Greater", body.op("Div", shared, union), overlap)
    if classes is not None:
        taken = body.op("And", taken, body.op("Equal", classes, body.op("Gather", classes, at)))
    itself = body.op("Equal", places, at)
    remaining = body.op("And", left, body.op("Not", body.op("Or", taken, itself)))
    any_left = body.op("ReduceMax", body.op("Cast", remaining, to=int(ir.DataType.INT32)), _FIRST, keepdims=0)
    go_on = body.op("Greater", any_left, np.array(0, np.int32))
    graph = body.graph([go_on, remaining, body.op("Or", stays, itself)])
    _, result = b.op("Loop", count, np.array(True), everyone, nobody, outputs=2, body=graph)
    result.type, result.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([None])
    return result


def _fitted(stage: Stage, rows: ir.Value) -> ir.Value:
    """The rows, as many at most and at least as either output declares; rows of zeros are added."""
    b = stage.b
    most, least = _bounds(stage)
    if most is not None:
        rows = b.op("Slice", rows, _FIRST, np.array([most], np.int64))
    if least:
        afford("the rows of boxes that are always there", [least, 4], 8, where=stage.where)
        there = b.op("Slice", b.op("Shape", rows), _FIRST, _SECOND)
        lacking = b.op("Max", b.op("Sub", np.array([least], np.int64), there), np.array([0], np.int64))
        # ONNX, Pad: beginnings of both axes, then the ends
        pads = b.op("Concat", np.zeros(2, np.int64), lacking, np.zeros(1, np.int64), axis=0)
        rows = b.op("Pad", rows, pads, np.array(0.0))
    return rows


def _bounds(stage: Stage) -> tuple[int | None, int]:
    nms = stage.model.spec.nonMaximumSuppression
    most: list[int] = []
    least: list[int] = [0]
    for name in (nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName):
        feature = stage.model.signature.output(name)
        if feature.ranges:
            least.append(feature.ranges[0].low)
            most += [feature.ranges[0].high] if feature.ranges[0].high is not None else []
        elif feature.enumerated:
            least.append(min(shape[0] for shape in feature.enumerated))
            most.append(max(shape[0] for shape in feature.enumerated))
        elif feature.shape and isinstance(feature.shape[0], int) and feature.shape[0] > 0:
            least.append(feature.shape[0])
            most.append(feature.shape[0])
    return min(most) if most else None, max(least)
