"""What a detector finds in a picture: its boxes with their labels, from the outputs of its suppression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from coreproof.cli.main import app
from coreproof.errors import InputError
from coreproof.feeding.detections import Detection, detector_of
from coreproof.feeding.predict import predict
from tests.build import classic, inner_product, named, network, pipeline


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
