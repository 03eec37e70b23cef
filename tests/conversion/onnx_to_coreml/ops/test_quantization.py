"""Quantised operators: the integers that numpy computes from their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import coreproof as cp
from tests.build import onnx_model
from tests.conversion.onnx_to_coreml.one_node import check_node

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
EACH = np.array([0.01, 0.02, 0.005], np.float32)


def quantised(x: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    limits = np.iinfo(zero.dtype)
    return np.clip(np.rint(x / scale) + zero, limits.min, limits.max).astype(zero.dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantize_for_all_and_for_each_channel(dtype: type) -> None:
    one = {"scale": np.float32(0.02), "zero": np.array(100 if dtype is np.uint8 else -3, dtype)}
    check_node("QuantizeLinear", {"x": X}, quantised(X, one["scale"], one["zero"]), one, opset=13)
    zeros = np.array([0, 5, 100], dtype)
    expected = quantised(X, EACH[:, None], zeros[:, None])
    check_node("QuantizeLinear", {"x": X}, expected, {"scale": EACH, "zero": zeros}, opset=13, axis=1)


def test_dequantize() -> None:
    x = RNG.integers(0, 256, size=(2, 3, 4)).astype(np.int64)
    model_input = x.astype(np.uint8)
    zeros = np.array([0, 5, 100], np.uint8)
    expected = ((x - zeros[:, None]) * EACH[:, None]).astype(np.float32)
    check_node("DequantizeLinear", {"x": model_input}, expected, {"scale": EACH, "zero": zeros}, opset=13, axis=1)


def test_qlinear_conv_with_a_scale_for_each_channel() -> None:
    x = RNG.integers(0, 256, size=(1, 2, 5, 5)).astype(np.uint8)
    w = RNG.integers(-128, 128, size=(3, 2, 1, 1)).astype(np.int8)
    b = np.array([1000, -2000, 0], np.int32)
    accumulated = np.einsum("nchw,kc->nkhw", x.astype(np.int64) - 120, w[:, :, 0, 0].astype(np.int64))
    real = (accumulated + b[:, None, None]) * (0.02 * EACH.astype(np.float64))[:, None, None]
    given = {
        "x_scale": np.float32(0.02), "x_zero": np.uint8(120), "w": w, "w_scale": EACH, "w_zero": np.zeros(3, np.int8),
        "y_scale": np.float32(0.25), "y_zero": np.uint8(128), "b": b,
    }  # fmt: skip
    expected = quantised(real, np.float64(0.25), np.array(128, np.uint8))
    check_node("QLinearConv", {"x": x}, expected, given, opset=13)


def test_products_of_integers() -> None:
    a, b = RNG.integers(0, 256, size=(3, 4)).astype(np.uint8), RNG.integers(0, 256, size=(4, 2)).astype(np.uint8)
    expected = (a.astype(np.int64) - 7) @ (b.astype(np.int64) - 9)
    check_node("MatMulInteger", {"a": a}, expected, {"b": b, "za": np.uint8(7), "zb": np.uint8(9)}, opset=13)
    x, w = a.reshape(1, 1, 3, 4), b.reshape(2, 1, 2, 2)
    signed = np.pad(x.astype(np.int64) - 7, [(0, 0), (0, 0), (1, 1), (1, 1)])
    kernel = w.astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(signed[0, 0], (2, 2))
    expected = np.einsum("hwij,kij->khw", windows, kernel[:, 0])[None]
    check_node("ConvInteger", {"x": x}, expected, {"w": w, "zx": np.uint8(7)}, opset=13, pads=[1, 1, 1, 1])


def test_a_zero_point_for_each_filter_known_or_fed() -> None:
    x, w = (
        RNG.integers(0, 256, size=(1, 1, 5, 5)).astype(np.uint8),
        RNG.integers(0, 256, size=(3, 1, 2, 2)).astype(np.uint8),
    )
    zeros = np.array([0, 7, 200], np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(x[0, 0].astype(np.int64) - 5, (2, 2))
    expected = np.einsum("hwij,kij->khw", windows, w[:, 0].astype(np.int64) - zeros.reshape(-1, 1, 1))[None]
    order = ["x", "w", "zx", "zw"]
    check_node("ConvInteger", {"x": x}, expected, {"w": w, "zx": np.uint8(5), "zw": zeros}, order=order, opset=13)
    fed = {"x": x, "w": w, "zw": zeros}
    programs = [("mlprogram", "iOS15"), ("mlprogram", "iOS17")]
    check_node("ConvInteger", fed, expected, {"zx": np.uint8(5)}, order=order, opset=13, targets=programs)


BYTES = RNG.integers(0, 256, size=(2, 3, 4, 4)).astype(np.uint8)


def convolved(x: np.ndarray, channels: int, each: bool) -> tuple[onnx.ModelProto, np.ndarray]:
    """A quantised convolution with a kernel of 3 x 3 over bytes of several channels, and the sums of its products."""
    rng = np.random.default_rng(5)
    w = rng.integers(-127, 128, size=(channels, x.shape[1], 3, 3)).astype(np.int8)
    b = rng.integers(-40_000, 40_000, size=channels).astype(np.int32)
    scale = rng.uniform(0.0005, 0.004, size=channels if each else 1).astype(np.float32)
    constants = {
        "xs": np.float32(0.0213), "xz": np.uint8(114), "w": w, "ws": scale, "wz": np.zeros(scale.shape, np.int8),
        "ys": np.float32(0.137), "yz": np.uint8(121), "b": b, "one": np.float32(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    centred = x.astype(np.int64) - 114
    windows = np.lib.stride_tricks.sliding_window_view(centred, (3, 3), (2, 3))
    sums = np.einsum("nchwij,kcij->nkhw", windows, w.astype(np.int64), optimize=True) + b[:, None, None]
    factor = np.float32(0.0213) * scale / np.float32(0.137)
    steps = sums.astype(np.float32) * factor.reshape(1, -1, 1, 1)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model, np.clip(np.rint(steps) + 121, 0, 255)


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("each", [False, True], ids=["one scale", "a scale for each channel"])
def test_in_float32_a_quantised_convolution_is_exact(to: Any, each: bool) -> None:
    """Sums of whole numbers below 2**24 are exact in whatever order they are added; one factor is rounded, and one product."""
    x = np.random.default_rng(4).integers(0, 256, size=(1, 24, 40, 40)).astype(np.uint8)
    model, expected = convolved(x, 16, each)
    converted = cp.convert(cp.load(model), to, precision="fp32" if to == "mlprogram" else None, check=False)
    got = np.asarray(cp.session(converted).run({"x": x})["y"])
    assert np.mean((expected > 0) & (expected < 255)) > 0.3
    np.testing.assert_array_equal(got, expected)


def test_in_float16_the_sums_of_a_quantised_convolution_stay_within_its_range() -> None:
    """They reach millions; in steps of the result they are small, and float16 is an eighth of a step off at 255 of them."""
    x = np.random.default_rng(4).integers(0, 256, size=(1, 24, 40, 40)).astype(np.uint8)
    model, expected = convolved(x, 16, True)
    converted = cp.convert(cp.load(model), "mlprogram", precision="fp16", check=False)
    off = np.abs(np.asarray(cp.session(converted).run({"x": x})["y"], np.float64) - expected)
    assert off.max() <= 1


def test_a_quantised_product_of_matrices_is_exact_in_float32() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.integers(0, 256, size=(30, 64)).astype(np.uint8), rng.integers(-127, 128, size=(64, 40)).astype(np.int8)
    scale = rng.uniform(0.001, 0.004, size=40).astype(np.float32)
    given = {
        "as": np.float32(0.0213), "az": np.uint8(114), "b": b, "bs": scale, "bz": np.zeros(40, np.int8),
        "ys": np.float32(0.137), "yz": np.uint8(121), "one": np.float32(1),
    }  # fmt: skip
    nodes = [
        helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("a", onnx.TensorProto.UINT8, a.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    sums = ((a.astype(np.int64) - 114) @ b.astype(np.int64)).astype(np.float32)
    expected = np.clip(np.rint(sums * (np.float32(0.0213) * scale / np.float32(0.137))) + 121, 0, 255)
    got = cp.session(cp.convert(cp.load(model), "mlprogram", precision="fp32", check=False)).run({"a": a})["y"]
    np.testing.assert_array_equal(got, expected)


def test_what_a_float16_model_is_fed_is_counted_in_float32() -> None:
    """Numbers beside the edges of steps, nearer than float16 tells them apart."""
    steps = np.arange(1, 200, dtype=np.float64)
    x = ((steps + 0.5 + np.where(steps % 2, 1e-3, -1e-3)) * np.float32(0.0187)).astype(np.float32)[None]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in
         {"s": np.float32(0.0187), "z": np.uint8(3), "one": np.float32(1)}.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    converted = cp.convert(cp.load(proto), "mlprogram", precision="fp16", check=False)
    np.testing.assert_array_equal(cp.session(converted).run({"x": x})["y"][0], np.where(steps % 2, steps + 1, steps))


def test_a_bias_in_steps_that_float16_does_not_have_is_scaled_before_it_is_rounded() -> None:
    steps, scale = np.array([-31946, 60760, -289820], np.int32), np.array([3.9972932e-07], np.float32)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("DequantizeLinear", ["b", "s"], ["f"]), helper.make_node("Add", ["x", "f"], ["y"])],
            "g", [x], [y], [numpy_helper.from_array(steps, "b"), numpy_helper.from_array(scale, "s")],
        ),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
    )  # fmt: skip
    converted = cp.convert(cp.load(proto), "mlprogram", precision="fp16", check=False)
    got = cp.session(converted).run({"x": np.zeros((2, 3), np.float32)})["y"]
    np.testing.assert_allclose(got[0], steps * scale.astype(np.float64), rtol=2**-11)


@pytest.mark.parametrize(("scale", "dtype"), [(3e-8, np.uint8), (0.02, np.uint16)])
def test_steps_that_float16_cannot_count_are_counted_in_float32(scale: float, dtype: type) -> None:
    x = (scale * RNG.uniform(0, np.iinfo(dtype).max - 5, size=(2, 50))).astype(np.float32)
    given = {"s": np.float32(scale), "z": dtype(1)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in given.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (expected,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    converted = cp.convert(cp.load(proto), "mlprogram", precision="fp16", check=False)
    got = cp.session(converted).run({"x": x})["y"]
    assert np.abs(got - expected).max() <= 1.001 * scale


def test_the_largest_of_a_window_of_bytes() -> None:
    windows = BYTES.reshape(2, 3, 2, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 2, 2, 4)
    expected = windows.max(-1).astype(np.uint8)
    check_node("MaxPool", {"x": BYTES}, expected, kernel_shape=[2, 2], strides=[2, 2])


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_quantised_convolution_whose_parameters_are_fed(per_channel: bool, with_bias: bool) -> None:
    rng = np.random.default_rng(3)
    filters = 4 if per_channel else 1
    fed: dict[str, Any] = {
        "x": rng.integers(0, 256, (1, 3, 6, 6)).astype(np.uint8),
        "xs": np.array([0.02], np.float32),
        "xz": np.array([118], np.uint8),
        "w": rng.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8),
        "ws": rng.uniform(0.001, 0.01, filters).astype(np.float32),
        "wz": np.full(filters, 131, np.uint8),
        "ys": np.array([0.05], np.float32),
        "yz": np.array([124], np.uint8),
        **({"b": rng.integers(-2000, 2000, 4).astype(np.int32)} if with_bias else {}),
    }
    x, w = (
        fed[n].astype(np.int64) - fed[z].astype(np.int64).reshape([-1, 1, 1, 1]) for n, z in (("x", "xz"), ("w", "wz"))
    )
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), (1, 2))
    sums = np.einsum("chwij,kcij->khw", windows, w) + (fed["b"].reshape(-1, 1, 1) if with_bias else 0)
    steps = (fed["xs"] * fed["ws"] / fed["ys"]).astype(np.float32).reshape(-1, 1, 1)
    want = np.clip(np.rint(sums.astype(np.float32) * steps) + 124, 0, 255).astype(np.int64)[None]
    check_node("QLinearConv", fed, want, targets=[("mlprogram", "iOS15"), ("mlprogram", "iOS18")])


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_a_range_that_is_found_while_the_model_runs(shift: float) -> None:
    """Against ONNX's reference: the steps span what is fed and 0, which is a step itself."""
    x = X + np.float32(shift)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    found = [helper.make_tensor_value_info(n, kind, None) for n, kind in (("y", 2), ("scale", 1), ("zero", 2))]
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, X.shape)], found)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    with cp.session(cp.convert(proto, "mlprogram", precision="fp32", check=False)) as running:
        results = running.run({"x": x})
    assert np.abs(results["y"].astype(np.int64) - expected[0].astype(np.int64)).max() <= 1
    np.testing.assert_allclose(np.asarray(results["scale"]).reshape(()), expected[1], rtol=1e-6)
    assert np.asarray(results["zero"]).item() == expected[2]


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("mlprogram", "fp32"), ("neuralnetwork", None)])
@pytest.mark.parametrize("zero", [0, 7])
def test_a_quantised_number_without_axes_is_a_constant_of_the_program(to: Any, precision: Any, zero: int) -> None:
    """ONNX Runtime's quantiser stores an attention's factor so; in float16 it stood in a product as float32: refused."""
    stored = {"q": np.int8(127), "s": np.float32(0.0027838), "z": np.int8(zero)}
    head = '<ir_version: 9, opset_import: ["": 17]> net (float[2,3] x) => (float[2,3] y)'
    proto = onnx_model(f"{head} {{ c = DequantizeLinear(q, s, z) y = Mul(x, c) }}", **stored)
    x = X[:, :, 0]
    with cp.session(cp.convert(proto, to, precision=precision)) as running:
        found = np.asarray(running.run({"x": x})["y"])
    np.testing.assert_allclose(
        found, x * np.float32((127 - zero) * 0.0027838), rtol=2e-3 if precision == "fp16" else 1e-6
    )
