"""Non-maximum suppression as a model against a plain NumPy one: ties, empty results, classes, thresholds, output shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError, InputError
from coreproof.runtime.open import session
from tests.build import classic, inner_product, named, network, pipeline, weights


def kept(confidences: np.ndarray, boxes: np.ndarray, overlap: float, least: float, *, per_class: bool) -> list[int]:
    """NonMaximumSuppression.proto, word for word: the numbers of the boxes that stay."""
    confidences, boxes = confidences.astype(np.float64), boxes.astype(np.float64)
    best, classes = confidences.max(1), confidences.argmax(1)
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    areas = boxes[:, 2:].prod(1)
    chosen: list[int] = []
    for i in np.argsort(-best, kind="stable"):
        if not best[i] >= least:
            continue
        for j in chosen:
            shared = np.maximum(np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]), 0).prod()
            union = areas[i] + areas[j] - shared
            if (not per_class or classes[i] == classes[j]) and union != 0 and shared / union > overlap:
                break
        else:
            chosen.append(int(i))
    return chosen


def suppression(
    shape: tuple[int, int] | None = None,
    rows: tuple[int, int] | int | None = None,
    *,
    per_class: bool = True,
    dtype: str = "FLOAT32",
    thresholds: bool = True,
    **fields: Any,
) -> Any:
    inputs: dict[str, Any] = {
        "raw_confidence": [] if shape is None else list(shape),
        "raw_coordinates": [] if shape is None else [shape[0], 4],
    }
    if thresholds:
        inputs |= {"iouThreshold": "double", "confidenceThreshold": "double"}
    fixed = isinstance(rows, int)
    outputs = {"confidence": [rows, (shape or (0, 3))[1]] if fixed else [], "coordinates": [rows, 4] if fixed else []}
    names = {"confidence": "confidence", "coordinates": "coordinates"}
    model = classic(
        "nonMaximumSuppression", inputs, outputs, optional=["iouThreshold", "confidenceThreshold"], dtype=dtype,
        **{
            **{f"{n}InputFeatureName": f"raw_{n}" for n in names}, **{f"{n}OutputFeatureName": n for n in names},
            **{f"{n}InputFeatureName": n for n in ("iouThreshold", "confidenceThreshold")},
            "iouThreshold": 0.45, "confidenceThreshold": 0.25, "pickTop": {"perClass": per_class}, **fields,
        },
    )  # fmt: skip
    if isinstance(rows, tuple):
        for output in model.spec.description.output:
            for low, high in (rows, (1, -1)):
                output.type.multiArrayType.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    return model


def crowd(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around a few places, with scores of few decimals, so that many are equal."""
    rng = np.random.default_rng(seed)
    centres = rng.random((4, 2))[rng.integers(0, 4, count)] + 0.05 * rng.normal(size=(count, 2))
    boxes = np.concatenate([centres, rng.uniform(0.1, 0.4, (count, 2))], 1)
    scores = np.round(rng.random((count, classes)) ** 2, 1)
    return scores.astype(np.float32), boxes.astype(np.float32)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_the_boxes_that_stay_are_those_of_plain_numpy_and_in_its_order(seed: int, per_class: bool) -> None:
    rng = np.random.default_rng(seed)
    scores, boxes = crowd(seed, int(rng.integers(1, 60)), int(rng.integers(1, 5)))
    with session(suppression(scores.shape, per_class=per_class)) as running:
        for overlap, least in ((0.45, 0.25), (0.0, 0.0), (1.0, 0.5), (0.3, 0.9), (0.5, 1.1)):
            got = running.run({"raw_confidence": scores, "raw_coordinates": boxes, "iouThreshold": overlap,
                               "confidenceThreshold": least})  # fmt: skip
            wanted = kept(scores, boxes, overlap, least, per_class=per_class)
            np.testing.assert_array_equal(got["coordinates"], boxes[wanted])
            np.testing.assert_array_equal(got["confidence"], scores[wanted])


def test_without_thresholds_those_of_the_file_count() -> None:
    scores, boxes = crowd(3, 40, 3)
    feed = {"raw_confidence": scores, "raw_coordinates": boxes}
    wanted = kept(scores, boxes, 0.45, 0.25, per_class=True)
    for thresholds in (True, False):
        with session(suppression(scores.shape, thresholds=thresholds)) as running:
            np.testing.assert_array_equal(running.run(feed)["coordinates"], boxes[wanted])


def test_nothing_that_is_good_enough_leaves_no_rows() -> None:
    scores, boxes = np.full((5, 2), 0.1, np.float32), np.ones((5, 4), np.float32)
    with session(suppression((5, 2))) as running:
        got = running.run({"raw_confidence": scores, "raw_coordinates": boxes})
    assert got["confidence"].shape == (0, 2)
    assert got["coordinates"].shape == (0, 4)


def test_no_boxes_at_all_leave_no_rows() -> None:
    with session(suppression()) as running:
        got = running.run({"raw_confidence": np.zeros((0, 2)), "raw_coordinates": np.zeros((0, 4))})
    assert (got["confidence"].shape, got["coordinates"].shape) == ((0, 2), (0, 4))


def test_equal_boxes_of_equal_confidence_leave_the_first_and_boxes_without_area_suppress_nothing() -> None:
    boxes = np.array([[0.5, 0.5, 0.2, 0.2]] * 3 + [[0.1, 0.1, 0, 0]] * 2, np.float32)
    scores = np.array([[0.5, 0.1], [0.5, 0.2], [0.5, 0.3], [0.4, 0], [0.4, 0]], np.float32)
    with session(suppression((5, 2))) as running:
        got = running.run({"raw_confidence": scores, "raw_coordinates": boxes})
    np.testing.assert_array_equal(got["confidence"], scores[[0, 3, 4]])


def test_a_confidence_at_the_threshold_stays_and_one_that_is_no_number_does_not() -> None:
    scores = np.array([[0.25], [np.nan], [0.2499999]])
    boxes = np.array([[x, 0.5, 0.1, 0.1] for x in (0.1, 0.5, 0.9)])
    with session(suppression((3, 1), dtype="DOUBLE")) as running:
        got = running.run({"raw_confidence": scores, "raw_coordinates": boxes})
    assert got["coordinates"].tolist() == boxes[:1].tolist()
    assert got["coordinates"].dtype == np.float64


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("rows", "count"), [(3, 3), (20, 20), ((0, 2), 2), ((0, -1), None), ((12, 15), 12)])
def test_rows_are_cut_off_and_filled_up_as_the_outputs_declare(rows: Any, count: int | None) -> None:
    scores, boxes = crowd(5, 40, 3)
    wanted = kept(scores, boxes, 0.2, 0.25, per_class=False)
    assert 3 < len(wanted) < 12
    with session(suppression(scores.shape, rows, per_class=False, iouThreshold=0.2)) as running:
        got = running.run({"raw_confidence": scores, "raw_coordinates": boxes})
    assert len(got["confidence"]) == len(got["coordinates"]) == (len(wanted) if count is None else count)
    there = wanted[: len(got["confidence"])]
    np.testing.assert_array_equal(got["confidence"][: len(there)], scores[there])
    assert not got["confidence"][len(there) :].any()
    assert not got["coordinates"][len(there) :].any()


def test_a_detector_is_a_network_and_its_suppression_and_takes_thresholds_or_not() -> None:
    layers = [
        inner_product("c", "x", "c", np.abs(weights(12, 3))),
        named("rc", "reshapeStatic", "c", "raw_confidence", targetShape=[6, 2]),
        inner_product("b", "x", "b", np.abs(weights(24, 3, seed=1))),
        named("rb", "reshapeStatic", "b", "raw_coordinates", targetShape=[6, 4]),
    ]
    head = network(layers, {"x": [3]}, {"raw_confidence": [6, 2], "raw_coordinates": [6, 4]}, exact=True)
    inputs = {"x": [3], "iouThreshold": "double", "confidenceThreshold": "double"}
    # as some tools write it: the stage does not declare the thresholds, and the pipeline does not call them optional
    tail = suppression((6, 2), thresholds=False)
    x = np.array([0.1, 0.2, 0.3], np.float32)
    with session(head) as running:
        raw = running.run({"x": x})
    with session(pipeline("pipeline", [head, tail], inputs, {"confidence": [], "coordinates": []})) as running:
        for feed, overlap, least in (({}, 0.45, 0.25), ({"iouThreshold": 0.1, "confidenceThreshold": 0.2}, 0.1, 0.2)):
            got = running.run({"x": x, **feed})
            wanted = kept(raw["raw_confidence"], raw["raw_coordinates"], overlap, least, per_class=True)
            np.testing.assert_array_equal(got["coordinates"], raw["raw_coordinates"][wanted])
        with pytest.raises(InputError, match="give x"):
            running.run({})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"confidenceInputFeatureName": "zz"}, "names 'zz', which is no input"),
        ({"coordinatesOutputFeatureName": "zz"}, "names 'zz', which is no output"),
        ({"iouThreshold": 1.5}, "between 0 and 1"),
        ({"iouThreshold": float("nan")}, "between 0 and 1"),
        ({"confidenceThreshold": -0.1}, "not below 0"),
        ({"stringClassLabels": {"vector": ["a"]}}, "1 labels, and confidences of 2 classes"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConversionError, match=said):
        session(suppression((5, 2), **fields))
