"""Comparisons, boolean logic and choosing, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.one_node import check_node

A = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
B = np.array([3, 2, 3], np.float32)
TRUE_FALSE = np.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
    ("operator", "compare"),
    [
        ("Equal", np.equal),
        ("Greater", np.greater),
        ("GreaterOrEqual", np.greater_equal),
        ("Less", np.less),
        ("LessOrEqual", np.less_equal),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_comparisons(operator: str, compare: Callable[..., Any], dtype: Any) -> None:
    check_node(operator, {"a": A.astype(dtype), "b": B.astype(dtype)}, compare(A, B))
    check_node(operator, {"a": A.astype(dtype)}, compare(A, B), {"b": B.astype(dtype)})


@pytest.mark.parametrize(
    ("operator", "logic"),
    [("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor), ("Equal", np.equal)],
)
def test_logic(operator: str, logic: Callable[..., Any]) -> None:
    other = np.array([True, True, False])
    check_node(operator, {"a": TRUE_FALSE, "b": other}, logic(TRUE_FALSE, other))
    check_node(operator, {"a": TRUE_FALSE}, logic(TRUE_FALSE, other), {"b": other})


def test_not() -> None:
    check_node("Not", {"a": TRUE_FALSE}, ~TRUE_FALSE)


@pytest.mark.parametrize(
    ("condition", "x", "y"),
    [
        ((2, 3), (2, 3), (2, 3)),
        ((2, 3), (3,), (1,)),
        ((2, 2, 3), (2, 3), (3,)),
        ((1, 3), (2, 1), (2, 1)),
        ((3,), (4, 1, 3), (2, 1)),
    ],
)
@pytest.mark.parametrize("constant", ["", "x", "condition"])
def test_where_in_all_broadcasts(
    condition: tuple[int, ...], x: tuple[int, ...], y: tuple[int, ...], constant: str
) -> None:
    rng = np.random.default_rng(0)
    operands = {
        "condition": rng.random(condition) < 0.5,
        "x": rng.normal(size=x).astype(np.float32),
        "y": rng.normal(size=y).astype(np.float32),
    }
    check_node(
        "Where",
        {name: o for name, o in operands.items() if name != constant},
        np.where(*operands.values()),
        {name: o for name, o in operands.items() if name == constant},
        order=list(operands),
    )


def test_not_a_number_and_infinite() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0, 1], np.float32)
    check_node("IsNaN", {"x": x}, np.isnan(x))
    check_node("IsInf", {"x": x}, np.isinf(x))
    check_node("IsInf", {"x": x}, np.isposinf(x), detect_negative=0)
    check_node("IsInf", {"x": x}, np.isneginf(x), detect_positive=0)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_smallest_and_largest_of_several(dtype: Any) -> None:
    a, b, c = A.astype(dtype), B.astype(dtype), np.array([[2], [9]], dtype)
    for operator, fold in (("Min", np.minimum), ("Max", np.maximum)):
        check_node(operator, {"a": a, "b": b, "c": c}, fold(fold(a, b), c))
        check_node(operator, {"a": a}, fold(a, b), {"b": b})
        check_node(operator, {"a": a}, a)
