"""What a detector finds in a picture: its boxes with their labels, from the outputs of its suppression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from coreproof.cli.main import app
from coreproof.errors import InputError, RunError
from coreproof.feeding.detections import Detection, detector_of
from coreproof.feeding.predict import predict
from tests.build import classic, graph_model, inner_product, named, network, pipeline


def detector(*, labels: bool = True) -> Any:
    """A detector that finds the same two of three boxes in every black picture."""
    scores = np.array([[0.1, 0.9], [0.8, 0.0], [0.1, 0.2]], np.float32)
    boxes = np.array([[0.5, 0.5, 0.2, 0.2], [0.2, 0.3, 0.1, 0.4], [0.9, 0.9, 0.1, 0.1]], np.float32)
    layers = [named("flat", "flattenTo2D", "image", "f", axis=1)]
    for name, values in (("raw_confidence", scores), ("raw_coordinates", boxes)):
        head = inner_product(name, "f", f"{name}_flat", np.zeros((values.size, 48), np.float32))
        head.innerProduct.hasBias = True
        head.innerProduct.bias.floatValue.extend(values.ravel().tolist())
        layers += [head, named(f"{name}_rows", "reshapeStatic", f"{name}_flat", name, targetShape=list(values.shape))]
    head_model = network(
        layers, {"image": "RGB 4x4"}, {"raw_confidence": [3, 2], "raw_coordinates": [3, 4]}, exact=True
    )
    names = ("confidence", "coordinates")
    nms = classic(
        "nonMaximumSuppression", {"raw_confidence": [3, 2], "raw_coordinates": [3, 4]}, {name: [] for name in names},
        dtype="FLOAT32", iouThreshold=0.45, confidenceThreshold=0.5,
        **{f"{n}InputFeatureName": f"raw_{n}" for n in names}, **{f"{n}OutputFeatureName": n for n in names},
        **({"stringClassLabels": {"vector": ["cat", "dog"]}} if labels else {}),
    )  # fmt: skip
    whole = pipeline("pipeline", [head_model, nms], {}, {name: [] for name in names})
    whole.spec.description.input.add().CopyFrom(head_model.spec.description.input[0])
    return type(whole)(whole.spec, name="detector")


def test_boxes_come_with_their_labels_the_surest_first() -> None:
    found = detector_of(detector())
    assert found is not None
    outputs = {"confidence": np.array([[0.1, 0.9], [0.8, 0.0]]), "coordinates": np.array([[1, 2, 3, 4], [5, 6, 7, 8]])}
    assert found.detections(outputs) == [Detection(1, "dog", 0.9, (1, 2, 3, 4)), Detection(0, "cat", 0.8, (5, 6, 7, 8))]
    assert found.detections({"confidence": np.zeros((0, 2)), "coordinates": np.zeros((0, 4))}) == []


def test_other_models_are_no_detectors() -> None:
    assert detector_of(classic("scaler", {"x": "double"}, {"y": "double"})) is None


@pytest.mark.parametrize("labels", [True, False])
def test_the_command_prints_the_boxes(tmp_path: Path, labels: bool) -> None:
    stored = detector(labels=labels).save(tmp_path / "detector.mlmodel")
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    result = CliRunner().invoke(app, ["predict", str(stored), str(tmp_path / "p.png")])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()[-2:]
    assert ("dog" if labels else "class 1") in lines[0]
    assert "90.00%" in lines[0]
    assert "0.5, 0.5, 0.2 wide, 0.2 high" in lines[0]
    assert ("cat" if labels else "class 0") in lines[1]


def test_the_classes_of_a_picture_are_not_asked_of_a_detector() -> None:
    with pytest.raises(InputError, match="finds boxes"):
        predict(detector(), Image.new("RGB", (4, 4)))


def yolo(form: str, *, sure: float = 0.9, cells: int = 84) -> Any:
    """A network for pictures of 64 x 64 that gives Ultralytics' rows: one thing, seen by two cells, and nothing in the others."""
    rows = np.tile(np.array([20, 16, 4, 4, 0.01, 0.01], np.float32), (cells if form == "v8" else 3 * cells, 1))
    rows[7], rows[8] = [32, 16, 16, 8, 0.02, sure], [33, 16, 16, 8, 0.02, 0.8]
    if form == "v5":
        rows = np.insert(rows, 4, 0.5, axis=1)
    raw = (rows.T if form == "v8" else rows)[None]
    shape = ", ".join(map(str, raw.shape))
    text = f"""net (float[1, 3, 64, 64] images) => (float[{shape}] output0) {{
        m = ReduceMean <keepdims = 0> (images)  t = Mul (m, none)  u = Reshape (t, one)  output0 = Add (rows, u) }}"""
    return graph_model(text, 13, rows=raw.astype(np.float32), none=np.float32(0), one=np.array([1, 1, 1]))


@pytest.mark.parametrize("form", ["v8", "v5"])
def test_a_yolo_network_without_suppression_prints_its_boxes_and_is_fed_at_its_own_size(
    form: str, tmp_path: Path
) -> None:
    stored = yolo(form).save(tmp_path / "yolo.onnx")
    Image.new("RGB", (90, 70)).save(tmp_path / "p.png")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    asked = [
        "predict",
        str(stored),
        str(tmp_path / "p.png"),
        "--scale",
        "1/255",
        "--labels",
        str(tmp_path / "names.txt"),
    ]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if "%" in line]
    assert line.split()[:2] == ["90.00%" if form == "v8" else "45.00%", "dog"]
    assert "at 0.5, 0.25, 0.25 wide, 0.125 high" in line


def test_rows_that_are_no_boxes_are_not_read_as_some() -> None:
    found = detector_of(yolo("v8"))
    assert found is not None
    with pytest.raises(RunError, match="no boxes with scores from 0 to 1"):
        found.detections({"output0": np.full((1, 6, 84), 1.5, np.float32)})
    # one cell less than the grids have
    assert detector_of(yolo("v8", cells=83)) is None
