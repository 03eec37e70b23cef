"""The best of overlapping boxes in Core AI, on both engines, against a plain loop over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.mlprogram.ops.test_suppression import plain
from tests.conversion.mil_to_coreai.test_program import both


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    places, sizes = rng.uniform(0, 8, (2, count, 2)), rng.uniform(1, 5, (2, count, 2))
    return np.concatenate([places, sizes], axis=2)


@pytest.mark.sweep(5)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(
    ("target", "most", "limit", "least"),
    [
        ("iOS15", 4, 0.2, 0.4),  # more than there is room for
        ("iOS15", 30, 0.5, 0.7),  # more room than boxes
        ("iOS15", 6, 0.0, 2.0),  # none reaches the threshold: the best one stays
        ("iOS17", 12, 0.9, None),
        ("iOS17", 1, 0.3, None),
    ],
)
def test_the_best_boxes_stay(
    tmp_path: Path, target: str, most: int, limit: float, least: float | None, per_class: bool, dtype: str
) -> None:
    rng = np.random.default_rng(9)
    boxes, scores = _boxes(rng, 12).astype(dtype), rng.uniform(size=(2, 12, 3)).astype(dtype)
    scores[0, 5] = scores[0, 2]  # a tie
    boxes[1, 3, 2:] = 0  # a box without an area
    settings: dict[str, Any] = {"iou_threshold": limit, "max_boxes": most, "per_class_suppression": per_class}
    if least is not None:
        settings["score_threshold"] = least
    settings = {k: np.dtype(dtype).type(v) if isinstance(v, float) else v for k, v in settings.items()}
    fed = (
        [boxes, scores] if target == "iOS15" else [np.ascontiguousarray(v.transpose(0, 2, 1)) for v in (boxes, scores)]
    )
    model = program(
        tmp_path,
        lambda mb, a, b: mb.non_maximum_suppression(boxes=a, scores=b, **settings),
        [(v.shape, dtype) for v in fed],
        target=target,
    )
    for opened in both(model):
        with opened as running:
            kept, marks, numbers, *counts = running.run({"a": fed[0], "b": fed[1]}).values()
        if target == "iOS17":
            kept, marks = (np.asarray(v).transpose(0, 2, 1) for v in (kept, marks))
        wide = boxes.astype(np.float32)
        for picture in range(2):
            held = (
                np.float32(settings["iou_threshold"]),
                None if least is None else np.float32(settings["score_threshold"]),
            )
            wanted = plain(wide[picture], scores[picture], most, *held, per_class)
            assert numbers[picture].tolist() == wanted + [-1] * (most - len(wanted))
            np.testing.assert_array_equal(kept[picture, : len(wanted)], boxes[picture][wanted])
            np.testing.assert_array_equal(marks[picture, : len(wanted)], scores[picture][wanted])
            assert not kept[picture, len(wanted) :].any()
            assert not marks[picture, len(wanted) :].any()
            if counts:
                assert counts[0][picture] == len(wanted)


@pytest.mark.parametrize("same", [0.0, 0.25, 0.5])
def test_of_boxes_that_are_all_alike_those_stay_that_reach_the_threshold_or_one(tmp_path: Path, same: float) -> None:
    boxes = _boxes(np.random.default_rng(3), 5).astype(np.float32)
    scores = np.full((2, 5, 2), same, np.float32)
    model = program(
        tmp_path,
        lambda mb, a, b: mb.non_maximum_suppression(
            boxes=a, scores=b, iou_threshold=0.5, score_threshold=0.5, max_boxes=4
        ),
        [(boxes.shape, "float32"), (scores.shape, "float32")],
        target="iOS15",
    )
    wanted = [plain(boxes[picture], scores[picture], 4, 0.5, 0.5, False) for picture in range(2)]
    assert all(len(kept) == 1 for kept in wanted) == (same < 0.5)
    for opened in (session(model), *both(model)):
        with opened as running:
            *_, numbers, counts = running.run({"a": boxes, "b": scores}).values()
        assert numbers.tolist() == [kept + [-1] * (4 - len(kept)) for kept in wanted]
        assert counts.tolist() == [len(kept) for kept in wanted]
