"""Non-maximum suppression, written out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer


def suppressed(
    boxes: np.ndarray, scores: np.ndarray, iou: float, least: float, most: int, per_class: bool
) -> list[int]:
    """The algorithm as NeuralNetwork.proto tells it."""
    best, classes = scores.max(1), scores.argmax(1)
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    kept: list[int] = []
    for i in np.argsort(-best, kind="stable"):
        if best[i] < least:
            continue
        for j in kept:
            side = np.maximum(0, np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]))
            both = side.prod()
            union = boxes[i, 2:].prod() + boxes[j, 2:].prod() - both
            if (not per_class or classes[i] == classes[j]) and both / union > iou:
                break
        else:
            kept.append(int(i))
    return (kept or [int(best.argmax())])[:most]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("least", "most"), [(0.5, 30), (0.8, 4), (2.0, 5)])
def test_non_maximum_suppression(per_class: bool, least: float, most: int) -> None:
    rng = np.random.default_rng(3)
    boxes = (rng.random((2, 40, 4)) * [1, 1, 0.5, 0.5] + [0, 0, 0.1, 0.1]).astype(np.float32)
    scores = rng.random((2, 40, 3)).astype(np.float32)
    found = run_layer(
        "NonMaximumSuppression", boxes, scores, outputs=4,
        iouThreshold=0.3, scoreThreshold=least, maxBoxes=most, perClassSuppression=per_class,
    )  # fmt: skip
    for entry in range(2):
        kept = suppressed(boxes[entry], scores[entry], 0.3, least, most, per_class)
        padding = most - len(kept)
        assert found[2][entry].tolist() == kept + [-1] * padding
        assert found[3][entry] == len(kept)
        close(found[0][entry], np.pad(boxes[entry][kept], ((0, padding), (0, 0))))
        close(found[1][entry], np.pad(scores[entry][kept], ((0, padding), (0, 0))))
