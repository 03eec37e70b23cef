"""A scale that a converter wrote as a batch normalisation is off by its epsilon, and by no more."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.model.onnx.model import OnnxModel
from coreproof.verification.fused import fused_scales
from tests.verification.test_carried import net

SHAPE = (1, 4, 6, 6)
SCALE, SHIFT = np.array([1.5, 0.8, 1.1, 2.0], np.float32), np.array([0.1, 0.2, -0.3, 0.0], np.float32)


def scaled() -> OnnxModel:
    nodes = [helper.make_node("Mul", ["x", "a"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    return net(nodes, {"a": SCALE.reshape(4, 1, 1), "b": SHIFT.reshape(4, 1, 1)}, SHAPE)


def normalised(epsilon: float = 1e-5, variance: float = 1.0, scale: float = 1.0) -> OnnxModel:
    weights = {"a": SCALE * np.float32(scale), "b": SHIFT, "mean": np.zeros(4, np.float32)}
    weights["variance"] = np.full(4, variance, np.float32)
    node = helper.make_node("BatchNormalization", ["x", "a", "b", "mean", "variance"], ["y"], epsilon=epsilon)
    return net([node], weights, SHAPE)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_the_epsilon_of_a_fused_scale_is_no_fault(to: str) -> None:
    made = onnx_to_coreml(normalised(), to, precision="fp32")  # type: ignore[arg-type]
    assert list(fused_scales(made).values()) == pytest.approx([5e-6], rel=1e-3)
    assert cp.verify(scaled(), made)


@pytest.mark.parametrize("fault", [{"scale": 1.0 + 4e-5}, {"variance": 1.0001}, {"epsilon": 0.01}])
def test_anything_more_is_one(fault: dict[str, float]) -> None:
    assert not cp.verify(scaled(), onnx_to_coreml(normalised(**fault), "mlprogram", precision="fp32"))


def test_a_batch_normalisation_with_statistics_is_none() -> None:
    assert not fused_scales(onnx_to_coreml(normalised(variance=0.5), "mlprogram", precision="fp32"))
    assert not fused_scales(normalised())
