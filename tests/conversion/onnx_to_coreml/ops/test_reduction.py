"""Reductions against numpy: axes as an attribute and as an input, kept or dropped, and over no axis at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.one_node import check_node

X = (np.random.default_rng(0).uniform(0.5, 2.0, size=(2, 3, 4)) * [[[1, -1, 1, 1]]]).astype(np.float32)

REDUCERS: dict[str, Callable[..., Any]] = {
    "ReduceMean": np.mean,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x, **how: np.abs(x).sum(**how),
    "ReduceL2": lambda x, **how: np.sqrt((x * x).sum(**how)),
    "ReduceLogSum": lambda x, **how: np.log(x.sum(**how)),
    "ReduceLogSumExp": lambda x, **how: np.log(np.exp(x).sum(**how)),
    "ReduceSumSquare": lambda x, **how: (x * x).sum(**how),
}


@pytest.mark.sweep(1, each="operator")
@pytest.mark.parametrize("axes", [[1], [0, -1], None])
@pytest.mark.parametrize("operator", REDUCERS)
def test_axes_as_an_attribute(operator: str, axes: list[int] | None) -> None:
    x = np.abs(X) if operator == "ReduceLogSum" else X
    expected = REDUCERS[operator](x, axis=None if axes is None else tuple(axes), keepdims=True)
    attributes: dict[str, Any] = {} if axes is None else {"axes": axes}
    check_node(operator, {"x": x}, expected.astype(np.float32), opset=11, **attributes)


@pytest.mark.sweep(1, each="operator")
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", REDUCERS)
def test_axes_as_an_input(operator: str, keepdims: int) -> None:
    x = np.abs(X) if operator == "ReduceLogSum" else X
    expected = REDUCERS[operator](x, axis=(-1,), keepdims=bool(keepdims))
    check_node(
        operator,
        {"x": x},
        expected.astype(np.float32),
        {"axes": np.array([-1], np.int64)},
        opset=18,
        keepdims=keepdims,
    )


@pytest.mark.parametrize(
    ("operator", "left"),
    [
        ("ReduceSum", X),
        ("ReduceMax", X),
        ("ReduceL1", np.abs(X)),
        ("ReduceL2", np.abs(X)),
        ("ReduceSumSquare", X * X),
        ("ReduceLogSumExp", X),
    ],
)
def test_over_no_axis_only_the_other_steps_remain(operator: str, left: np.ndarray) -> None:
    check_node(operator, {"x": X}, left, opset=18, noop_with_empty_axes=1)


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMax", "ReduceMean"])
def test_integers(operator: str) -> None:
    x = np.array(
        [[1, 2, 3], [4, 5, 9]], np.int32
    )  # a product of 64-bit numbers that are fed may not fit, and is refused
    expected = REDUCERS[operator](x, axis=(1,), keepdims=True).astype(np.int32)
    check_node(operator, {"x": x}, expected, {"axes": np.array([1], np.int64)}, opset=18)


def test_free_batch() -> None:
    check_node(
        "ReduceMean",
        {"x": X},
        X.mean(axis=(1, 2)),
        {"axes": np.array([1, 2], np.int64)},
        opset=18,
        keepdims=0,
        free={"x": [0]},
        shapes={"x": [(1, 8), 3, 4]},
    )


@pytest.mark.sweep(3)
@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_positions_of_extremes(operator: str, last: int, keepdims: int) -> None:
    x = np.array([[1, 3, 3, 0, 0], [5, 5, 2, 2, 4]], np.float32)
    find = np.argmax if operator == "ArgMax" else np.argmin
    expected = 4 - find(x[:, ::-1], axis=1) if last else find(x, axis=1)
    check_node(
        operator,
        {"x": x},
        expected.reshape(2, 1) if keepdims else expected,
        axis=1,
        keepdims=keepdims,
        select_last_index=last,
    )
