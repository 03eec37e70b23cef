"""What a page shows of models that name no class of a photo: pictures, boxes and tables of what they answered."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.comparison.answers import Answer
from coreproof.report.answers import shown_answers
from tests.build import graph_model, weights

SEEN = Image.new("RGB", (64, 32), (10, 200, 30))
RNG = np.random.default_rng(5)


def told(a: Any, b: Any, *, picture: Image.Image | None = SEEN, name: str = "y", **more: Any) -> Any:
    answer = Answer("one.png", "torchm", "t2c16", more.pop("fed", {}), {name: (a, b)}, picture=picture, **more)
    shown = shown_answers([answer], {"torchm": "PyTorch"})
    assert shown is not None
    (entry,) = shown["inputs"]
    assert entry["models"] == ["PyTorch (torchm)", "t2c16"]
    return entry


def decoded(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2])))


@pytest.mark.parametrize(
    ("low", "high", "black", "white"), [(0, 1, 0, 1), (-1, 1, -1, 1), (0, 255, 0, 255), (3, 9, 3, 9), (0.02, 0.9, 0, 1)]
)
@pytest.mark.parametrize("planes", [1, 3])
def test_pictures_stand_side_by_side_on_one_scale(
    low: float, high: float, black: float, white: float, planes: int
) -> None:
    a = np.linspace(low, high, planes * 16 * 24, dtype=np.float32).reshape(1, planes, 16, 24)
    b = a.copy()
    b[..., 3, 5] = low
    (view,) = told(a, b)["pictures"]
    pictures = [decoded(source) for source in view["sources"]]
    assert [p.size for p in pictures] == [(24, 16), (24, 16)]
    assert [p.mode for p in pictures] == ["L" if planes == 1 else "RGB"] * 2
    assert f"{black} to {white} shown" in view["said"]
    wanted = np.abs(a - b).max() / (white - black)
    assert f"differ by {wanted:.2g} at most" in view["said"]
    # JPEG keeps a grey to a few of 256 steps
    wanted_first = 255 * (a[0, 0, -1, -1] - black) / (white - black)
    assert abs(float(np.asarray(pictures[0]).reshape(16, 24, planes)[-1, -1, 0]) - wanted_first) < (
        9 if planes == 1 else 40
    )


def test_many_planes_are_classes_of_pixels() -> None:
    a = RNG.normal(size=(1, 5, 20, 30)).astype(np.float32)
    b = a.copy()
    b[0, :, 4, 4] = np.roll(a[0, :, 4, 4], 1)
    entry = told(a, b, labels=("road", "sky", "tree", "car", "dog"))
    (view,) = entry["pictures"]
    assert "the same at 599 of 600" in view["said"]
    one, other = (np.asarray(decoded(source)) for source in view["sources"])
    assert [tuple(p) for p in np.argwhere((one != other).any(axis=2))] == [(4, 4)]
    shares = {row["name"]: row["shares"][0] for row in view["legend"]}
    counted = np.bincount(a[0].argmax(axis=0).reshape(-1), minlength=5) / 600
    assert shares == {name: pytest.approx(share) for name, share in zip(view_names(), counted, strict=True)}
    # a map of whole numbers is one already
    (plain,) = told(a[0].argmax(axis=0)[None], b[0].argmax(axis=0)[None])["pictures"]
    assert "the same at 599 of 600" in plain["said"]


def view_names() -> tuple[str, ...]:
    return ("road", "sky", "tree", "car", "dog")


def test_what_was_fed_no_picture_is_no_picture() -> None:
    a = RNG.normal(size=(1, 3, 16, 16)).astype(np.float32)
    entry = told(a, a + 1, picture=None)
    assert (entry["pictures"], entry["picture"]) == ([], None)
    assert entry["tables"][0]["left"] == a.size - 8


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("pixels", [True, False])
def test_boxes_are_drawn_where_they_are(centred: bool, pixels: bool) -> None:
    corners = np.array([[0.1, 0.2, 0.4, 0.6], [0.11, 0.21, 0.4, 0.6], [0.5, 0.5, 0.9, 0.75]], np.float32)
    # the first two are one thing, seen twice
    scores = np.array([[0.9, 0.01], [0.8, 0.02], [0.1, 0.7]], np.float32)
    spread = np.concatenate([corners, np.tile([[0.3, 0.3, 0.35, 0.4]], (9, 1)).astype(np.float32)])
    likely = np.concatenate([scores, np.full((9, 2), 0.01, np.float32)])
    rows = spread * np.array([64, 32, 64, 32], np.float32) if pixels else spread
    if centred:
        rows = np.concatenate([(rows[:, :2] + rows[:, 2:]) / 2, rows[:, 2:] - rows[:, :2]], axis=1)
    outputs = {"boxes": (rows[None], rows[None]), "confidence": (likely[None], likely[None] * 0.1)}
    answer = Answer("one.png", "torchm", "t2c16", {}, outputs, ("cat", "dog"), SEEN)
    shown = shown_answers([answer], {})
    assert shown is not None
    first, second = shown["inputs"][0]["boxes"]["sides"]
    assert [box["name"] for box in first] == ["cat", "dog"]
    places = [[box[key] for key in ("left", "top", "width", "height")] for box in first]
    np.testing.assert_allclose(places, [[10, 20, 30, 40], [50, 50, 40, 25]], rtol=1e-5)
    assert [box["share"] for box in first] == [pytest.approx(0.9), pytest.approx(0.7)]
    # the other is sure of nothing, and its surest are shown as that
    assert len(second) == 3
    assert "none is surer than 25%" in shown["inputs"][0]["boxes"]["said"]


@pytest.mark.parametrize("form", ["v8", "v5"])
def test_the_raw_output_of_a_yolo_network_is_drawn_as_boxes(form: str) -> None:
    """Ultralytics' own shapes, for a picture of 64 x 32: a box for each cell of its three grids, v5 three for each."""
    count = (8 * 4 + 4 * 2 + 2) * (1 if form == "v8" else 3)
    boxes = np.tile(np.array([20, 16, 4, 4], np.float32), (count, 1))
    scores = np.full((count, 3), 0.001, np.float32)
    boxes[7], scores[7] = [32, 16, 16, 8], [0.02, 0.9, 0.1]
    boxes[8], scores[8] = [33, 16, 16, 8], [0.02, 0.8, 0.1]
    if form == "v8":
        raw = np.concatenate([boxes, scores], axis=1).T[None]
    else:
        objectness = np.full((count, 1), 0.5, np.float32)
        raw = np.concatenate([boxes, objectness, scores / 0.9], axis=1)[None]
    entry = told(raw, raw.copy(), name="output0", labels=("cat", "dog", "owl"))
    for side in entry["boxes"]["sides"]:
        (box,) = side
        assert (box["name"], box["share"]) == ("dog", pytest.approx(0.9 if form == "v8" else 0.5, rel=1e-5))
        places = [box[key] for key in ("left", "top", "width", "height")]
        np.testing.assert_allclose(places, [37.5, 37.5, 25, 25], rtol=1e-5)


@pytest.mark.parametrize(
    "damage", ["one cell less", "scores beyond one", "a width below zero", "three dimensions in a batch"]
)
def test_what_has_not_the_form_of_a_yolo_network_is_none(damage: str) -> None:
    raw = np.full((1, 7, 42), 0.5, np.float32)
    if damage == "one cell less":
        raw = raw[:, :, 1:]
    elif damage == "scores beyond one":
        raw[0, 5, 3] = 1.5
    elif damage == "a width below zero":
        raw[0, 2, 3] = -1
    else:
        raw = np.repeat(raw, 2, axis=0)
    assert told(raw, raw.copy())["boxes"] is None


def test_tokens_are_a_table_where_another_class_stands_first() -> None:
    a = np.eye(7, dtype=np.float32)[[0, 1, 2, 3]][None] * 8
    b = a.copy()
    b[0, 2] = np.eye(7, dtype=np.float32)[5] * 8
    fed = {"ids": np.array([[11, 12, 13, 14]]), "mask": np.ones((1, 4), np.int64)}
    (table,) = told(a, b, picture=None, labels=tuple("ABCDEFG"), fed=fed)["tables"]
    assert table["said"] == "the same class at 3 of 4 places"
    assert [row["place"] for row in table["rows"]] == ["2: 13", "0: 11", "1: 12", "3: 14"]
    assert table["rows"][0]["cells"] == ["C (99.8%)", "F (99.8%)", "another"]


def test_a_difference_of_numbers_has_three_digits_and_one_of_whole_numbers_all() -> None:
    (table,) = told(np.array([[0.25]]), np.array([[0.2512345]]), picture=None)["tables"]
    assert table["rows"][0]["cells"] == ["0.25", "0.251235", "0.00123"]
    (table,) = told(np.array([[0]]), np.array([[123456]]), picture=None)["tables"]
    assert table["rows"][0]["cells"] == ["0", "123456", "123456"]


@pytest.mark.parametrize("empty", [np.zeros((1, 0), np.float32), np.array(2.5, np.float32), np.array([[np.nan, 1]])])
def test_empty_single_and_infinite_answers_have_a_table(empty: np.ndarray) -> None:
    for picture in (None, SEEN):
        (table,) = told(empty, empty, picture=picture)["tables"]
        assert len(table["rows"]) == empty.size


def test_other_shapes_are_said() -> None:
    (table,) = told(np.zeros((1, 4)), np.zeros((1, 5)), picture=None)["tables"]
    assert table["said"] == "shape [1, 4] beside [1, 5]"


def test_a_proof_of_an_image_model_shows_both_pictures(photos: Path, tmp_path: Path) -> None:
    text = (
        "net (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) { h = Conv <pads = [1,1,1,1]> (x, w)  y = Sigmoid (h) }"
    )
    model = graph_model(text, 17, w=weights(3, 3, 3, 3))
    fed = cp.Feeding(size=(16, 16), scale=1 / 255)
    proof = cp.prove(model, photos, tmp_path / "out", feeding=fed)
    assert len(proof.answers) == 3
    html = proof.page.read_text(encoding="utf-8")
    assert html.count("<b>Core ML float16 (o2c16)</b>") == 3
    assert "0 to 1 shown as black to white" in html
    one, other = proof.answers[0].outputs["y"]
    # both are sigmoids of 27 terms in float16
    np.testing.assert_allclose(one, other, atol=0.02)


def test_single_pixels_beyond_a_range_do_not_wash_a_picture_out() -> None:
    """Super resolution overshoots at edges: shown from -1 on, its black was grey."""
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 1, 64, 64)
    sharp = ramp.copy()
    sharp[..., 0, :8] = -0.3
    assert "0 to 1 shown as black to white" in told(sharp, sharp, picture=SEEN)["pictures"][0]["said"]
    assert "-1 to 1 shown as black to white" in told(2 * ramp - 1, 2 * ramp - 1, picture=SEEN)["pictures"][0]["said"]


def test_a_network_of_grey_pictures_is_shown_what_it_saw(photos: Path, tmp_path: Path) -> None:
    text = "net (float[1, 1, 16, 16] x) => (float[1, 1, 16, 16] y) { y = Sigmoid (x) }"
    fed = cp.Feeding(size=(16, 16), scale=1 / 255, colour="GRAY")
    proof = cp.prove(graph_model(text, 17), photos, tmp_path / "out", feeding=fed)
    seen = proof.answers[0].picture
    assert seen is not None
    assert seen.mode == "L"


def test_a_comparison_over_inputs_shows_those_that_differ_most(tmp_path: Path) -> None:
    text = "net (float[1, 4] x) => (float[1, 3] logits) { logits = MatMul (x, w) }"
    one, other = (graph_model(text, 17, w=weights(4, 3, seed=seed)) for seed in (0, 1))
    inputs = [{"x": np.full((1, 4), scale, np.float32)} for scale in (0.0, 1.0, -2.0, 0.0, 0.0)]
    found = cp.compare_inputs({"a": one, "b": other}, inputs)
    assert {answer.sample for answer in found.answers} >= {"sample 1", "sample 2"}
    html = cp.page(found, tmp_path).read_text(encoding="utf-8")
    assert "On the inputs on which two models are furthest apart" in html
    assert html.count('class="told"') == 3
