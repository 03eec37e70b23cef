"""Operators that choose, against numpy and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.runtime.open import session
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS

PROGRAMS = [t for t in TARGETS if t[0] == "mlprogram"]
RANDOM = np.random.default_rng(6)


def check(
    operator: str, inputs: dict[str, Any], constants: dict[str, Any], outputs: list[Any], **described: Any
) -> None:
    """Holds the conversion against ONNX Runtime."""
    model = node_model(operator, inputs, constants, outputs=outputs, **described)
    expected = onnxruntime.InferenceSession(ir.to_proto(model.ir).SerializeToString()).run(None, inputs)
    for to, target in PROGRAMS:
        made = onnx_to_coreml(model, to, target=target, precision="fp32")  # type: ignore[arg-type]
        with session(made, "onnxruntime") as running:
            results = running.run(inputs)
        for (name, got), want in zip(results.items(), expected, strict=True):
            assert got.shape == want.shape, (name, target)
            np.testing.assert_allclose(got, want, rtol=1e-6, err_msg=f"{name} {target}")


@pytest.mark.sweep(2)
@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_unique(dtype: Any, axis: int | None, in_order: int) -> None:
    x = RANDOM.integers(-1, 2, size=(6, 2, 5)).astype(dtype)
    x[3], x[:, :, 2] = x[1], x[:, :, 0]
    attributes = {"sorted": in_order} | ({} if axis is None else {"axis": axis})
    check("Unique", {"x": x}, {}, [dtype, np.int64, np.int64, np.int64], opset=11, **attributes)


def test_numbers_that_are_none_and_infinities_do_not_get_lost() -> None:
    x = np.array([2, np.nan, -np.inf, 2, np.inf, -np.inf], np.float32)
    model = node_model("Unique", {"x": x}, outputs=[np.float32] + [np.int64] * 3, opset=11, sorted=0)
    made = onnx_to_coreml(model, target="iOS17", precision="fp32")
    with session(made, "onnxruntime") as running:
        values, first, back, counts = running.run({"x": x}).values()
    np.testing.assert_array_equal(values, np.array([2, np.nan, -np.inf, np.inf], np.float32))
    assert [v.tolist() for v in (first, back, counts)] == [[0, 1, 2, 4], [0, 1, 2, 0, 3, 2], [2, 1, 2, 1]]


def _boxes(count: int, centred: bool) -> np.ndarray:
    corners = RANDOM.uniform(0, 10, size=(2, count, 2))
    sizes = RANDOM.uniform(1, 6, size=(2, count, 2))
    if centred:
        return np.concatenate([corners, sizes], axis=2).astype(np.float32)
    both = np.stack([corners, corners + sizes], axis=2)
    turned = np.where(RANDOM.uniform(size=(2, count, 1, 2)) < 0.5, both, both[:, :, ::-1])  # corners in any order
    return turned.reshape(2, count, 4).astype(np.float32)


@pytest.mark.sweep(3)
@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize(
    ("most", "overlap", "least"), [(3, 0.4, 0.3), (100, 0.1, None), (5, 0.7, 0.99), (20, 0.0, 0.5)]
)
def test_non_max_suppression(most: int, overlap: float, least: float | None, centred: int) -> None:
    inputs = {"boxes": _boxes(20, bool(centred)), "scores": RANDOM.uniform(size=(2, 3, 20)).astype(np.float32)}
    constants: dict[str, Any] = {"most": np.array([most]), "overlap": np.array([overlap], np.float32)}
    if least is not None:
        constants["least"] = np.array([least], np.float32)
    check("NonMaxSuppression", inputs, constants, [np.int64], opset=11, center_point_box=centred)


@pytest.mark.sweep(2)
@pytest.mark.parametrize(("most", "least"), [(3, 0.3), (100, 0.5), (1, 0.0), (0, 0.2)])
def test_non_max_suppression_by_bounds_that_are_fed(most: int, least: float) -> None:
    inputs = {
        "boxes": _boxes(20, True),
        "scores": RANDOM.uniform(size=(2, 3, 20)).astype(np.float32),
        "most": np.array([most]),
        "least": np.array([least], np.float32),
    }
    constants = {"overlap": np.array([0.4], np.float32)}
    check(
        "NonMaxSuppression", inputs, constants, [np.int64], order=["boxes", "scores", "most", "overlap", "least"],
        opset=11, center_point_box=1,
    )  # fmt: skip


def test_a_picture_without_a_box_above_the_threshold_has_none() -> None:
    scores = np.zeros((2, 1, 4), np.float32)
    scores[1, 0] = [0.5, 0.6, 0.5, 0.1]
    constants = {"most": np.array([4]), "overlap": np.array([0.9], np.float32), "least": np.array([0.5], np.float32)}
    check(
        "NonMaxSuppression",
        {"boxes": _boxes(4, True), "scores": scores},
        constants,
        [np.int64],
        opset=11,
        center_point_box=1,
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 5])
@pytest.mark.parametrize("rows", [None, 3])
def test_n_grams(rows: int | None, skips: int, mode: str) -> None:
    x = RANDOM.integers(0, 4, size=(12,) if rows is None else (rows, 12)).astype(np.int64)
    check(
        "TfIdfVectorizer",
        {"x": x},
        {},
        [np.float32],
        opset=9,
        mode=mode,
        min_gram_length=1,
        max_gram_length=3,
        max_skip_count=skips,
        ngram_counts=[0, 3, 7],
        ngram_indexes=[0, 2, 1, 5, 3, 4],
        pool_int64s=[1, 2, 3, 1, 2, 3, 0, 1, 2, 3],
        weights=[0.5, 2.0, 1.5, 3.0, 0.25, 0.75],
    )
