"""Non-maximum suppression of both Core ML formats by ONNX's: the best of overlapping boxes, padded to a fixed number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder, Operand

_NEVER = np.float32(np.finfo(np.float32).min)


class Survivors(NamedTuple):
    """The boxes that stay, by falling score: [n, most, 4], [n, most, K], int64 [n, most] with -1 behind the last, int64 [n]."""

    boxes: ir.Value
    scores: ir.Value
    numbers: ir.Value
    counts: ir.Value


def suppressed(
    b: OnnxBuilder,
    boxes: ir.Value,
    scores: ir.Value,
    *,
    overlap: Operand,
    least: Operand | None,
    most: Operand,
    classes: int | None,
) -> Survivors:
    """Boxes [n, B, 4] (centre and size) and scores [n, B, K]; ``overlap``, ``least`` and ``most`` are arrays of one.

    Where ``least`` is given and nothing of a picture reaches it, its best box stays. ``classes``: how many there are, where each
    box competes with those of the class alone that it is thought to be; None where all compete.
    """
    axis = np.array([2], np.int64)
    best = b.op("ReduceMax", scores, axis, keepdims=0)  # [n, B]
    judged = b.op("Unsqueeze", best, np.array([1], np.int64))
    if classes is not None:
        # a box competes in its own class alone: in all others its score is the least there is
        own = b.op("Equal", b.op("ArgMax", scores, axis=2, keepdims=1), np.arange(classes, dtype=np.int64))
        judged = b.op("Transpose", b.op("Where", own, scores, _NEVER), perm=[0, 2, 1])
    if least is not None:
        # here, for Core ML leaves out what is below the threshold, and ONNX what is at it too
        judged = b.op("Where", b.op("Less", judged, least), _NEVER, judged)
    picked = b.op("NonMaxSuppression", boxes, judged, most, overlap, np.array([_NEVER]), center_point_box=1)
    pairs = b.op("Gather", picked, np.array([0, 2], np.int64), axis=1)  # picture and box
    shape = b.op("Shape", best)
    none = b.op("Expand", np.zeros((), np.float32), shape)
    ones = b.op("Expand", np.ones(1, np.float32), _part(b, b.op("Shape", pairs), 0))
    # marks in the order of the boxes, instead of numbers in the order of their classes
    survived = b.op("Greater", b.op("ScatterND", none, pairs, ones), np.float32(0))
    if least is not None:
        row = np.array([1], np.int64)
        any_left = b.op("ReduceMax", b.op("Cast", survived, to=ir.DataType.INT64), row, keepdims=1)
        # one alone, where several are the best
        first, count = b.op("ArgMax", best, axis=1, keepdims=0), _part(b, shape, 1)
        top = b.op("OneHot", first, count, np.array([0, 1], np.int64), axis=1)
        survived = b.op("Or", survived, b.op("Greater", b.op("Sub", top, any_left), np.int64(0)))
    # suppression goes class by class; the result is ordered over all of them
    marked = b.op("Where", survived, best, np.float32(-np.inf))
    there = b.op("Min", most, _part(b, shape, 1))
    values, index = b.op("TopK", marked, there, axis=1, outputs=2)
    missing = b.op("Concat", np.zeros(3, np.int64), b.op("Sub", most, there), axis=0)
    values = b.op("Pad", values, missing, np.float32(-np.inf))
    index = b.op("Pad", index, missing, np.int64(0))
    real = b.op("Not", b.op("IsInf", values, detect_positive=0))
    places, wide = b.op("Unsqueeze", index, axis), b.op("Unsqueeze", real, axis)
    kept, marks = (
        b.op("Where", wide, b.op("GatherND", v, places, batch_dims=1), np.float32(0)) for v in (boxes, scores)
    )
    counts = b.op("ReduceSum", b.op("Cast", real, to=ir.DataType.INT64), np.array([1], np.int64), keepdims=0)
    return Survivors(kept, marks, b.op("Where", real, index, np.int64(-1)), counts)


def _part(b: OnnxBuilder, shape: ir.Value, place: int) -> ir.Value:
    return b.op("Slice", shape, np.array([place], np.int64), np.array([place + 1], np.int64))
