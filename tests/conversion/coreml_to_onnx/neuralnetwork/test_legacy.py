"""Real conversions of 2018-2020: the healthy and repaired ones give PyTorch's numbers, the broken ones break as recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.conversion.coreml_to_onnx.neuralnetwork.network import lower_network
from coreproof.errors import ConversionError
from coreproof.model.coreml.model import load_coreml
from tests.conversion.coreml_to_onnx.lowered import run_lowered

LOUD = {
    "catvec_b4_torch110_oc040": r"'26'[\s\S]*8 input channels[\s\S]*2 in a blob of shape \[4, 1, 2, 1, 1\]",
    "dynreshape_torch110_oc10_ios13": r"'19'[\s\S]*one rank[\s\S]*\[1, 1\] and 18 \[1\]",
    "labelcount_torch110_oc040": r"'198'[\s\S]*1000 values[\s\S]*100 values",
    "oneminus_torch110_oc040": r"'8'[\s\S]*'7', which nothing makes",
    "padconst_torch110_oc13_ios13": r"'6'[\s\S]*3 channels[\s\S]*5 channels",
    "rn50thin_b10_torch110_oc10_ios13": r"'501'[\s\S]*\[10, -1\][\s\S]*256 values in \[1, 256, 1, 1\]",
    "rn50thin_b32_torch110_oc040": r"'502'[\s\S]*256 input channels[\s\S]*8 in a blob of shape \[32, 1, 8, 1, 1\]",
    "twohead_cls_torch110_oc040": r"'19'[\s\S]*10 values[\s\S]*2 values",
    "vggthin_b10_torch110_oc040": r"'38'[\s\S]*\[10, -1, 1, 1\][\s\S]*784 values in \[1, 1, 16, 7, 7\]",
}
SILENT = {"dethead_b4_torch110_oc040": 0.81, "upbilinear_torch101_oc040": 0.31}
HEALTHY = [
    "ok_dethead_b1_torch110_oc040/model.mlmodel",
    "ok_padconst_torch110_oc10_ios13/model.mlmodel",
    "ok_resnet18thin_torch110_oc040/model.mlmodel",
    "ok_rn50thin_b1_torch110_oc040/model.mlmodel",
    "ok_seblock_b1_torch110_oc040/model.mlmodel",
    "ok_vggthin_torch110_oc040/model.mlmodel",
    "catvec_b4_torch110_oc040/repaired.mlmodel",
    "dethead_b4_torch110_oc040/repaired.mlmodel",
    "dynreshape_torch110_oc10_ios13/repaired.mlmodel",
    "oneminus_torch110_oc040/repaired.mlmodel",
    "padconst_torch110_oc13_ios13/repaired.mlmodel",
    "twohead_cls_torch110_oc040/repaired.mlmodel",
    "upbilinear_torch101_oc040/repaired.mlmodel",
    "vggthin_b10_torch110_oc040/repaired.mlmodel",
]


def relative_error(path: Path) -> float:
    """Largest difference to what PyTorch gave, by the largest value."""
    case: dict[str, Any] = json.loads((path.parent / "case.json").read_text())
    data = np.load(path.parent / "data.npz")
    lowered = lower_network(load_coreml(path), "fp32")
    (feature,) = lowered.signature.inputs
    if feature.image is not None:
        x = data["image_u8_hwc_rgb"].astype(np.float32).transpose(2, 0, 1)[None]
        x = np.ascontiguousarray(x[:, ::-1]) if feature.image.colour == "BGR" else x
    else:
        x = data["x_nchw"].reshape(feature.shape).astype(np.float32)
    name = lowered.signature.scores or lowered.signature.outputs[0].name
    found = run_lowered(lowered, **{feature.name: x})[name].ravel()
    expected = data[case["data"]["expected_key"]].ravel()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("path", HEALTHY)
def test_healthy_and_repaired_models_give_pytorchs_numbers(shared_data: Path, path: str) -> None:
    assert relative_error(shared_data / "legacy" / path) < 1e-5


@pytest.mark.parametrize(("case", "error"), SILENT.items())
def test_silent_faults_give_the_recorded_wrong_numbers(shared_data: Path, case: str, error: float) -> None:
    assert relative_error(shared_data / "legacy" / case / "broken.mlmodel") == pytest.approx(error, abs=0.01)


@pytest.mark.parametrize(("case", "message"), LOUD.items())
def test_loud_faults_are_refused_at_their_layer(shared_data: Path, case: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        lower_network(load_coreml(shared_data / "legacy" / case / "broken.mlmodel"), "fp32")
