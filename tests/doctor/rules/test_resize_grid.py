"""Pictures on another grid than the source's, in every format."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from coreproof.doctor.diagnose import diagnose
from coreproof.doctor.source.source_grid import bilinear_kernel, with_meant_grid
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.onnx.model import OnnxModel
from coreproof.runtime.open import session
from tests.build import convolution, named, network, onnx_net, weights
from tests.doctor.rules.cases import assert_healthy, assert_repaired, outputs, sample

RULE = "bilinear-grid"


def resized(grid: str, factor: int = 2, mode: str = "linear", **more: Any) -> OnnxModel:
    return onnx_net(
        [
            ("Conv", "x w", "c", {"pads": [1, 1, 1, 1]}),
            ("Resize", "c  s", "y", {"mode": mode, "coordinate_transformation_mode": grid, **more}),
        ],
        {"x": [1, 3, 6, 5]},
        {"y": None},
        w=weights(4, 3, 3, 3),
        s=np.array([1, 1, factor, factor], np.float32),
    )


def upsampled(version: int, factor: int = 2, mode: str = "DEFAULT") -> CoreMLModel:
    more = {} if mode == "DEFAULT" else {"linearUpsampleMode": mode}
    up = named("up", "upsample", "c", "y", scalingFactor=[factor, factor], mode="BILINEAR", **more)
    model = network([convolution("conv", "x", "c", weights(4, 3, 3, 3)), up], {"x": (3, 6, 5)}, {"y": None})
    model.spec.specificationVersion = version
    return model


def assert_like(model: CoreMLModel | None, source: OnnxModel) -> None:
    assert model is not None
    fed = sample(source)
    np.testing.assert_allclose(outputs(model, {"x": fed["x"][0]})[0], outputs(source, fed)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_half_pixels_in_a_network_that_has_no_word_for_them(factor: int) -> None:
    source = resized("half_pixel", factor)
    diagnosis = diagnose(upsampled(1, factor), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [(RULE, "up", True)]
    repaired = diagnosis.repaired
    assert isinstance(repaired, CoreMLModel)
    assert repaired.spec.specificationVersion == 1, "every version knows the layers that stand in"
    assert_like(repaired, source)
    assert list(diagnose(repaired, source)) == []


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners"])
def test_a_newer_network_says_its_grid(grid: str) -> None:
    source = resized(grid)
    diagnosis = diagnose(upsampled(5), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [(RULE, "up", True)]
    assert "linearUpsampleMode" in diagnosis[0].repair
    assert_like(diagnosis.repaired, source)  # type: ignore[arg-type]


def test_aligned_corners_in_an_older_network() -> None:
    source = resized("align_corners")
    diagnosis = diagnose(upsampled(1), source)
    assert [(f.rule, f.layer, f.repaired) for f in diagnosis] == [(RULE, "up", True)]
    assert_like(diagnosis.repaired, source)  # type: ignore[arg-type]


def test_the_right_grid_is_left_alone() -> None:
    assert_healthy(upsampled(1), resized("asymmetric"))
    assert_healthy(upsampled(5, mode="ALIGN_CORNERS_FALSE"), resized("half_pixel"))


@pytest.mark.sweep(3)
@pytest.mark.parametrize("wrong", ["asymmetric", "align_corners", "half_pixel"])
@pytest.mark.parametrize("right", ["asymmetric", "align_corners", "half_pixel"])
def test_onnx(wrong: str, right: str) -> None:
    if wrong == right:
        assert_healthy(resized(wrong), resized(right))
    else:
        assert_repaired(resized(wrong), resized(right), RULE, "to_y", source=resized(right))


def test_nearest_pixels_of_another_rounding() -> None:
    right = resized("half_pixel", 3, "nearest", nearest_mode="round_prefer_floor")
    wrong = resized("half_pixel", 3, "nearest", nearest_mode="ceil")
    assert_repaired(wrong, right, RULE, "to_y", source=right)


# what PyTorch's Upsample means


def torch_upsample(producer: str) -> OnnxModel:
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Upsample", ["c", "s"], ["y"], mode="linear"),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 6, 5])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4, 12, 10])],
        [
            numpy_helper.from_array(weights(4, 3, 3, 3), "w"),
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4, producer_name=producer)
    return OnnxModel(ir.from_proto(proto), name="net")


def test_pytorch_wrote_upsample_for_half_pixels_only() -> None:
    source = torch_upsample("pytorch")
    fed = sample(source)
    with session(with_meant_grid(source)) as running:
        made = running.run(fed)["y"]
    np.testing.assert_allclose(made.reshape(-1), outputs(resized("half_pixel"), fed)[0], rtol=1e-4, atol=1e-5)
    found = diagnose(upsampled(1), source)
    assert [(f.rule, f.layer, f.repaired) for f in found] == [(RULE, "up", True)]
    assert "read on the half-pixel centres that PyTorch meant" in found[0].cause


def test_the_upsample_of_others_is_taken_at_its_word() -> None:
    source = torch_upsample("keras2onnx")
    assert with_meant_grid(source) is source
    assert_healthy(upsampled(1), source)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_the_kernel_spreads_each_pixel_whole(factor: int) -> None:
    kernel, (top, left) = bilinear_kernel(2, (factor, factor))
    assert kernel.shape[:2] == (2, 1)
    np.testing.assert_allclose(kernel.sum((2, 3)), factor**2, rtol=1e-6)
    assert top == left == 3 * factor // 2
