"""Comparisons, boolean logic and choosing, against numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import coreproof as cp
from tests.conversion.onnx_to_coreml.one_node import check_node

A = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
B = np.array([3, 2, 3], np.float32)
TRUE_FALSE = np.array([[True, False, True], [False, False, True]])


@pytest.mark.sweep(3)
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


@pytest.mark.sweep(5)
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


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("dtype", "a", "b"),
    [(TensorProto.FLOAT, 0.0, -np.inf), (TensorProto.INT32, 3, -2), (TensorProto.BOOL, True, False)],
)
def test_a_condition_of_free_lengths_chooses_between_numbers(dtype: int, a: float, b: float, precision: str) -> None:
    """A causal mask: length by length places, of two inputs whose lengths bear one name."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    graph = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["rows", "last"], ["r"]),
            helper.make_node("GreaterOrEqual", ["r", "columns"], ["seen"]),
            helper.make_node("Where", ["seen", "a", "b"], ["chosen"]),
            helper.make_node("Cast", ["chosen"], ["y"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["rows", "columns"], ["sum"]),
        ],
        "mask",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("rows", "columns")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("y", ["n", "n"]), ("sum", ["n"]))],
        [
            numpy_helper.from_array(np.array([1]), "last"),
            numpy_helper.from_array(np.array(a, kind), "a"),
            numpy_helper.from_array(np.array(b, kind), "b"),
        ],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model = cp.convert(
        source, "mlprogram", precision=precision, shapes={"rows": "1..9", "columns": "1..9"}, check=False
    )
    with cp.session(model) as running:
        for length in (1, 4, 9):
            places = np.arange(length, dtype=np.float32)
            found = running.run({"rows": places, "columns": places})
            expected = np.where(places[:, None] >= places, a, b).astype(np.float32)
            np.testing.assert_array_equal(found["y"], expected)
            np.testing.assert_array_equal(found["sum"], 2 * places)
