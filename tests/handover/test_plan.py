"""proof.json: it says what the model says, and what the model answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.errors import InputError
from coreproof.handover.app import app
from coreproof.handover.samples import decode, encode
from coreproof.handover.screen import reading_of
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.feeding import Feeding
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.images import pixels
from tests.build import conv_relu_onnx
from tests.handover.conftest import LABELS, value, written


def inside(made: Any) -> Path:
    """The folder of the sources."""
    return made.folder / str(made.plan["model"])


def test_the_plan_is_what_the_model_is_and_answers(classifier: CoreMLModel, photos: Path, tmp_path: Path) -> None:
    made = app(classifier, photos, tmp_path / "app", feeding=Feeding(size=(16, 16), resize_to=20))
    inner = inside(made)
    plan = json.loads((inner / "proof.json").read_text(encoding="utf-8"))
    assert (plan["kind"], plan["labels"], plan["softmax"]) == ("classifier", LABELS, False)
    assert (plan["picture"]["width"], plan["picture"]["height"], plan["picture"]["resizeTo"]) == (16, 16, 20)
    assert [s["name"] for s in plan["samples"]] == ['a "b" \\(c)/züge 🚂.png', "photo 0.png", "photo 1.png"]
    assert any("broken.jpg" in reason for reason in made.left_out)
    stored = cp.load(inner / plan["modelFile"])
    assert stored.signature.labels == tuple(LABELS)
    with cp.session(stored) as running:
        for sample in plan["samples"]:
            seen = pixels(Image.open(inner / sample["seen"]), "RGB")
            answer = running.run({"x": seen})[plan["probabilities"]]
            np.testing.assert_allclose(decode(sample["scores"]), list(answer.values()), rtol=1e-6)
            assert (inner / sample["file"]).read_bytes() == (photos / sample["name"]).read_bytes()
    assert not list(inner.glob("Samples/*.f32")), "a classifier's answers stand in proof.json"


def test_a_model_of_arrays_brings_its_numbers(tmp_path: Path) -> None:
    model = cp.convert(OnnxModel(conv_relu_onnx(), name="arrays"), "mlprogram")
    shape = [int(d) for d in model.signature.inputs[0].shape or ()]  # type: ignore[call-overload]
    rng = np.random.default_rng(0)
    given = [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(3)]
    made = app(model, None, tmp_path / "app", inputs=given)
    assert (made.plan["kind"], made.plan["picture"]) == ("array", None)
    assert made.plan["values"] == [{"name": "x", "kind": "tensor", "dtype": model.signature.inputs[0].dtype}]
    inner = inside(made)
    with cp.session(model) as running:
        for sample, fed in zip(made.plan["samples"], given, strict=True):
            assert sample["inputs"]["x"]["shape"] == shape
            stored = np.frombuffer((inner / sample["inputs"]["x"]["file"]).read_bytes(), "<f4")
            np.testing.assert_array_equal(stored, fed["x"].reshape(-1))
            expected = np.frombuffer((inner / sample["outputs"]["y"]).read_bytes(), "<f4")
            np.testing.assert_array_equal(expected, np.float32(running.run(fed)["y"]).reshape(-1))
    with pytest.raises(InputError, match="nothing to prove"):
        app(model, None, tmp_path / "other")


def test_a_model_of_arrays_that_are_pictures_is_fed_as_it_is_told(tmp_path: Path, photos: Path) -> None:
    model = cp.convert(OnnxModel(conv_relu_onnx(), name="arrays"), "mlprogram")
    shape = [int(d) for d in model.signature.inputs[0].shape or ()]  # type: ignore[call-overload]
    feeding = Feeding(size=(shape[3], shape[2]), mean=(1, 2, 3), std=(4, 5, 6), scale=0.5, colour="BGR")
    picture = app(model, photos, tmp_path / "app", feeding=feeding).plan["picture"]
    assert not picture["isImage"]
    assert (picture["shape"], picture["mean"], picture["std"], picture["scale"]) == (shape, [1, 2, 3], [4, 5, 6], 0.5)
    assert (picture["colour"], picture["channelsLast"]) == ("BGR", False)
    with pytest.raises(InputError, match="how photos are fed"):
        app(model, photos, tmp_path / "other")


@pytest.mark.thorough
def test_a_picture_that_a_model_makes_is_kept_without_loss(shared_data: Path, tmp_path: Path) -> None:
    model = cp.load(shared_data / "coreml" / "packt_small_unet.mlmodel")
    made = app(model, shared_data / "photos", tmp_path / "app", limit=1)
    sample, inner = made.plan["samples"][0], inside(made)
    with cp.session(model) as running:
        answer = running.run({"image": Image.open(inner / sample["seen"])})["output"]
    stored = np.asarray(Image.open(inner / sample["outputs"]["output"]))
    np.testing.assert_array_equal(stored, np.asarray(answer.convert("RGB")))
    assert made.plan["outputs"] == [{"name": "output", "shape": [448, 448], "isImage": True}]


@pytest.mark.parametrize("centred", [False, True])
def test_a_detector(centred: bool, photos: Path, tmp_path: Path) -> None:
    """Boxes that do not depend on the picture: how they are written is told by their numbers."""
    rng = np.random.default_rng(0)
    low, size = rng.uniform(0, 0.5, (1, 20, 2)), rng.uniform(0.1, 0.4, (1, 20, 2))
    rows = np.concatenate([low + size / 2, size] if centred else [low, low + size], axis=2).astype(np.float32)
    scores = rng.uniform(0, 1, (1, 20, 3)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=0, name="mean"),
        helper.make_node("Mul", ["m", "zero"], ["z"], name="nothing"),
        helper.make_node("Add", ["rows", "z"], ["boxes"], name="boxes"),
        helper.make_node("Add", ["likely", "z"], ["scores"], name="scores"),
    ]
    outputs = [value("boxes", 1, 20, 4), value("scores", 1, 20, 3)]
    path = written(
        tmp_path / "detector.onnx", nodes, [value("x", 1, 3, 16, 16)], outputs,
        rows=rows, likely=scores, zero=np.zeros(1, np.float32),
    )  # fmt: skip
    model = cp.convert(path, "mlprogram", images={"x": ImageInput()}, precision="fp32")
    made = app(model, photos, tmp_path / "app")
    assert made.plan["kind"] == "detector"
    told = {"centred": centred, "pixels": False, "background": False}
    assert made.plan["boxes"] == {"coordinates": "boxes", "scores": "scores", **told}


def test_a_detectors_pixels_and_background() -> None:
    corners = np.float32([[[10, 20, 100, 90], [3, 3, 40, 40]]])
    likely = np.float32([[[0.2, 0.8], [0.9, 0.1]]])
    reading = reading_of([{"boxes": corners, "scores": likely}])
    assert reading is not None
    assert (reading.centred, reading.pixels, reading.background) == (False, True, True)
    assert reading_of([{"boxes": corners, "scores": likely * 20}]) is None


def test_scores_without_labels(photos: Path, tmp_path: Path) -> None:
    """Twelve numbers are class scores when the user says so, by labels or by the screen."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "w"], ["y"], name="fc"),
    ]
    weight = np.random.default_rng(1).normal(size=(3, 12)).astype(np.float32)
    path = written(tmp_path / "n.onnx", nodes, [value("x", 1, 3, 16, 16)], [value("y", 1, 12)], w=weight)
    model = cp.convert(path, "mlprogram", images={"x": ImageInput(scale=1 / 255)})
    assert app(model, photos, tmp_path / "1").plan["kind"] == "array"
    named = [f"l{i}" for i in range(12)]
    for number, more in enumerate(({"screen": "classifier"}, {"labels": named}), start=2):
        plan = app(model, photos, tmp_path / str(number), **more).plan  # type: ignore[arg-type]
        assert (plan["kind"], plan["scores"], plan["softmax"]) == ("classifier", "y", True)
        assert decode(plan["samples"][0]["scores"]).sum() == pytest.approx(1)
    with pytest.raises(InputError, match="labels do not fit"):
        app(model, photos, tmp_path / "9", labels=["one"])


def test_numbers_survive_the_way_to_the_app_and_back() -> None:
    values = np.float32([0, -1.5, 3e-38, np.inf])
    np.testing.assert_array_equal(decode(encode(values)), values)
    with pytest.raises(InputError, match="damaged"):
        decode("not base64!")
