"""Sampling at computed places, against PyTorch and ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node

RANDOM = np.random.default_rng(7)
PROGRAMS = [t for t in TARGETS if t[0] == "mlprogram"]
PICTURE = RANDOM.normal(size=(2, 3, 5, 6)).astype(np.float32)
VOLUME = RANDOM.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
# some places lie far outside, so that a border reflects more than once
GRID = RANDOM.uniform(-2.7, 2.7, size=(2, 4, 3, 2)).astype(np.float32)
VOLUME_GRID = RANDOM.uniform(-2.7, 2.7, size=(2, 2, 4, 3, 3)).astype(np.float32)


MODES = [("bilinear", 2), ("nearest", 2), ("bicubic", 2), ("bilinear", 3), ("nearest", 3)]


@pytest.mark.sweep(1, each="mode")
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("border", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("mode", "axes"), MODES)
def test_pictures_and_volumes(mode: str, axes: int, border: str, aligned: bool) -> None:
    x, grid = (PICTURE, GRID) if axes == 2 else (VOLUME, VOLUME_GRID)
    wanted = torch.nn.functional.grid_sample(
        torch.tensor(x), torch.tensor(grid), mode=mode, padding_mode=border, align_corners=aligned
    )
    check_node(
        "GridSample",
        {"x": x, "grid": grid},
        wanted.numpy(),
        targets=PROGRAMS,
        opset=16 if axes == 2 else 20,
        mode="linear" if axes == 3 and mode == "bilinear" else mode,
        padding_mode=border,
        align_corners=int(aligned),
    )


def _referred(operator: str, inputs: dict[str, Any], constants: dict[str, Any], described: dict[str, Any]) -> Any:
    """What ONNX's own reference makes of the node."""
    proto = onnx.load_model_from_string(
        ir.to_proto(node_model(operator, inputs, constants, **described).ir).SerializeToString()
    )
    return ReferenceEvaluator(proto).run(None, inputs)[0]


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("described", "groups", "offset_groups"),
    [
        ({}, 1, 1),
        ({"strides": [2, 1], "pads": [1, 2, 1, 2], "dilations": [1, 2]}, 1, 1),
        ({"pads": [1, 1, 1, 1]}, 2, 4),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolutions(described: dict[str, Any], groups: int, offset_groups: int, masked: bool) -> None:
    x = RANDOM.normal(size=(2, 4, 6, 7)).astype(np.float32)
    weights = RANDOM.normal(size=(6, 4 // groups, 3, 2)).astype(np.float32)
    bias = RANDOM.normal(size=6).astype(np.float32)
    settings = {"stride": described.get("strides", [1, 1]), "dilation": described.get("dilations", [1, 1])}
    padding = described.get("pads", [0, 0])[:2]
    plain = torch.nn.functional.conv2d(
        torch.tensor(x), torch.tensor(weights), groups=groups, padding=padding, **settings
    )
    points = plain.shape[2:]
    inputs = {"x": x, "offset": RANDOM.normal(scale=1.5, size=(2, 2 * offset_groups * 6, *points)).astype(np.float32)}
    if masked:
        inputs["mask"] = RANDOM.uniform(size=(2, offset_groups * 6, *points)).astype(np.float32)
    constants = {"weights": weights, "bias": bias}
    whole = {
        "order": ["x", "weights", "offset", "bias", "mask"][: 5 if masked else 4],
        "opset": 19,
        "group": groups,
        "offset_group": offset_groups,
        "kernel_shape": [3, 2],
        "strides": settings["stride"],
        "dilations": settings["dilation"],
        "pads": [*padding, *padding],
    }
    wanted = _referred("DeformConv", inputs, constants, whole)
    check_node("DeformConv", inputs, wanted, constants, targets=PROGRAMS, rtol=1e-4, atol=1e-4, **whole)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("how", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize(("mode", "ratio"), [("avg", 0), ("avg", 1), ("avg", 2), ("avg", 3), ("max", 2)])
def test_regions(mode: str, ratio: int, how: str) -> None:
    rois = np.array([[0.2, 1.1, 6.3, 7.9], [2.0, 0.5, 4.4, 3.1], [-3, -2, 30, 40], [1, 1, 1.2, 1.1]], np.float32)
    # as many samples as a region is large, up to twice the picture
    rois = (
        rois
        if ratio
        else np.array([[0.2, 1.1, 6.3, 7.9], [2.0, 0.5, 4.4, 3.1], [-3, -2, 9, 12], [1, 1, 1.2, 1.1]], np.float32)
    )
    inputs = {"x": PICTURE, "rois": rois, "batch": np.array([0, 1, 1, 0])}
    described = {
        "opset": 16,
        "mode": mode,
        "coordinate_transformation_mode": how,
        "output_height": 2,
        "output_width": 3,
        "sampling_ratio": ratio,
        "spatial_scale": 0.6,
    }
    check_node("RoiAlign", inputs, _referred("RoiAlign", inputs, {}, described), targets=PROGRAMS, **described)
