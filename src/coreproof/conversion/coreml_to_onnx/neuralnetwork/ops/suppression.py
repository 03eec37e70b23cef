"""NonMaximumSuppression: picks the best boxes out of overlapping ones, padded to a fixed number."""

from __future__ import annotations

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.suppression import suppressed


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
    classes = None
    if perClassSuppression and (classes := layer.shape(scores)[-1]) is None:
        raise layer.refuse("its number of classes is only known when the model runs")
    kept = suppressed(
        b,
        layer.exact(boxes),
        layer.exact(scores),
        overlap=f32([iouThreshold]) if iou is None else b.op("Reshape", layer.exact(iou), i64([1])),
        least=f32([scoreThreshold]) if least is None else b.op("Reshape", layer.exact(least), i64([1])),
        most=i64([maxBoxes]) if most is None else b.op("Reshape", layer.integers(most), i64([1])),
        classes=classes,
    )
    results = [kept.boxes, kept.scores, layer.floats(kept.numbers), layer.floats(kept.counts)]
    return [Blob(value) for value in results][: len(layer.outputs)]
