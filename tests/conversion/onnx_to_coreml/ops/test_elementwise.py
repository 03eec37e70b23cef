"""Arithmetic and functions of each element, against numpy, in all ways of broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node, convert_node

RNG = np.random.default_rng(0)
BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
}  # fmt: skip
UNARY: dict[str, Callable[..., Any]] = {
    "Abs": np.abs, "Neg": np.negative, "Ceil": np.ceil, "Floor": np.floor, "Round": np.rint, "Exp": np.exp, "Sign": np.sign,
    "Reciprocal": lambda x: 1 / x, "Sin": np.sin, "Cos": np.cos, "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos,
    "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh, "Asinh": np.arcsinh, "Atanh": np.arctanh,
}  # fmt: skip


@pytest.mark.sweep(1, each="operator")
@pytest.mark.parametrize("operator", BINARY)
@pytest.mark.parametrize(
    ("left", "right"), [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 4)), ((1,), (2, 3))]
)
@pytest.mark.parametrize("constant", [False, True])
def test_arithmetic_broadcasts(operator: str, left: tuple[int, ...], right: tuple[int, ...], constant: bool) -> None:
    x, y = (RNG.uniform(0.5, 2, shape).astype(np.float32) for shape in (left, right))
    fed, stored = ({"x": x}, {"y": y}) if constant else ({"x": x, "y": y}, {})
    # no layer of a NeuralNetwork raises to exponents that differ from one element to the next and are stored
    targets = TARGETS[:2] if operator == "Pow" and constant else TARGETS
    check_node(operator, fed, BINARY[operator](x, y), stored, targets=targets)


def test_stored_exponents_that_differ_are_refused_for_a_network_by_the_nodes_name() -> None:
    model = node_model("Pow", {"x": np.ones((2, 3), np.float32)}, {"e": np.array([1, 2, 3], np.float32)})
    node = model.ir.graph[0].name
    with pytest.raises(ConversionError, match=rf"node '{node}'[\s\S]*one exponent[\s\S]*its exponents differ"):
        convert_node(model, "neuralnetwork", None)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("operator", UNARY)
def test_functions_of_one_element(operator: str) -> None:
    x = RNG.uniform(-0.95, 0.95, (2, 3, 4)).astype(np.float32)
    check_node(operator, {"x": x}, UNARY[operator](x), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("operator", "of"), [("Sqrt", np.sqrt), ("Log", np.log), ("Acosh", lambda x: np.arccosh(x + 0))]
)
def test_functions_of_what_is_above_one(operator: str, of: Callable[..., Any]) -> None:
    x = RNG.uniform(1.1, 5, (2, 3, 4)).astype(np.float32)
    check_node(operator, {"x": x}, of(x), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(("operator", "of"), [("Abs", np.abs), ("Sign", np.sign), ("Neg", np.negative)])
def test_functions_of_one_integer(operator: str, of: Callable[..., Any]) -> None:
    x = np.array([[-70_001, -1, 0], [1, 5, 16_777_216]], np.int32)
    check_node(operator, {"x": x}, of(x), atol=0, rtol=0)


@pytest.mark.parametrize("fmod", [0, 1])
def test_the_sign_of_a_remainder(fmod: int) -> None:
    """That of the divisor for integers, that of the dividend where fmod is asked for."""
    x, y = np.array([-7, 7, -7, 7], np.float32), np.array([3, 3, -3, -3], np.float32)
    if fmod:
        check_node("Mod", {"x": x}, np.fmod(x, y), {"y": y}, fmod=1)
    else:
        check_node("Mod", {"x": x.astype(np.int32)}, np.mod(x, y).astype(np.int64), {"y": y.astype(np.int32)})


@pytest.mark.parametrize(("operator", "of"), [("Sum", sum), ("Mean", lambda several: sum(several) / 3)])
def test_sum_and_mean_of_several(operator: str, of: Callable[..., Any]) -> None:
    several = [RNG.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4), (4,), (3, 1))]
    check_node(operator, dict(zip("xyz", several, strict=True)), of(several))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (None, 0.5), (-0.5, None), (0.0, 0.0), (1.0, 1.00001)])
def test_clip_by_bounds_that_are_operands_or_attributes(low: float | None, high: float | None) -> None:
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    bounds = {"low": low, "high": high}
    expected = np.clip(x, low, high)
    stored = {name: np.float32(value) for name, value in bounds.items() if value is not None}
    order = ["x", *(name if value is not None else "" for name, value in bounds.items())]
    check_node("Clip", {"x": x}, expected, stored, opset=13, order=order)
    named = {{"low": "min", "high": "max"}[name]: float(value) for name, value in stored.items()}
    check_node("Clip", {"x": x}, expected, opset=6, **named)


def test_a_picture_is_scaled_and_each_channel_shifted() -> None:
    picture = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    shifted = picture * np.float32(0.5) + np.float32([1, -2, 0.25]).reshape(3, 1, 1)
    check_node("ImageScaler", {"x": picture}, shifted, bias=[1.0, -2.0, 0.25], scale=0.5)
