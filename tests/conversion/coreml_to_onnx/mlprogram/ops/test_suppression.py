"""The best of overlapping boxes, against a plain loop over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import run
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("suppression")

RANDOM = np.random.default_rng(9)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    low = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2)
    high = np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / float(a[2] * a[3] + b[2] * b[3] - shared)


def plain(
    boxes: np.ndarray, scores: np.ndarray, most: int, limit: float, least: float | None, per_class: bool
) -> list[int]:
    """Of [B, 4] and [B, K] the numbers of the boxes that stay; the first of equal ones is the better."""
    best, kind = scores.max(axis=1), scores.argmax(axis=1)
    kept: list[int] = []
    for number in np.argsort(-best, kind="stable"):
        if least is not None and best[number] < least:
            break
        rivals = [k for k in kept if not per_class or kind[k] == kind[number]]
        if all(overlap(boxes[number], boxes[k]) <= limit for k in rivals):
            kept.append(int(number))
    if not kept and least is not None:
        kept = [int(np.argmax(best))]
    return kept[:most]


@family.exercises("non_maximum_suppression", target="iOS15")
@family.exercises("non_maximum_suppression", target="iOS17")
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(("most", "limit", "least"), [(4, 0.2, 0.4), (30, 0.5, 0.7), (6, 0.0, 2.0), (12, 0.9, 0.0)])
@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_boxes_by_falling_score(
    tmp_path: Path, target: str, most: int, limit: float, least: float, per_class: bool
) -> None:
    boxes = np.concatenate([RANDOM.uniform(0, 8, (2, 12, 2)), RANDOM.uniform(1, 5, (2, 12, 2))], axis=2).astype(
        np.float32
    )
    scores = RANDOM.uniform(size=(2, 12, 3)).astype(np.float32)
    scores[0, 5] = scores[0, 2]  # a tie
    settings: dict[str, Any] = {
        "iou_threshold": np.float32(limit),
        "max_boxes": most,
        "per_class_suppression": per_class,
    }
    old = target == "iOS15"

    def program(mb: Any, a: Any, b: Any) -> Any:
        if old:
            return mb.non_maximum_suppression(boxes=a, scores=b, score_threshold=np.float32(least), **settings)
        return mb.non_maximum_suppression(boxes=a, scores=b, **settings)

    fed = [boxes, scores] if old else [np.ascontiguousarray(v.transpose(0, 2, 1)) for v in (boxes, scores)]
    model = mil(tmp_path, program, *(v.shape for v in fed), target=target)
    coordinates, marks, numbers, *counts = run(model, a=fed[0], b=fed[1]).values()
    if not old:
        coordinates, marks = (v.transpose(0, 2, 1) for v in (coordinates, marks))
    assert coordinates.shape == (2, most, 4)
    assert marks.shape == (2, most, 3)
    assert numbers.shape == (2, most)
    for picture in range(2):
        wanted = plain(boxes[picture], scores[picture], most, limit, least if old else None, per_class)
        assert numbers[picture].tolist() == wanted + [-1] * (most - len(wanted))
        np.testing.assert_array_equal(coordinates[picture, : len(wanted)], boxes[picture][wanted])
        np.testing.assert_array_equal(marks[picture, : len(wanted)], scores[picture][wanted])
        assert not coordinates[picture, len(wanted) :].any()
        if old:
            assert counts[0][picture] == len(wanted)
