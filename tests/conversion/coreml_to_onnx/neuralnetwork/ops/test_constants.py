"""Layers that make values of settings and shapes: constants, fills, ranges, and what is drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from coreproof.errors import ConversionError
from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


def test_fills_and_shapes() -> None:
    x = normal(2, 3)
    close(run_layer("fillLike", x, value=2.5), np.full((2, 3), 2.5, np.float32))
    close(run_layer("fillDynamic", np.array([3, 1, 2]), value=-1), np.full((3, 1, 2), -1, np.float32))
    close(run_layer("getShape", normal(4, 1, 3)), np.array([4, 1, 3], np.float32))


def test_broadcasts() -> None:
    x = normal(3, 1)
    expected = np.broadcast_to(x, (2, 3, 4))
    close(run_layer("broadcastToStatic", x, targetShape=[2, 3, 4]), expected)
    close(run_layer("broadcastToLike", x, normal(2, 3, 4)), expected)
    close(run_layer("broadcastToDynamic", x, np.array([2, 3, 4])), expected)


def test_a_range_takes_its_end_then_its_start_then_its_step() -> None:
    end, start, step = (np.array([n], np.float32) for n in (7, 1, 2.5))
    close(run_layer("rangeDynamic", end, startValue=2, stepSizeValue=2), np.arange(2, 7, 2, np.float32))
    close(run_layer("rangeDynamic", end, start, stepSizeValue=2), np.arange(1, 7, 2, np.float32))
    close(run_layer("rangeDynamic", end, start, step), np.arange(1, 7, 2.5, np.float32))


@pytest.mark.parametrize("form", ["Like", "Dynamic"])
def test_random_numbers_have_the_distribution_that_is_asked_for(form: str) -> None:
    given = normal(200, 100) if form == "Like" else np.array([200, 100])
    even = np.asarray(run_layer(f"randomUniform{form}", given, seed=3, minVal=-2, maxVal=4))
    bell = np.asarray(run_layer(f"randomNormal{form}", given, seed=3, mean=5, stdDev=0.5))
    hits = np.asarray(run_layer(f"randomBernoulli{form}", given, seed=3, prob=0.25))
    assert even.shape == bell.shape == hits.shape == (200, 100)
    assert -2 <= even.min() < -1.9
    assert 3.9 < even.max() < 4
    # six standard deviations of the mean of 20,000 numbers
    assert abs(even.mean() - 1) < 6 * (6 / 12**0.5) / 20000**0.5
    assert abs(bell.mean() - 5) < 6 * 0.5 / 20000**0.5
    assert abs(bell.std() - 0.5) < 6 * 0.5 / 40000**0.5
    assert set(np.unique(hits)) == {0, 1}
    assert abs(hits.mean() - 0.25) < 6 * (0.25 * 0.75) ** 0.5 / 20000**0.5


def test_classes_are_drawn_as_often_as_their_probabilities_say() -> None:
    shares = np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]], np.float32)
    drawn = np.asarray(run_layer("categoricalDistribution", shares, seed=5, numSamples=2000))
    assert drawn.shape == (2, 2000)
    assert set(np.unique(drawn[0])) == {0, 2}
    assert (drawn[1] == 1).all()
    assert abs((drawn[0] == 0).mean() - 0.5) < 6 * 0.5 / 2000**0.5


def test_a_range_without_a_step_is_refused() -> None:
    with pytest.raises(ConversionError, match="its step is 0"):
        run_layer("rangeStatic", endValue=3)
