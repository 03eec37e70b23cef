"""MIL's non_maximum_suppression: the best of overlapping boxes, padded to a fixed number."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers

_NEVER = np.float32(np.finfo(np.float32).min)


@lowers("non_maximum_suppression")
def non_maximum_suppression(
    low: Lowering,
    *,
    boxes: Operand,
    scores: Operand,
    iou_threshold: float,
    score_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[ir.Value, ...]:
    """Boxes [n, B, 4] (centre and size) and scores [n, B, K]; of a picture in which none survives, the best one does."""
    marks = low.op("Transpose", low.value(scores), perm=[0, 2, 1])
    chosen, index, valid = _chosen(
        low, low.value(boxes), marks, iou_threshold, score_threshold, int(max_boxes), per_class_suppression
    )
    rows = low.op("Unsqueeze", valid, np.array([2], np.int64))
    picked = [low.op("Where", rows, _rows(low, low.value(v), index), np.float32(0)) for v in (boxes, scores)]
    counts = low.op("ReduceSum", low.cast(valid, ir.DataType.INT32), np.array([1], np.int64), keepdims=0)
    return (*picked, chosen, counts)


@lowers("non_maximum_suppression", since="iOS17")
def non_maximum_suppression_17(
    low: Lowering,
    *,
    boxes: Operand,
    scores: Operand,
    iou_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[ir.Value, ...]:
    """The boxes along the last axis, [n, 4, B] and [n, K, B], and no threshold for the scores."""
    corners = low.op("Transpose", low.value(boxes), perm=[0, 2, 1])
    chosen, index, valid = _chosen(
        low, corners, low.value(scores), iou_threshold, None, int(max_boxes), per_class_suppression
    )
    columns = low.op("Unsqueeze", valid, np.array([1], np.int64))
    picked = []
    for value in (boxes, scores):
        rows = _rows(low, low.op("Transpose", low.value(value), perm=[0, 2, 1]), index)
        picked.append(low.op("Where", columns, low.op("Transpose", rows, perm=[0, 2, 1]), np.float32(0)))
    return (*picked, chosen)


def _chosen(
    low: Lowering,
    boxes: ir.Value,
    scores: ir.Value,
    overlap: float,
    least: float | None,
    most: int,
    per_class: bool,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Of scores [n, K, B]: the numbers of the boxes by falling score with -1 behind them, the same with 0, and which are real."""
    best = low.op("ReduceMax", scores, np.array([1], np.int64), keepdims=0)  # [n, B]
    judged = low.op("Unsqueeze", best, np.array([1], np.int64))
    if per_class:
        # a box competes with those of the class that it is thought to be
        _, classes, _ = low.shape(scores)
        if classes is None:
            raise low.refuse("the number of classes is not known")
        own = low.op("Equal", low.op("ArgMax", scores, axis=1, keepdims=1), np.arange(classes).reshape(1, -1, 1))
        judged = low.op("Where", own, scores, _NEVER)
    threshold = np.array([_NEVER if least is None else least], np.float32)
    picked = low.op(  # picture, class, box
        "NonMaxSuppression", boxes, judged, np.array([most], np.int64), np.array([overlap], np.float32), threshold,
        center_point_box=1,
    )  # fmt: skip
    pairs = low.op("Gather", picked, np.array([0, 2], np.int64), axis=1)
    none = low.op("Expand", np.zeros((), np.float32), low.dims(best))
    ones = low.op("Expand", np.ones(1, np.float32), low.op("Slice", low.dims(pairs), np.array([0]), np.array([1])))
    survived = low.op("Greater", low.op("ScatterND", none, pairs, ones), np.float32(0))
    if least is not None:
        some = low.op("ReduceMax", low.cast(survived, ir.DataType.INT32), np.array([1], np.int64), keepdims=1)
        top = low.op("Equal", best, low.op("ReduceMax", best, np.array([1], np.int64), keepdims=1))
        survived = low.op("Or", survived, low.op("And", top, low.op("Equal", some, np.int32(0))))
    marked = low.op("Where", survived, best, np.float32(-np.inf))
    _, count = low.shape(best)
    if count is None:
        raise low.refuse("the number of boxes is not known")
    values, index = low.ops("TopK", marked, np.array([min(most, count)], np.int64), axis=1, outputs=2)
    if most > count:
        pad = np.array([0, 0, 0, most - count], np.int64)
        values = low.op("Pad", values, pad, np.float32(-np.inf))
        index = low.op("Pad", index, pad, np.int64(0))
    valid = low.op("Not", low.op("IsInf", values, detect_positive=0))
    return low.cast(low.op("Where", valid, index, np.int64(-1)), ir.DataType.INT32), index, valid


def _rows(low: Lowering, values: ir.Value, index: ir.Value) -> ir.Value:
    """[n, B, k] at [n, m]: [n, m, k]."""
    return low.op("GatherND", values, low.op("Unsqueeze", index, np.array([2], np.int64)), batch_dims=1)
