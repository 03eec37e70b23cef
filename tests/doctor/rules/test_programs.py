"""The same faults in ML Programs: made by one edit of a healthy program, undone by the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coreproof.doctor.diagnose import diagnose
from coreproof.editing.edit import Edit, edit
from coreproof.model.coreml.model import CoreMLModel
from tests.build import mil, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired


@pytest.fixture(scope="module")
def tail(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    w, f = weights(8, 3, 3, 3), weights(10, 288)

    def build(mb: Any, x: Any) -> Any:
        y = mb.conv(x=x, weight=w, pad_type="valid", name="filtered")
        y = mb.reshape(x=y, shape=[1, -1], name="flat")
        return mb.linear(x=y, weight=f, name="out")

    return mil(tmp_path_factory.mktemp("tail"), build, (1, 3, 8, 8))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> CoreMLModel:
    w = weights(8, 3, 3, 3)

    def build(mb: Any, x: Any) -> Any:
        y = mb.pad(x=x, pad=[0, 0, 0, 0, 1, 2, 3, 4], mode="constant", name="padded")
        y = mb.conv(x=y, weight=w, pad_type="valid", name="filtered")
        y = mb.resize_bilinear(
            x=y, target_size_height=12, target_size_width=12, sampling_mode="UNALIGN_CORNERS", name="resized"
        )
        return mb.upsample_bilinear(x=y, scale_factor_height=2, scale_factor_width=2, align_corners=False, name="out")

    return mil(tmp_path_factory.mktemp("picture"), build, (1, 3, 8, 8))


def planted(model: CoreMLModel, layer: str, attribute: str, value: Any) -> CoreMLModel:
    step = Edit("set", {"layer": layer, "attribute": attribute, "value": value})
    made = edit(model, [step], check=False).model
    assert isinstance(made, CoreMLModel)
    return made


def test_healthy_programs(tail: CoreMLModel, picture: CoreMLModel) -> None:
    for model in (tail, picture):
        assert_healthy(model)
        assert_healthy(model, model)


@pytest.mark.parametrize("batch", [4, 10])
def test_a_baked_batch(tail: CoreMLModel, batch: int) -> None:
    assert_repaired(planted(tail, "flat", "shape", [batch, -1]), tail, "batch-baked-reshape", "flat")


def test_begins_and_ends_mixed_up(picture: CoreMLModel) -> None:
    broken = planted(picture, "padded", "pad", [0, 0, 1, 3, 0, 0, 2, 4])
    assert_repaired(broken, picture, "constantpad-order", "padded")


def test_begins_and_ends_exchanged(picture: CoreMLModel) -> None:
    broken = planted(picture, "padded", "pad", [0, 0, 0, 0, 2, 1, 4, 3])
    assert diagnose(broken).healthy
    assert_repaired(broken, picture, "constantpad-order", "padded", source=picture)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("layer", "attribute", "value"),
    [
        ("resized", "sampling_mode", "STRICT_ALIGN_CORNERS"),
        ("resized", "sampling_mode", "DEFAULT"),
        ("out", "align_corners", True),
    ],
)
def test_another_grid(picture: CoreMLModel, layer: str, attribute: str, value: Any) -> None:
    broken = planted(picture, layer, attribute, value)
    assert diagnose(broken).healthy
    assert_repaired(broken, picture, "bilinear-grid", layer, source=picture)


def test_a_broken_program_is_read_from_its_file(tail: CoreMLModel, tmp_path: Path) -> None:
    path = planted(tail, "flat", "shape", [10, -1]).save(tmp_path / "broken.mlpackage")
    assert [(f.rule, f.layer, f.repaired) for f in diagnose(path)] == [("batch-baked-reshape", "flat", True)]
