"""MIL's non_maximum_suppression."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.suppression import Survivors, suppressed


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
    """Boxes [n, B, 4] and scores [n, B, K]; the chosen ones, their numbers, and how many there are."""
    kept = _kept(low, boxes, scores, iou_threshold, score_threshold, max_boxes, per_class_suppression)
    return kept.boxes, kept.scores, low.i32(kept.numbers), low.i32(kept.counts)


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
    """The boxes along the last axis, [n, 4, B] and [n, K, B], no threshold for the scores, and no counts."""
    rows, marks = (low.op("Transpose", low.value(v), perm=[0, 2, 1]) for v in (boxes, scores))
    kept = _kept(low, rows, marks, iou_threshold, None, max_boxes, per_class_suppression)
    return (*(low.op("Transpose", v, perm=[0, 2, 1]) for v in (kept.boxes, kept.scores)), low.i32(kept.numbers))


def _kept(
    low: Lowering,
    boxes: Operand,
    scores: Operand,
    overlap: float,
    least: float | None,
    most: int,
    per_class: bool,
) -> Survivors:
    classes = low.fixed(low.shape(scores)[2:], "the number of classes is not known")[0] if per_class else None
    return suppressed(
        low.b,
        low.value(boxes),
        low.value(scores),
        overlap=np.array([overlap], np.float32),
        least=None if least is None else np.array([least], np.float32),
        most=np.array([int(most)], np.int64),
        classes=classes,
    )
