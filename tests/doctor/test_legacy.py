"""Every broken conversion of 2018-2020, and every healthy one, through the doctor: with and without its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coreproof.doctor.diagnose import Diagnosis, diagnose
from coreproof.model.base import Model
from coreproof.model.load import load
from coreproof.runtime.open import session

BY_ITSELF = {
    "catvec_b4_torch110_oc040": ("batch-baked-reshape", "15"),
    "dynreshape_torch110_oc10_ios13": ("dynamic-reshape-rank", "19"),
    "padconst_torch110_oc13_ios13": ("constantpad-order", "5"),
    "rn50thin_b10_torch110_oc10_ios13": ("batch-baked-reshape", "501"),
    "rn50thin_b32_torch110_oc040": ("batch-baked-reshape", "501"),
    "twohead_cls_torch110_oc040": ("classifier-wrong-blob", "19"),
    "vggthin_b10_torch110_oc040": ("batch-baked-reshape", "38"),
}
"""What the model alone tells: case -> rule and layer."""

WITH_SOURCE = {
    "dethead_b4_torch110_oc040": ("batch-baked-reshape", "25"),
    "oneminus_torch110_oc040": ("dangling-input", "8"),
    "upbilinear_torch101_oc040": ("bilinear-grid", "8"),
}
HEALTHY = [
    "ok_dethead_b1_torch110_oc040", "ok_padconst_torch110_oc10_ios13", "ok_resnet18thin_torch110_oc040",
    "ok_rn50thin_b1_torch110_oc040", "ok_seblock_b1_torch110_oc040", "ok_vggthin_torch110_oc040",
]  # fmt: skip


def the(case: str, shared_data: Path) -> tuple[Path, Path, dict[str, Any]]:
    """The model, its source and what is known of it."""
    folder = shared_data / "legacy" / case
    told = json.loads((folder / "case.json").read_text())
    return folder / told["files"]["coreml"], folder / told["files"]["onnx"], told


def assert_expected(model: Model, folder: Path, told: dict[str, Any]) -> None:
    """The model's first output is torch's, as the case says."""
    data = np.load(folder / "data.npz")
    (feature,) = model.signature.inputs
    if feature.image is not None:
        fed: Any = Image.fromarray(data["image_u8_hwc_rgb"])
    else:
        assert feature.shape is not None
        fed = data["x_nchw"].reshape([int(n or 0) for n in feature.shape])
    with session(model) as running:
        made = running.run({feature.name: fed}, [running.signature.scores] if running.signature.scores else [])
    name = running.signature.scores or model.signature.outputs[0].name
    wanted = data[told["data"]["expected_key"]].reshape(-1)
    assert np.abs(np.asarray(made[name]).reshape(-1) - wanted).max() <= (
        told["expected"]["tolerance_rel_max"] * np.abs(wanted).max()
    )


def assert_one_repaired(diagnosis: Diagnosis, rule: str, layer: str) -> None:
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [(rule, layer, True)]
    assert diagnosis.repaired is not None
    assert diagnosis[0].proof


@pytest.mark.sweep(1, each="case")
@pytest.mark.parametrize("with_source", [False, True])
@pytest.mark.parametrize("case", sorted(BY_ITSELF))
def test_what_the_model_alone_tells(case: str, with_source: bool, shared_data: Path, tmp_path: Path) -> None:
    model, source, told = the(case, shared_data)
    diagnosis = diagnose(model, source if with_source else None)
    assert_one_repaired(diagnosis, *BY_ITSELF[case])
    assert diagnosis.repaired is not None
    written = load(diagnosis.repaired.save(tmp_path / "repaired.mlmodel"))
    assert_expected(written, model.parent, told)
    assert diagnose(written).healthy


@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", sorted(WITH_SOURCE))
def test_what_only_the_source_tells(case: str, shared_data: Path) -> None:
    model, source, told = the(case, shared_data)
    diagnosis = diagnose(model, source)
    assert_one_repaired(diagnosis, *WITH_SOURCE[case])
    assert diagnosis.repaired is not None
    assert_expected(diagnosis.repaired, model.parent, told)


def test_a_lost_constant_is_not_guessed(shared_data: Path) -> None:
    model, _, _ = the("oneminus_torch110_oc040", shared_data)
    diagnosis = diagnose(model)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("dangling-input", "8", False)]
    assert "--against" in diagnosis[0].repair
    assert diagnosis.repaired is None


@pytest.mark.thorough
def test_labels_are_not_guessed_but_taken(shared_data: Path) -> None:
    model, source, told = the("labelcount_torch110_oc040", shared_data)
    for known in (None, source):
        diagnosis = diagnose(model, known)
        assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [("class-label-count", "198", False)]
        assert "100" in diagnosis[0].repair
        assert "--labels" in diagnosis[0].repair
    right = [f"class {i}" for i in range(100)]
    diagnosis = diagnose(model, labels=right)
    assert_one_repaired(diagnosis, "class-label-count", "198")
    assert diagnosis.repaired is not None
    assert diagnosis.repaired.signature.labels == tuple(right)
    assert_expected(diagnosis.repaired, model.parent, told)


@pytest.mark.sweep(1, each="case")
@pytest.mark.parametrize("with_source", [False, True])
@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_controls_are_left_alone(case: str, with_source: bool, shared_data: Path) -> None:
    model, source, _ = the(case, shared_data)
    before = model.read_bytes()
    diagnosis = diagnose(model, source if with_source else None)
    assert list(diagnosis) == []
    assert diagnosis.repaired is None
    assert model.read_bytes() == before
