"""The top classes of a model: their order, and labels that have to fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.errors import InputError
from coreproof.feeding.predict import top_classes
from tests.build import graph_model


def test_equal_classes_come_in_their_order() -> None:
    found = top_classes(np.array([0.2, 0.4, 0.4]), ("a", "b", "c"), 2)
    assert [(p.index, p.label) for p in found] == [(1, "b"), (2, "c")]


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "c", "d")])
def test_labels_that_do_not_fit_are_told_with_both_counts(labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=rf"expected: 3 labels(.|\n)*found: {len(labels)} labels"):
        top_classes(np.array([0.2, 0.4, 0.4]), labels, 1)


def test_a_picture_is_a_file_a_pillow_image_its_pixels_or_what_is_fed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    text = "net (float[1, 3, 8, 8] x) => (float[1, 3] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }"
    model, fed = graph_model(text, 17), cp.Feeding(size=(8, 8), scale=0.1)
    wanted = cp.predict(model, tmp_path / "a.png", feeding=fed)
    assert cp.predict(model, Image.fromarray(pixels), feeding=fed) == wanted
    assert cp.predict(model, pixels, feeding=fed) == wanted
    grey = np.ascontiguousarray(pixels[..., 0])
    assert cp.predict(model, grey, feeding=fed) == cp.predict(model, Image.fromarray(grey).convert("RGB"), feeding=fed)
    x = np.random.default_rng(4).normal(size=(1, 3, 8, 8)).astype(np.float32)
    means = x.mean(axis=(2, 3))[0]
    found = cp.predict(model, {"x": x})
    assert [p.index for p in found] == np.argsort(-means).tolist()
    shares = np.exp(means) / np.exp(means).sum()
    assert [p.probability for p in found] == pytest.approx(sorted(shares, reverse=True), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            np.zeros((1, 3, 8, 8), np.float32),
            r"an array of float32 \[1, 3, 8, 8\](.|\n)*predict\(model, \{name: array\}\)",
        ),
        (np.zeros((8, 8, 3), np.float64), r"an array of float64"),
        (np.zeros((0, 8, 3), np.uint8), r"an array of uint8 \[0, 8, 3\]"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8 \[8, 8, 4\]"),
        (np.zeros(3, np.uint8), r"uint8 \[3\]"),
        ([1, 2], "found: list"),
        (None, "found: NoneType"),
        (b"ab", "found: bytes"),
        (5, "found: int"),
        ({"z": np.zeros((1, 3, 8, 8), np.float32)}, "z"),
        ({}, "x"),
    ],
)
def test_what_is_no_picture_is_said_in_a_line(given: Any, words: str) -> None:
    text = "net (float[1, 3, 8, 8] x) => (float[1, 3] y) { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }"
    with pytest.raises(InputError, match=words) as caught:
        cp.predict(graph_model(text, 17), given, feeding=None if isinstance(given, dict) else cp.Feeding(size=(8, 8)))
    assert len(str(caught.value).splitlines()) < 8
    with pytest.raises(InputError, match="as they are"):
        cp.predict(graph_model(text, 17), {"x": np.zeros((1, 3, 8, 8), np.float32)}, feeding=cp.Feeding(size=(8, 8)))
