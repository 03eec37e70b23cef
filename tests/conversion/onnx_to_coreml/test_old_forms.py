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


@pytest.mark.parametrize("opset", [1, 6])
def test_a_normalisation_that_does_not_say_whether_it_trains_is_taken_as_inference_with_a_note(opset: int) -> None:
    stored = {name: RNG.uniform(0.5, 2, 3).astype(np.float32) for name in "sbmv"}
    c = {name: n.reshape(3, 1, 1) for name, n in stored.items()}
    hint = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset == 1 else {}
    model = node_model("BatchNormalization", {"x": X}, stored, opset=opset, **hint)
    made = convert_node(model, "mlprogram", "iOS17")
    assert any("do not say is_test" in note for note in made.notes)
    with cp.session(made) as running:
        (found,) = running.run({"x": X}).values()
    expected = (X - c["m"]) / np.sqrt(c["v"] + 1e-5) * c["s"] + c["b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    told = node_model("BatchNormalization", {"x": X}, stored, opset=opset, is_test=1, **hint)
    assert not any("is_test" in note for note in convert_node(told, "mlprogram", "iOS17").notes)


@pytest.mark.parametrize("axis", [0, 1, 3, -1])
@pytest.mark.parametrize("times", [1, 3])
def test_the_first_tile_repeats_one_axis(axis: int, times: int) -> None:
    expected = np.concatenate([X] * times, axis=axis)
    known = {"t": np.float32(times), "a": np.float32(axis)}
    check_node("Tile", {"x": X}, expected, known, opset=1)
    check_node("Tile", {"x": X}, expected, {"t": known["t"].reshape(1), "a": known["a"].reshape(1)}, opset=1)


def test_the_first_tile_counts_while_the_model_runs() -> None:
    for precision in ("fp32", "fp16"):
        model = node_model("Tile", {"x": X, "t": np.float32(1)}, {"a": np.float32(1)}, opset=1)
        made = convert_node(model, "mlprogram", "iOS17", precision=precision)
        with cp.session(made) as running:
            (found,) = running.run({"x": X, "t": np.float32([3])}).values()
        want = X if precision == "fp32" else X.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found, np.concatenate([want] * 3, axis=1))


def test_the_first_tile_needs_its_axis_and_a_whole_count() -> None:
    model = node_model("Tile", {"x": X, "t": np.float32(1), "a": np.float32(1)}, opset=1)
    with pytest.raises(ConversionError, match="its axis is computed while the model runs"):
        convert_node(model, "mlprogram", "iOS17")
    model = node_model("Tile", {"x": X}, {"t": np.float32(1.5), "a": np.float32(1)}, opset=1)
    with pytest.raises(ConversionError, match=r"its number of repetitions is 1.5"):
        convert_node(model, "mlprogram", "iOS17")


PARTS = np.split(X, [1, 3], axis=3)


def test_the_first_split_takes_its_lengths_as_an_operand() -> None:
    lengths = np.float32([p.shape[3] for p in PARTS])
    check_node("Split", {"x": X}, PARTS, {"s": lengths}, opset=1, axis=3)
    check_node("Split", {"x": X, "s": lengths}, PARTS, opset=1, axis=3, targets=[("mlprogram", "iOS17")])


def test_what_a_later_opset_does_not_take_is_refused_by_its_count() -> None:
    model = node_model("Split", {"x": X}, {"s": np.int64([1, 2, 2])}, opset=11, axis=3, outputs=[np.float32] * 3)
    with pytest.raises(ConversionError, match=r"expected: 1 input\n\s*found: 2 inputs"):
        convert_node(model, "mlprogram", "iOS17")
