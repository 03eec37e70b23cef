"""Concat and Split, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.one_node import check_node
from tests.drawn import ints

PROGRAMS = [("mlprogram", "iOS15"), ("mlprogram", "iOS18")]
X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


def test_concat() -> None:
    y = X[:, :1] * 2
    check_node("Concat", {"x": X, "y": y}, np.concatenate([X, y], 1), axis=1)
    check_node("Concat", {"x": X}, np.concatenate([X, y], 1), {"y": y}, axis=-2)
    check_node("Concat", {"x": X}, X, axis=0)


@pytest.mark.parametrize(
    ("opset", "sizes", "described"),
    [
        (11, [1, 3], {"split": [1, 3]}),
        (11, [2, 2], {}),
        (13, [3, 1], {"constants": {"split": ints(3, 1)}}),
        (18, [2, 2], {"num_outputs": 2}),
        (18, [2, 1], {"num_outputs": 2, "axis": 1}),
    ],
)
def test_split(opset: int, sizes: list[int], described: dict[str, Any]) -> None:
    axis = described.get("axis", 2)
    expected = np.split(X, [sizes[0]], axis=axis)
    check_node("Split", {"x": X}, list(expected), opset=opset, **{"axis": 2, **described})


@pytest.mark.sweep(3)
@pytest.mark.parametrize(("axis", "sizes"), [(1, (1, 2)), (-1, (2, 2)), (2, (1, 3)), (0, (1, 1))])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_split_by_lengths_that_are_fed(axis: int, sizes: tuple[int, ...], dtype: Any) -> None:
    x = (X * 9).astype(dtype)
    parts = np.split(x, np.cumsum(sizes)[:-1], axis)
    check_node("Split", {"x": x, "split": ints(*sizes)}, parts, opset=18, axis=axis, targets=PROGRAMS)
