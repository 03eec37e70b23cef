"""Activations and softmaxes against PyTorch, and by their definitions where it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.conversion.onnx_to_coreml.one_node import check_node

X = np.append(3 * np.random.default_rng(0).normal(size=(2, 3, 8)), [[[0.0, 0.5, -0.5, 1, -1, 20, -20, 3]] * 3] * 2, 2)
X = X.astype(np.float32)
ACTIVATIONS: dict[str, tuple[dict[str, float], Callable[[Any], Any]]] = {
    "Relu": ({}, F.relu),
    "LeakyRelu": ({"alpha": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    "Elu": ({"alpha": 0.7}, lambda x: F.elu(x, 0.7)),
    "Selu": ({}, F.selu),
    "Celu": ({"alpha": 0.7}, lambda x: F.celu(x, 0.7)),
    "Sigmoid": ({}, torch.sigmoid),
    "HardSigmoid": ({"alpha": 0.3, "beta": 0.4}, lambda x: (0.3 * x + 0.4).clamp(0, 1)),
    "HardSwish": ({}, F.hardswish),
    "Softplus": ({}, F.softplus),
    "Softsign": ({}, F.softsign),
    "Tanh": ({}, torch.tanh),
    "ThresholdedRelu": ({"alpha": 0.5}, lambda x: torch.where(x > 0.5, x, torch.zeros(()))),
    "Mish": ({}, F.mish),
    "Shrink": (
        {"lambd": 0.7, "bias": 0.2},
        lambda x: torch.where(x < -0.7, x + 0.2, torch.where(x > 0.7, x - 0.2, 0 * x)),
    ),
}


@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_activations(operator: str) -> None:
    attributes, expected = ACTIVATIONS[operator]
    check_node(operator, {"x": X}, expected(torch.from_numpy(X)).numpy(), opset=18, atol=2e-5, **attributes)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_in_both_forms(approximate: str) -> None:
    expected = F.gelu(torch.from_numpy(X), approximate=approximate).numpy()
    check_node("Gelu", {"x": X}, expected, opset=20, approximate=approximate)


@pytest.mark.parametrize(("operator", "of"), [("Softmax", F.softmax), ("LogSoftmax", F.log_softmax)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_over_one_axis_and_before_opset_13_over_all_that_follow(
    operator: str, of: Callable[..., Any], axis: int
) -> None:
    x = torch.from_numpy(X)
    check_node(operator, {"x": X}, of(x, axis).numpy(), opset=13, axis=axis, atol=2e-5)
    behind = x.reshape(int(np.prod(X.shape[:axis])), -1) if axis else x.reshape(1, -1)
    check_node(operator, {"x": X}, of(behind, -1).reshape(X.shape).numpy(), opset=11, axis=axis, atol=2e-5)


def test_hardmax_marks_the_first_of_the_largest() -> None:
    x = np.array([[1, 3, 3], [2, 0, 1]], np.float32)
    check_node("Hardmax", {"x": x}, np.array([[0, 1, 0], [1, 0, 0]], np.float32), opset=13, axis=1)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 2)])
def test_early_slopes_are_one_a_channel(shape: tuple[int, ...]) -> None:
    """Until opset 6; since then they are aligned at their end."""
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    slope = np.array([0.1, 0.2, 0.3], np.float32)
    want = torch.nn.functional.prelu(torch.from_numpy(x), torch.from_numpy(slope)).numpy()
    check_node("PRelu", {"x": x}, want, {"slope": slope}, opset=6)
    check_node("PRelu", {"x": x}, np.where(x < 0, x * np.float32(0.2), x), {"slope": slope[1:2]}, opset=6)


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish(alpha: float) -> None:
    check_node("Swish", {"x": X}, X / (1 + np.exp(-alpha * X.astype(np.float64))), opset=24, alpha=alpha)
