"""Preprocessing that is wrong: against the source's feeding, and by how many photos each plausible one gets right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import ImageInput
from coreproof.doctor.diagnose import diagnose
from coreproof.errors import InputError
from coreproof.feeding.predict import scores
from coreproof.model.base import Model
from coreproof.model.feeding import TORCHVISION_FEEDING, Feeding
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import conv_relu_onnx

FEEDING = replace(TORCHVISION_FEEDING, size=(8, 8), resize="squash", resize_to=None)
RIGHT = ImageInput(mean=FEEDING.mean, std=FEEDING.std, scale=FEEDING.scale)


def source() -> OnnxModel:
    """conv -> relu -> global mean -> [1, 4] scores, fed torchvision's numbers."""
    model = conv_relu_onnx()
    graph = model.graph
    (old,) = list(graph.outputs)
    pooled = ir.Value(name="pooled")
    node = ir.Node("", "GlobalAveragePool", [old], outputs=[pooled], name="pool")
    out = ir.Value(name="scores", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 4]))
    flat = ir.Node("", "Flatten", [pooled], outputs=[out], name="flat")
    graph.extend([node, flat])
    graph.outputs[:] = [out]
    return OnnxModel(model, name="source", feeding=FEEDING)


def converted(to: str, image: ImageInput) -> Model:
    return cp.convert(source(), to, precision="fp32", images={"x": image}, labels=list("abcd"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[int]]:
    """Forty coloured noises, and the class that the source sees on each when it is fed rightly."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    files = []
    for i in range(40):
        tint = rng.integers(0, 256, 3)
        noise = rng.integers(-60, 60, (8, 8, 3))
        files.append(folder / f"{i:02}.png")
        Image.fromarray(np.clip(tint + noise, 0, 255).astype(np.uint8)).save(files[-1])
    model = source()
    with session(model) as running:
        classes = [int(np.argmax(scores(running, model, f, FEEDING))) for f in files]
    assert len(set(classes)) > 1
    return files, classes


WRONG = {
    "std left out": replace(RIGHT, std=(1.0, 1.0, 1.0)),
    "wrong std": replace(RIGHT, std=(0.5, 0.5, 0.5)),
    "nothing at all": ImageInput(),
    "mean left out": replace(RIGHT, mean=(0.0, 0.0, 0.0)),
    "channels swapped": replace(RIGHT, mean=FEEDING.mean[::-1], std=FEEDING.std[::-1], colour="BGR"),
}


@pytest.mark.sweep(2)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("fault", WRONG)
def test_against_the_sources_feeding(to: str, fault: str) -> None:
    model = converted(to, WRONG[fault])
    diagnosis = diagnose(model, source())
    assert [f.rule for f in diagnosis] == ["preprocessing"], diagnosis.to_json()
    assert diagnosis.findings[0].repaired, diagnosis.to_json()
    assert diagnosis.repaired is not None
    picture = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    with session(diagnosis.repaired) as repaired, session(converted(to, RIGHT)) as right:
        a, b = (
            list(r.run({"x": Image.fromarray(picture)})[r.signature.probabilities or ""].values())
            for r in (repaired, right)
        )
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_a_right_one_is_left_alone(to: str, photos: tuple[list[Path], list[int]]) -> None:
    files, classes = photos
    assert diagnose(converted(to, RIGHT), source()).healthy
    assert diagnose(converted(to, RIGHT), photos=files, classes=classes).healthy


@pytest.mark.thorough
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("fault", ["nothing at all", "channels swapped"])
def test_by_accuracy_without_a_source(to: str, fault: str, photos: tuple[list[Path], list[int]]) -> None:
    files, classes = photos
    geometry = Feeding(size=(8, 8), resize="squash")
    diagnosis = diagnose(converted(to, WRONG[fault]), photos=files, classes=classes, feeding=geometry)
    assert [f.rule for f in diagnosis] == ["preprocessing"], diagnosis.to_json()
    finding = diagnosis.findings[0]
    assert "torchvision's mean and std: 100%" in finding.evidence
    assert finding.repaired, diagnosis.to_json()


@pytest.mark.thorough
def test_a_model_of_numbers_is_told_how_it_should_be_fed(photos: tuple[list[Path], list[int]]) -> None:
    """The file is right, the feeding is not: said with the accuracy that each gives, and the file stays as it is."""
    files, classes = photos
    wrong = replace(FEEDING, mean=(0.0,), std=(1.0,), scale=1.0, colour="BGR")
    bare = OnnxModel(source().ir, name="bare")
    diagnosis = diagnose(bare, photos=files, classes=classes, feeding=wrong)
    assert [f.rule for f in diagnosis] == ["preprocessing"]
    assert not diagnosis.findings[0].repaired
    assert diagnosis.repaired is None
    assert "100%" in diagnosis.findings[0].evidence
    assert "torchvision's mean and std, RGB" in diagnosis.findings[0].repair
    assert diagnose(bare, photos=files, classes=classes, feeding=FEEDING).healthy


def test_photos_that_nobody_says_how_to_feed_are_no_photos_that_were_fed(
    photos: tuple[list[Path], list[int]],
) -> None:
    """It said "60 photos" of numbers that were drawn."""
    bare = cp.convert(conv_relu_onnx(), "mlprogram")
    with pytest.raises(InputError, match="how photos are fed to this model is not known"):
        diagnose(bare, photos=photos[0])
    assert diagnose(bare).healthy
