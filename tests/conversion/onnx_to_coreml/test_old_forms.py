"""Nodes as old opsets wrote them: what ONNX Runtime runs no more is held against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node, convert_node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
HINT = {"consumed_inputs": [0]}
PADDED = np.pad(X, [(0, 0), (0, 0), (1, 2), (0, 1)], constant_values=0.5)


@pytest.mark.parametrize(
    ("operator", "attributes", "expected"),
    [
        ("Relu", {}, np.maximum(X, 0)),
        ("Sigmoid", {}, 1 / (1 + np.exp(-X))),
        ("Abs", {}, np.abs(X)),
        ("Clip", {"max": 0.5}, np.minimum(X, 0.5)),
        ("Clip", {"min": -0.5}, np.maximum(X, -0.5)),
        ("Clip", {"min": -0.5, "max": 0.5}, np.clip(X, -0.5, 0.5)),
        ("Clip", {}, X),
        ("LeakyRelu", {"alpha": 0.1}, np.where(X > 0, X, np.float32(0.1) * X)),
        # the constants of opset 1 have fewer digits
        ("Selu", {}, 1.0507 * np.where(X > 0, X, 1.6732 * np.expm1(X))),
        ("Selu", {"alpha": 2.0}, 1.0507 * np.where(X > 0, X, 2 * np.expm1(X))),
        ("Dropout", {"is_test": 1, "ratio": 0.5}, X),
        ("Pad", {"paddings": [0, 0, 1, 0, 0, 0, 2, 1], "value": 0.5}, PADDED),
        ("Reshape", {"shape": [2, -1]}, X.reshape(2, 60)),
        ("Upsample", {"height_scale": 2.0, "width_scale": 3.0}, X.repeat(2, 2).repeat(3, 3)),
    ],
)
def test_attributes_of_the_first_opset(operator: str, attributes: dict[str, Any], expected: np.ndarray) -> None:
    hint = HINT if operator not in ("Pad", "Upsample") else {}
    check_node(operator, {"x": X}, expected.astype(np.float32), opset=1, **hint, **attributes)


@pytest.mark.parametrize("operator", ["Add", "Mul"])
def test_hints_of_two_operands(operator: str) -> None:
    b = RNG.normal(size=3).astype(np.float32)
    expected = {"Add": np.add, "Mul": np.multiply}[operator](X, b.reshape(3, 1, 1))
    check_node(operator, {"x": X}, expected, {"b": b}, opset=1, broadcast=1, axis=1, consumed_inputs=[0, 0])


def test_a_comparison_that_says_where_its_second_operand_begins() -> None:
    a, b = RNG.integers(0, 2, (2, 3, 4)).astype(np.int32), np.array([0, 1, 1], np.int32)
    expected = a == b.reshape(3, 1)
    model = node_model("Equal", {"a": a}, {"b": b}, opset=1, outputs=[np.bool_], broadcast=1, axis=1)
    for to, target in TARGETS:
        with cp.session(convert_node(model, to, target)) as running:
            (found,) = running.run({"a": a}).values()
        np.testing.assert_array_equal(np.asarray(found).astype(bool), expected)


def test_batch_normalization_of_the_first_opset() -> None:
    s, b, m, v = (RNG.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4))
    c = [n.reshape(3, 1, 1) for n in (s, b, m, v)]
    expected = (X - c[2]) / np.sqrt(c[3] + 1e-5) * c[0] + c[1]
    stored = {"s": s, "b": b, "m": m, "v": v}
    check_node("BatchNormalization", {"x": X}, expected, stored, opset=1, is_test=1, consumed_inputs=[0, 0, 0, 1, 1])


@pytest.mark.parametrize("bounds", [{"max": 0.5}, {"min": -0.5}, {"min": -0.5, "max": 0.5}])
def test_one_bound_alone_in_half_precision(bounds: dict[str, float]) -> None:
    model = node_model("Clip", {"x": X}, opset=6, **bounds)
    made = convert_node(model, "mlprogram", "iOS17", precision="fp16")
    with cp.session(made) as running:
        (found,) = running.run({"x": X}).values()
    expected = np.clip(X.astype(np.float16), bounds.get("min", -np.inf), bounds.get("max", np.inf))
    np.testing.assert_array_equal(np.asarray(found).astype(np.float16), expected.astype(np.float16))


@pytest.mark.parametrize(
    ("operator", "opset", "attributes", "said"),
    [
        ("Relu", 13, {"banana": 1}, r"'banana', which it does not have"),
        ("Clip", 13, {"max": 1.0}, r"'max', which it does not have"),
        ("Dropout", 13, {"ratio": 0.5}, r"'ratio', which it does not have"),
        ("Conv", 13, {"one": 1, "two": 2}, r"attributes 'one', 'two'"),
        ("Dropout", 1, {"is_test": 0}, r"drops elements by chance"),
        ("BatchNormalization", 7, {"spatial": 0}, r"spatial = 0"),
    ],
)
def test_what_an_operator_does_not_have_is_named(
    operator: str, opset: int, attributes: dict[str, Any], said: str
) -> None:
    ones = np.ones(3, np.float32)
    stored = {"Conv": {"w": np.ones((2, 3, 1, 1), np.float32)}}.get(operator, {})
    if operator == "BatchNormalization":
        stored = dict.fromkeys("sbmv", ones)
    model = node_model(operator, {"x": X}, stored, opset=opset, **attributes)
    with pytest.raises(ConversionError, match=said) as caught:
        convert_node(model, "mlprogram", None)
    assert "unexpected keyword" not in str(caught.value)


def test_a_resize_to_nothing_is_named() -> None:
    model = node_model("Resize", {"x": X}, order=["x", ""], opset=13)
    with pytest.raises(ConversionError, match="neither scales nor sizes"):
        convert_node(model, "mlprogram", None)


def test_counts_agree_with_what_is_counted() -> None:
    with pytest.raises(ConversionError, match=r"expected: 1 input\n\s*found: 2 inputs \('x', 'x'\)"):
        convert_node(node_model("Relu", {"x": X}, order=["x", "x"]), "mlprogram", None)
    with pytest.raises(ConversionError, match=r"expected: 2 inputs\n\s*found: 1 input \('x'\)"):
        convert_node(node_model("Add", {"x": X}), "mlprogram", None)
