"""Normalisations against their formulas in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.lowered import only
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("normalization")
Array = np.ndarray
MEAN, VARIANCE, GAMMA, BETA = normal(3), np.abs(normal(3)) + 0.1, normal(3), normal(3)
SHAPES = ((2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 2, 3))


def along_channels(vector: Array | float, x: Array) -> Array:
    return np.reshape(vector, (-1, *[1] * (x.ndim - 2)))


@family.defines(
    "batch_norm", "x",
    [
        *({"x": normal(*s), "mean": MEAN, "variance": VARIANCE, "gamma": GAMMA, "beta": BETA} for s in SHAPES),
        {"x": normal(2, 3, 4), "mean": MEAN, "variance": VARIANCE},
        {"x": normal(2, 3, 4, 1), "mean": MEAN, "variance": np.zeros(3, np.float32), "epsilon": np.float32(0.25)},
        {"x": normal(1, 3, 2, 2), "mean": MEAN, "variance": VARIANCE, "gamma": GAMMA, "beta": BETA, "epsilon": np.float32(0.5)},
    ],
    within=1e-5,
)  # fmt: skip
def batch_norm(
    x: Array, mean: Array, variance: Array, gamma: Array | float = 1, beta: Array | float = 0, epsilon: float = 1e-5
) -> Array:
    mean, variance, gamma, beta = (along_channels(v, x) for v in (mean, variance, gamma, beta))
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


@family.defines(
    "instance_norm", "x",
    [
        *({"x": normal(*s), "gamma": GAMMA, "beta": BETA} for s in SHAPES[:2]), {"x": normal(2, 3, 4, 2)},
        {"x": normal(1, 3, 6), "gamma": GAMMA, "beta": BETA, "epsilon": np.float32(0.5)},
    ],
    within=1e-5,
)  # fmt: skip
def instance_norm(x: Array, gamma: Array | float = 1, beta: Array | float = 0, epsilon: float = 1e-5) -> Array:
    return along_channels(gamma, x) * standard(x, tuple(range(2, x.ndim)), epsilon) + along_channels(beta, x)


def standard(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


@family.defines(
    "layer_norm", "x",
    [
        {"x": normal(2, 3, 4), "axes": [0, 1, 2]}, {"x": normal(5), "axes": [0]},
        {"x": normal(2, 1, 2, 2, 3), "axes": [-1]}, {"x": normal(2, 3, 4), "axes": [1]},
        {"x": normal(2, 3, 4), "axes": [2, 1], "epsilon": np.float32(0.5)}, {"x": normal(2, 3, 4, 2), "axes": [0, 2]},
        {"x": normal(2, 3, 4), "axes": [-1], "gamma": normal(4), "beta": normal(4)},
        {"x": normal(2, 3, 4), "axes": [1, 2], "gamma": normal(3, 4)},
        {"x": normal(2, 3, 4), "axes": [1], "gamma": GAMMA, "beta": BETA},
        {"x": normal(2, 3, 4), "axes": [0, 2], "gamma": normal(2, 4), "beta": normal(2, 4)},
        {"x": np.full((2, 4), 7, np.float32), "axes": [1]},
    ],
    within=1e-5,
)  # fmt: skip
def layer_norm(
    x: Array, axes: Sequence[int], gamma: Array | float = 1, beta: Array | float = 0, epsilon: float = 1e-5
) -> Array:
    over = sorted(a % x.ndim for a in axes)
    shape = [n if a in over else 1 for a, n in enumerate(x.shape)]
    gamma, beta = (np.reshape(v, shape) if np.ndim(v) else v for v in (gamma, beta))
    return gamma * standard(x, tuple(over), epsilon) + beta


@family.defines(
    "l2_norm", "x",
    [{"x": normal(2, 3, 4)}, {"x": normal(2, 3, 2, 2)}, {"x": normal(2, 1, 2, 3, 2), "epsilon": np.float32(0.5)},
      {"x": np.zeros((1, 2, 2), np.float32)}],
    within=1e-6,
)  # fmt: skip
def l2_norm(x: Array, epsilon: float = 1e-6) -> Array:
    return x / np.sqrt((x * x).sum((-3, -2, -1), keepdims=True) + epsilon)


@family.defines(
    "local_response_norm", "x",
    [
        *({"x": normal(2, 5, 3, 2), "size": size} for size in (1, 2, 3, 4, 5)),
        {"x": 3 * normal(1, 6, 2, 2), "size": 3, "alpha": np.float32(0.5), "beta": np.float32(0.5), "k": np.float32(2)},
        {"x": normal(1, 2, 2, 2), "size": 3, "alpha": np.float32(1)},
    ],
    within=1e-5,
)  # fmt: skip
def local_response_norm(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """A window that is even reaches one channel further back, as in PyTorch."""
    padded = np.pad(x * x, [(0, 0), (size // 2, (size - 1) // 2), *[(0, 0)] * (x.ndim - 2)])
    sums = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1).sum(-1)
    return x / (k + alpha / size * sums) ** beta


@family.each
def test_each_normalisation_follows_its_formula(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)


@pytest.mark.parametrize("shape", [(2, 5, 3, 2), (1, 6, 2, 2)])
def test_a_window_over_channels_whose_number_is_free(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    model = program(
        tmp_path,
        lambda mb, a: mb.local_response_norm(x=a, size=3, alpha=np.float32(0.5)),
        [((None, None, None, None), "float32")],
    )
    with session(model) as running:
        found = only(running.run({"a": x}))
    np.testing.assert_allclose(found, local_response_norm(x, 3, alpha=0.5), rtol=1e-5, atol=1e-5)
