"""Random operations: their ends, their moments over many draws of one seed, and that a seed draws the same again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.lowered import only
from tests.conversion.coreml_to_onnx.mlprogram.family import Family

family = Family("random")
COUNT = 20000


def drawn(folder: Path, operator: str, x: Any = None, **parameters: Any) -> np.ndarray:
    """What the operator draws, to which an input of zeros was added."""
    fed = np.zeros(1, np.float32) if x is None else np.asarray(x, np.float32)

    def build(mb: Any, a: Any) -> Any:
        if x is not None:
            return getattr(mb, operator)(x=a, **parameters)
        return mb.add(x=getattr(mb, operator)(**parameters), y=a)

    with session(program(folder, build, [(fed.shape, "float32")])) as running:
        first, again = (only(running.run({"a": fed})) for _ in range(2))
    with session(program(folder, build, [(fed.shape, "float32")])) as another:
        np.testing.assert_array_equal(only(another.run({"a": fed})), first)
    assert again.shape == first.shape
    return first


def resembles(found: np.ndarray, mean: float, deviation: float) -> None:
    """Mean and deviation within six of their own standard errors."""
    assert abs(found.mean() - mean) <= 6 * deviation / np.sqrt(found.size)
    assert abs(found.std() - deviation) <= 6 * deviation / np.sqrt(found.size)


@family.exercises("random_uniform")
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 5.0)])
def test_uniform_numbers_fill_their_range(tmp_path: Path, low: float, high: float) -> None:
    found = drawn(tmp_path, "random_uniform", shape=[COUNT // 4, 2, 2], low=low, high=high, seed=3)
    assert found.shape == (COUNT // 4, 2, 2)
    assert low <= found.min() < found.max() < high
    resembles(found, (low + high) / 2, (high - low) / np.sqrt(12))


@family.exercises("random_uniform")
def test_a_range_without_extent_gives_its_end(tmp_path: Path) -> None:
    assert drawn(tmp_path, "random_uniform", shape=[3], low=2.5, high=2.5, seed=1).tolist() == [2.5] * 3


@family.exercises("random_normal")
@pytest.mark.parametrize(("mean", "stddev"), [(0.0, 1.0), (-3.0, 0.25)])
def test_normal_numbers_have_their_moments(tmp_path: Path, mean: float, stddev: float) -> None:
    found = drawn(tmp_path, "random_normal", shape=[COUNT], mean=mean, stddev=stddev, seed=4)
    resembles(found, mean, stddev)
    # the share that lies within one deviation
    assert abs((abs(found - mean) < stddev).mean() - 0.6827) < 6 * 0.47 / np.sqrt(COUNT)


@family.exercises("random_bernoulli")
@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_a_coin_falls_as_often_as_it_should(tmp_path: Path, prob: float) -> None:
    found = drawn(tmp_path, "random_bernoulli", shape=[COUNT], prob=prob, seed=5)
    assert set(np.unique(found)) <= {0, 1}
    resembles(found, prob, np.sqrt(prob * (1 - prob)))


@family.exercises("random_categorical")
@pytest.mark.parametrize("mode", ["logits", "probs"])
def test_categories_come_as_often_as_they_should(tmp_path: Path, mode: str) -> None:
    shares = np.float32([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        given = shares if mode == "probs" else np.log(shares)
    found = drawn(tmp_path, "random_categorical", given, mode=mode, size=COUNT, seed=6)
    assert found.shape == (2, COUNT)
    for row, wanted in zip(found, shares, strict=True):
        counts = np.bincount(row.astype(int), minlength=3)
        assert np.all(np.abs(counts / COUNT - wanted) <= 6 * np.sqrt(wanted * (1 - wanted) / COUNT))


@family.exercises("random_categorical")
def test_what_is_certain_is_drawn(tmp_path: Path) -> None:
    found = drawn(tmp_path, "random_categorical", [[-np.inf, 0, -np.inf], [4, -np.inf, -np.inf]], size=3, seed=7)
    assert found.tolist() == [[1] * 3, [0] * 3]
