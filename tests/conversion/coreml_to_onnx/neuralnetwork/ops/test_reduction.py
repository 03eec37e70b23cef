"""Reductions and cumulative sums, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal

OVER: dict[str, Any] = {
    "reduceL1": lambda x, **how: np.abs(x).sum(**how),
    "reduceL2": lambda x, **how: np.sqrt((x * x).sum(**how)),
    "reduceMax": np.max,
    "reduceMin": np.min,
    "reduceSum": np.sum,
    "reduceProd": np.prod,
    "reduceMean": np.mean,
    "reduceLogSum": lambda x, **how: np.log(x.sum(**how)),
    "reduceSumSquare": lambda x, **how: (x * x).sum(**how),
    "reduceLogSumExp": lambda x, **how: np.log(np.exp(x).sum(**how)),
}


@pytest.mark.parametrize("kind", OVER)
def test_reductions_over_axes(kind: str) -> None:
    x = np.abs(normal(2, 3, 4)) + 0.5
    close(run_layer(kind, x, axes=[1, -1]), OVER[kind](x, axis=(1, 2)))
    close(run_layer(kind, x, axes=[0], keepDims=True), OVER[kind](x, axis=0, keepdims=True))
    # nothing has a rank below 1
    close(run_layer(kind, x, reduceAll=True), OVER[kind](x, axis=(0, 1, 2)).reshape(1))


OLDER: dict[str, Any] = {
    "SUM": np.sum,
    "AVG": np.mean,
    "PROD": np.prod,
    "LOGSUM": lambda x, **how: np.log(x + 0.25).sum(**how),
    "SUMSQUARE": lambda x, **how: (x * x).sum(**how),
    "L1": lambda x, **how: np.abs(x).sum(**how),
    "L2": lambda x, **how: np.sqrt((x * x).sum(**how)),
    "MAX": np.max,
    "MIN": np.min,
}


@pytest.mark.parametrize("mode", OLDER)
@pytest.mark.parametrize(("axis", "numbers"), [("CHW", (-3, -2, -1)), ("HW", (-2, -1)), ("C", (-3,)), ("W", (-1,))])
def test_the_older_reduction_over_named_axes(mode: str, axis: str, numbers: tuple[int, ...]) -> None:
    x = np.abs(normal(2, 3, 4)) + 0.5
    found = run_layer("reduce", x, mode=mode, axis=axis, epsilon=0.25)
    close(found, OLDER[mode](x, axis=numbers, keepdims=True))


def test_the_older_reduction_tells_places_of_one_axis() -> None:
    x = normal(2, 3, 4)
    close(run_layer("reduce", x, mode="ARGMAX", axis="H"), x.argmax(-2).astype(np.float32)[:, None])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_cumulative_sums(exclusive: bool, reverse: bool) -> None:
    x = normal(3, 4)
    turned = x[:, ::-1] if reverse else x
    sums = np.cumsum(turned, 1) - (turned if exclusive else 0)
    expected = sums[:, ::-1] if reverse else sums
    close(run_layer("cumSum", x, axis=1, excludeFinalSum=exclusive, reverse=reverse), expected)
    close(run_layer("cumSum", x, np.array([1]), excludeFinalSum=exclusive, reverse=reverse), expected)
