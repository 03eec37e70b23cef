"""NonMaximumSuppression: picks the best boxes out of overlapping ones, padded to a fixed number."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers

_NEVER = float(np.finfo(np.float32).min)


@lowers("NonMaximumSuppression")
def non_maximum_suppression(
    layer: Layer,
    boxes: Blob,
    scores: Blob,
    iou: Blob | None = None,
    least: Blob | None = None,
    most: Blob | None = None,
    *,
    iouThreshold: float = 0.0,
    scoreThreshold: float = 0.0,
    maxBoxes: int = 0,
    perClassSuppression: bool = False,
) -> list[Blob]:
    """Boxes [B, N, 4] (centre x, centre y, width, height) and scores [B, N, C]; one suppression a batch entry."""
    b = layer.b
    (batch,) = layer.fixed(layer.shape(boxes)[:1], "its batch size")
    overlap: Operand = f32([iouThreshold]) if iou is None else b.op("Reshape", layer.exact(iou), i64([1]))
    threshold: Operand = f32([scoreThreshold]) if least is None else b.op("Reshape", layer.exact(least), i64([1]))
    limit: Operand = i64([maxBoxes]) if most is None else b.op("Reshape", layer.integers(most), i64([1]))
    parts: list[tuple[ir.Value, ...]] = []
    for entry in range(batch):
        these, marks = (
            b.op("Slice", layer.exact(x), i64([entry]), i64([entry + 1]), i64([0])) for x in (boxes, scores)
        )
        best = b.op("ReduceMax", marks, i64([2]), keepdims=0)  # [1, N]
        judged = b.op("Unsqueeze", best, i64([1]))
        if perClassSuppression:
            (classes,) = layer.fixed(layer.shape(scores)[-1:], "its number of classes")
            highest = b.op("Equal", b.op("ArgMax", marks, axis=2, keepdims=1), i64(range(classes)))
            # a box stands for its best class alone: in all others it never passes the threshold
            judged = b.op("Transpose", b.op("Where", highest, marks, f32(_NEVER)), perm=[0, 2, 1])
        parts.append(_one(layer, these, marks, b.op("Squeeze", best, i64([0])), judged, limit, overlap, threshold))
    joined = [b.op("Concat", *column, axis=0) if batch > 1 else column[0] for column in zip(*parts, strict=True)]
    return [Blob(v) for v in joined][: len(layer.outputs)]


def _one(
    layer: Layer,
    boxes: ir.Value,
    marks: ir.Value,
    best: ir.Value,
    judged: ir.Value,
    limit: Operand,
    overlap: Operand,
    threshold: Operand,
) -> tuple[ir.Value, ...]:
    b = layer.b
    picked = b.op("NonMaxSuppression", boxes, judged, limit, overlap, threshold, center_point_box=1)  # [K, 3]
    index = b.op("Reshape", b.op("Slice", picked, i64([2]), i64([3]), i64([1])), i64([-1]))
    # suppression goes class by class; the result is ordered over all of them
    count = b.op("Shape", index)
    _, order = b.op("TopK", b.op("Gather", best, index), count, axis=0, largest=1, sorted=1, outputs=2)
    ordered = b.op(
        "Concat",
        b.op("Gather", index, order),
        b.op("Unsqueeze", b.op("ArgMax", best, axis=0, keepdims=0), i64([0])),
        axis=0,
    )
    kept = b.op("Max", b.op("Min", count, limit), i64([1]))  # where none survives, the best one does
    chosen = b.op("Slice", ordered, i64([0]), kept, i64([0]))
    missing = b.op("Sub", limit, kept)
    picked_rows = (b.op("Gather", b.op("Squeeze", v, i64([0])), chosen, axis=0) for v in (boxes, marks))
    rows = [b.op("Unsqueeze", _padded(layer, v, missing, 0, 2), i64([0])) for v in picked_rows]
    ids = b.op("Unsqueeze", _padded(layer, layer.floats(chosen), missing, -1, 1), i64([0]))
    return rows[0], rows[1], ids, layer.floats(kept)


def _padded(layer: Layer, value: ir.Value, missing: ir.Value, fill: float, rank: int) -> ir.Value:
    """The first dimension longer by ``missing`` at its end."""
    amounts = layer.b.op("Concat", i64([0] * rank), missing, i64([0] * (rank - 1)), axis=0)
    return layer.b.op("Pad", value, amounts, f32(fill))
