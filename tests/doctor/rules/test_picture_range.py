"""Picture outputs that come out black because their values lie in 0 to 1."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.editing.edit import edit
from coreproof.editing.script import parse
from coreproof.model.coreml.model import CoreMLModel
from tests.build import layer, mil, network, weights
from tests.doctor.rules.cases import assert_healthy


def as_picture(model: CoreMLModel, name: str, colour: int = 20) -> CoreMLModel:
    """The model with its output of [1, 3, H, W] declared as an RGB picture (20), or one of [1, 1, H, W] as a grey one (10)."""
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    feature = next(f for f in spec.description.output if f.name == name)
    feature.type.imageType.width = feature.type.imageType.height = 8
    feature.type.imageType.colorSpace = colour
    return model.with_spec(spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


def program(folder: Path, end: str) -> CoreMLModel:
    def build(mb: Any, x: Any) -> Any:
        made = mb.conv(x=x, weight=weights(3, 3, 1, 1), name="c")
        if end == "plain":
            return mb.mul(x=made, y=100.0, name="y")
        if end == "scaled":
            return mb.mul(x=mb.sigmoid(x=made), y=255.0, name="y")
        if end == "moved":
            return mb.transpose(x=mb.sigmoid(x=made), perm=[0, 1, 3, 2], name="y")
        if end == "clipped":
            return mb.clip(x=made, alpha=0.0, beta=1.0, name="y")
        return getattr(mb, end)(x=made, name="y")

    return as_picture(mil(folder, build, (1, 3, 8, 8)), "y")


def net(end: str) -> CoreMLModel:
    layers = [
        layer(
            "convolution", "x", "c", outputChannels=3, kernelChannels=3, nGroups=1, kernelSize=[1, 1], stride=[1, 1],
            dilationFactor=[1, 1], weights=weights(3, 3, 1, 1), valid={},
        ),
        layer("activation", "c", "y", **{end: {}}),
    ]  # fmt: skip
    return as_picture(network(layers, {"x": (3, 8, 8)}, {"y": (3, 8, 8)}), "y")


def assert_dark(model: CoreMLModel, words: str) -> None:
    diagnosis = diagnose(model)
    assert [(f.rule, f.repaired) for f in diagnosis] == [("picture-range", False)]
    finding = diagnosis[0]
    assert words in finding.evidence
    # what it advises, typed as it stands, takes the fault away
    typed = shlex.split(finding.repair.partition("MODEL OUT ")[2])
    edits = [parse(line) for line in typed[1::2]]
    assert_healthy(edit(model, edits).model)


@pytest.mark.parametrize("end", ["sigmoid", "softmax", "clipped", "moved"])
def test_a_program_whose_picture_lies_in_0_to_1(folder: Path, end: str) -> None:
    assert_dark(program(folder, end), "all of it is black")


def test_a_program_whose_picture_lies_in_minus_1_to_1(folder: Path) -> None:
    assert_dark(program(folder, "tanh"), "-1 to 1")


@pytest.mark.parametrize("end", ["sigmoid", "tanh"])
def test_a_network_whose_picture_is_dark(end: str) -> None:
    assert_dark(net(end), "all of it is black")


@pytest.mark.parametrize("end", ["plain", "scaled"])
def test_a_picture_of_0_to_255_is_healthy(folder: Path, end: str) -> None:
    assert_healthy(program(folder, end))


def grey(folder: Path, end: Callable[[Any, Any], Any], channels: int = 1) -> CoreMLModel:
    def build(mb: Any, x: Any) -> Any:
        return end(mb, mb.conv(x=x, weight=weights(channels, 3, 1, 1), name="c"))

    return as_picture(mil(folder, build, (1, 3, 8, 8)), "y", colour=10)


def faint(mb: Any, made: Any) -> Any:
    return mb.sigmoid(x=made, name="y")


def trained(mb: Any, made: Any) -> Any:
    """Nearly all values are 0 or 1, as a trained mask has them."""
    return mb.sigmoid(x=mb.mul(x=made, y=1e4), name="y")


def yes_or_no(mb: Any, made: Any) -> Any:
    return mb.cast(x=mb.greater(x=made, y=0.0), dtype="fp32", name="y")


def test_a_grey_picture_is_dark(folder: Path) -> None:
    assert_dark(grey(folder, faint), "all of it is black")


def classes(mb: Any, made: Any) -> Any:
    return mb.cast(x=mb.reduce_argmax(x=made, axis=1, keep_dims=True), dtype="fp32", name="y")


def test_a_map_of_classes_is_meant(folder: Path) -> None:
    assert_healthy(grey(folder, classes, channels=5))


@pytest.mark.parametrize(("end", "channels"), [(classes, 2), (trained, 1), (yes_or_no, 1)])
def test_a_mask_or_a_map_of_two_classes_is_advice(folder: Path, end: Callable[[Any, Any], Any], channels: int) -> None:
    """An app may read it as such: a published network of segmentation is made so."""
    diagnosis = diagnose(grey(folder, end, channels))
    assert diagnosis.healthy
    assert [(f.rule, f.advice, "reads the pixels as classes" in f.repair) for f in diagnosis] == [
        ("picture-range", True, True)
    ]
