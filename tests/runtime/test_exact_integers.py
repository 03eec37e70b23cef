"""Products of 8-bit integers are added exactly, whatever processor this is: held against NumPy's 64-bit integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from coreproof.model.load import load
from coreproof.runtime.open import session

RNG = np.random.default_rng(11)


def large(dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers near the end of their range: two products of them do not fit into 16 bits."""
    low, high = (200, 255) if dtype == np.uint8 else (100, 127)
    return RNG.integers(low, high, shape).astype(dtype)


def model_of(nodes: list[Any], stored: dict[str, np.ndarray], x: np.ndarray, to: int, rank: int) -> Any:
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    made = helper.make_tensor_value_info("y", to, [None] * rank)
    fed = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))
    graph = helper.make_graph(nodes, "g", [fed], [made], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return load(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def answer(model: Any, x: np.ndarray) -> np.ndarray:
    with session(model) as running:
        return np.asarray(running.run({"x": x})["y"])


@pytest.mark.parametrize("x_type", [np.uint8, np.int8])
@pytest.mark.parametrize("zero", [None, 3, "a column"])
@pytest.mark.parametrize("size", [8, 64])
def test_sums_of_products_are_those_of_wide_integers(x_type: Any, zero: object, size: int) -> None:
    x, w = large(x_type, (5, size)), large(np.int8, (size, size))
    stored = {"w": w, "xz": np.array(1, x_type)}
    wz = np.zeros(size, np.int8) if zero is None else np.full(size, 3, np.int8)
    if zero is not None:
        stored["wz"] = wz if zero == "a column" else np.array(3, np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w", "xz", *(["wz"] if zero is not None else [])], ["y"])
    expected = (x.astype(np.int64) - 1) @ (w.astype(np.int64) - wz)
    np.testing.assert_array_equal(answer(model_of([node], stored, x, TensorProto.INT32, 2), x), expected)


def test_weights_that_two_layers_share_are_moved_once() -> None:
    x, w = large(np.uint8, (4, 64)), large(np.int8, (64, 64))
    one = {"s": np.float32(1), "z": np.uint8(0), "ws": np.float32(1e-5), "wz": np.int8(0), "w": w}
    first = helper.make_node("QLinearMatMul", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["h"])
    second = helper.make_node("MatMulInteger", ["h", "w", "z", "wz"], ["y"])
    exact = x.astype(np.int64) @ w.astype(np.int64) * 1e-5
    assert exact.max() < 255  # nothing saturates that should not
    expected = np.rint(exact).astype(np.int64) @ w.astype(np.int64)
    np.testing.assert_array_equal(answer(model_of([first, second], one, x, TensorProto.INT32, 2), x), expected)


def test_what_optimising_joins_is_added_exactly_too() -> None:
    """DequantizeLinear, MatMul, QuantizeLinear become one product of integers, here with one zero point for two weights."""
    x = large(np.uint8, (4, 64))
    stored = {"s": np.float32(1), "z": np.uint8(0), "ws": np.float32(1), "wz": np.int8(0), "ys": np.float32(8192),
              "a": large(np.int8, (64, 64)), "b": large(np.int8, (64, 64))}  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["a", "ws", "wz"], ["af"]),
        helper.make_node("MatMul", ["xf", "af"], ["h"]),
        helper.make_node("QuantizeLinear", ["h", "ys", "z"], ["hq"]),
        helper.make_node("DequantizeLinear", ["hq", "s", "z"], ["hf"]),
        helper.make_node("DequantizeLinear", ["b", "ws", "wz"], ["bf"]),
        helper.make_node("MatMul", ["hf", "bf"], ["k"]),
        helper.make_node("QuantizeLinear", ["k", "ys", "z"], ["y"]),
    ]
    hidden = np.clip(np.rint(x.astype(np.int64) @ stored["a"].astype(np.int64) / 8192), 0, 255)
    expected = np.clip(np.rint(hidden @ stored["b"].astype(np.int64) / 8192), 0, 255)
    np.testing.assert_array_equal(answer(model_of(nodes, stored, x, TensorProto.UINT8, 2), x), expected)


def test_convolutions_are_added_exactly() -> None:
    x, w = large(np.uint8, (1, 16, 9, 9)), large(np.int8, (8, 16, 3, 3))
    node = helper.make_node("ConvInteger", ["x", "w", "z"], ["y"])
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.int64), (3, 3), axis=(1, 2))
    expected = np.einsum("chwij,ocij->ohw", windows, w.astype(np.int64))[None]
    model = model_of([node], {"w": w, "z": np.uint8(0)}, x, TensorProto.INT32, 4)
    np.testing.assert_array_equal(answer(model, x), expected)


def test_float_models_are_left_alone() -> None:
    from coreproof.runtime.exact_integers import add_exactly

    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.ones((2, 2), np.float32), "w")])
    part = helper.make_model(graph)
    before = part.SerializeToString()
    assert add_exactly(part, {}) == {}
    assert part.SerializeToString() == before
    assert isinstance(part, onnx.ModelProto)


def test_a_decoded_weight_that_is_looked_at_or_shared_is_added_exactly() -> None:
    """ONNX Runtime gives each reader a DequantizeLinear of its own, and refused the model where they shared the tensor."""
    x, w = large(np.uint8, (4, 64)), large(np.int8, (64, 64))
    scales = {"one": np.float32(1), "zero": np.uint8(0), "none": np.int8(0), "w": w}
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "one", "none"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("MatMul", ["p", "b"], ["y"]),
    ]
    model = model_of(nodes, scales, x, TensorProto.FLOAT, 2)
    product = x.astype(np.float64) @ w
    with session(model) as running:
        found = running.run({"x": x}, ["p", "b"])
    assert np.array_equal(found["b"], w.astype(np.float32))
    assert np.array_equal(found["p"], product.astype(np.float32))
    np.testing.assert_allclose(found["y"], product @ w, rtol=1e-5)


@pytest.mark.parametrize("operator", ["QLinearMatMul", "QGemm"])
def test_signed_activations_meet_signed_weights(operator: str) -> None:
    """What ONNX Runtime's static quantiser writes for QInt8: told to move weights, the engine finds no product of these."""
    x, w = large(np.int8, (4, 64)), large(np.int8, (64, 64)) - RNG.integers(0, 220, (64, 64))
    stored = {"one": np.float32(1), "none": np.int8(0), "w": w.astype(np.int8), "ys": np.float32(8192)}
    names = ["x", "one", "none", "w", "one", "none"]
    gemm = operator == "QGemm"
    node = helper.make_node(
        operator, [*names, *([""] if gemm else []), "ys", "none"], ["y"], domain="com.microsoft" if gemm else ""
    )
    expected = np.clip(np.rint(x.astype(np.int64) @ w / 8192), -128, 127)
    np.testing.assert_array_equal(answer(model_of([node], stored, x, TensorProto.INT8, 2), x), expected)
