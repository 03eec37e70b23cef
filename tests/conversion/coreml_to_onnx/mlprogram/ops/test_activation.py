"""Activations against their formulas in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("activation")
Array = np.ndarray
EDGES = np.float32([-65504, -80, -3, -1.5, -1, -1e-3, -0.0, 0, 1e-3, 0.5, 1, 2.5, 6, 6.5, 100, 65504])
X = 4 * normal(2, 3, 2, 2)


def rows(**parameters: Any) -> list[dict[str, Any]]:
    """Of ranks 1 to 5, with the same parameters."""
    return [{"x": x, **parameters} for x in (EDGES, 3 * normal(4, 3), X, 2 * normal(1, 2, 1, 2, 3))]


@family.defines("relu", "x", [*rows(), {"x": np.float32([np.nan, np.inf, -np.inf])}])
def relu(x: Array) -> Array:
    return np.maximum(x, 0)


@family.defines("relu6", "x", [*rows(), {"x": np.float32([np.nan, np.inf, -np.inf])}])
def relu6(x: Array) -> Array:
    return np.minimum(np.maximum(x, 0), 6)


@family.defines("sigmoid", "x", [*rows(), {"x": np.float32([np.nan, np.inf, -np.inf])}], within=1e-6)
def sigmoid(x: Array) -> Array:
    return special.expit(x)


@family.defines("softplus", "x", rows(), within=1e-6)
def softplus(x: Array) -> Array:
    return np.logaddexp(x, 0)


@family.defines("softsign", "x", rows(), within=1e-6)
def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


@family.defines(
    "clamped_relu",
    "x",
    [*rows(alpha=2.0, beta=1.0), *rows(alpha=-0.5, beta=6.0), *rows(alpha=0.25, beta=-1.0)],
    within=1e-6,
)
def clamped_relu(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(beta, np.where(x >= 0, x, alpha * x))


@family.defines("elu", "x", [*rows(alpha=1.0), *rows(alpha=0.25)], within=1e-6)
def elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


GELU = {
    "EXACT": lambda x: x * special.ndtr(x),
    "TANH_APPROXIMATION": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "SIGMOID_APPROXIMATION": lambda x: x * special.expit(1.702 * x),
}


@family.defines("gelu", "x", [*rows(), *(row for mode in GELU for row in rows(mode=mode))], within=2e-6)
def gelu(x: Array, mode: str = "EXACT") -> Array:
    return GELU[mode](x)


@family.defines("leaky_relu", "x", [*rows(alpha=0.25), *rows(alpha=2.0), *rows(alpha=-0.1)], within=1e-6)
def leaky_relu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, alpha * x)


@family.defines("linear_activation", "x", rows(alpha=2.0, beta=-0.5), within=1e-6)
def linear_activation(x: Array, alpha: float, beta: float) -> Array:
    return alpha * x + beta


SLOPES = np.float32([-0.5, 0.25, 2])


@family.defines(
    "prelu", "x",
    [
        {"x": 3 * normal(2, 3, 2, 4), "alpha": SLOPES},
        # coremltools writes one slope alone for other ranks
        *({"x": 3 * normal(2, 3, *more), "alpha": np.float32([0.25] * 3)} for more in ((2,), (1, 2, 3))),
    ],
    within=1e-6,
)  # fmt: skip
def prelu(x: Array, alpha: Array) -> Array:
    return np.where(x >= 0, x, along_channels(alpha, x) * x)


def along_channels(vector: Array, x: Array) -> Array:
    return np.reshape(vector, (-1, *[1] * (x.ndim - 2)))


@family.defines("scaled_tanh", "x", rows(alpha=1.7159, beta=0.667), within=2e-6)
def scaled_tanh(x: Array, alpha: float, beta: float) -> Array:
    return alpha * np.tanh(beta * x)


@family.defines("sigmoid_hard", "x", [*rows(alpha=0.2, beta=0.5), *rows(alpha=1 / 6, beta=0.25)], within=1e-6)
def sigmoid_hard(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


@family.defines("silu", "x", rows(), within=1e-6)
def silu(x: Array) -> Array:
    return x * special.expit(x)


@family.defines(
    "softplus_parametric", "x",
    [{"x": 3 * normal(2, 3, *more), "alpha": SLOPES, "beta": -SLOPES} for more in ((2,), (2, 4), (1, 2, 3))], within=1e-6,
)  # fmt: skip
def softplus_parametric(x: Array, alpha: Array, beta: Array) -> Array:
    return along_channels(alpha, x) * np.logaddexp(along_channels(beta, x) * x, 0)


@family.defines(
    "softmax", "x",
    [
        {"x": X}, {"x": X, "axis": 1}, {"x": X, "axis": -4}, {"x": normal(2, 1, 2, 3, 2), "axis": 2}, {"x": EDGES},
        {"x": np.float32([[-np.inf, 0, 1], [5, 5, 5]])}, {"x": np.float32([[1000], [-1000]])},
        {"x": np.float32([[np.nan, 1], [np.inf, 0], [-np.inf, -np.inf]])},
    ], within=1e-6,
)  # fmt: skip
def softmax(x: Array, axis: int = -1) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


@family.defines(
    "thresholded_relu", "x", [*rows(alpha=1.0), *rows(alpha=-1.0), {"x": np.float32([np.nan, np.inf]), "alpha": 0.5}]
)
def thresholded_relu(x: Array, alpha: float) -> Array:
    return np.where(x >= alpha, x, 0)


@family.each
def test_each_activation_follows_its_formula(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
