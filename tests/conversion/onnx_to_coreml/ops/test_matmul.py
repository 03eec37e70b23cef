"""MatMul and Gemm against numpy and PyTorch: every rank and transposition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.model.coreml.graph import read_graph
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import check_node, convert_node
from tests.drawn import normal


@pytest.mark.sweep(6)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4,), (4,)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((3, 4), (4, 5)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((4,), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_matmul_of_all_ranks(left: tuple[int, ...], right: tuple[int, ...], constant: bool) -> None:
    a, b = normal(*left), normal(*right)
    inputs, constants = ({"a": a}, {"b": b}) if constant else ({"a": a, "b": b}, {})
    check_node("MatMul", inputs, np.matmul(a, b), constants)


@pytest.mark.sweep(16)
@pytest.mark.parametrize("transposed", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("bias", [None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)])
@pytest.mark.parametrize("constant", [False, True])
def test_gemm(transposed: tuple[int, int], bias: tuple[int, ...] | None, constant: bool) -> None:
    a, b = normal(3, 4), normal(4, 5)
    expected = 0.5 * (a @ b)
    given = {"b": b.T.copy() if transposed[1] else b}
    if bias is not None:
        given["c"] = np.asarray(normal(*bias), np.float32)
        expected = expected + 0.25 * given["c"]
    inputs: dict[str, Any] = {"a": a.T.copy() if transposed[0] else a}
    if not constant and "c" not in given:
        inputs, given = {**inputs, **given}, {}
    check_node(
        "Gemm",
        inputs,
        expected.astype(np.float32),
        given,
        targets=[("mlprogram", "iOS15"), ("neuralnetwork", None)],
        transA=transposed[0],
        transB=transposed[1],
        alpha=0.5,
        beta=0.25,
    )


def test_gemm_with_a_bias_that_is_computed() -> None:
    a, b, c = normal(3, 4), normal(4, 5), normal(3, 5)
    check_node("Gemm", {"a": a, "c": c}, a @ b + 2 * c, {"b": b}, order=["a", "b", "c"], beta=2.0)


def test_a_constant_matrix_becomes_one_linear_layer() -> None:
    model = node_model("Gemm", {"a": normal(3, 4)}, {"b": normal(4, 5), "c": normal(5)})
    graph = read_graph(convert_node(model, "mlprogram", "iOS15").spec)
    assert [node.operator for node in graph.nodes if node.operator != "const"] == ["linear"]


def test_the_batch_may_be_free() -> None:
    a, b = normal(3, 7, 4), normal(4, 5)
    check_node("MatMul", {"a": a}, a @ b, {"b": b}, free={"a": [0]}, shapes={"a": [(1, 8), 7, 4]})


def test_gemm_until_opset_6_says_that_its_term_is_broadcast() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    c = np.array([1, 2, 3], np.float32)
    check_node("Gemm", {"a": a}, a @ b + c, {"b": b, "c": c}, opset=6, broadcast=1)
    check_node("Gemm", {"a": a, "b": b}, a @ b, {"c": c[:1]}, opset=6, broadcast=1, beta=0.0)
