"""Quantised operators: the integers that numpy computes from their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import coreproof as cp
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


def microsoft(
    operator: str, inputs: dict[str, np.ndarray], parameters: list[Any], order: list[int | str], **attributes: Any
) -> onnx.ModelProto:
    """A model of one of ONNX Runtime's own operators on bytes, its result dequantised."""
    names = [name if isinstance(name, str) else f"p{name}" for name in order]
    nodes = [
        helper.make_node(operator, names, ["q"], name="node", domain="com.microsoft", **attributes),
        helper.make_node("DequantizeLinear", ["q", "one"], ["y"], name="out"),
    ]
    constants = {f"p{at}": np.asarray(value) for at, value in enumerate(parameters)} | {"one": np.float32(1)}
    graph = helper.make_graph(
        nodes,
        "one",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


BYTES = RNG.integers(0, 256, size=(2, 3, 4, 4)).astype(np.uint8)
TWO = {"a": BYTES, "b": BYTES[:, ::-1].copy()}
ONE_OF_BYTES = [np.float32(0.02), np.uint8(120), np.float32(0.03), np.uint8(90)]
ROWS = RNG.integers(0, 256, size=(3, 5)).astype(np.uint8)
WEIGHT = RNG.integers(-127, 128, size=(5, 4)).astype(np.int8)
FORMS: dict[str, onnx.ModelProto] = {
    "QLinearMul": microsoft("QLinearMul", TWO, [*ONE_OF_BYTES, np.float32(0.06), np.uint8(100)], ["a", 0, 1, "b", 2, 3, 4, 5]),
    "QLinearAdd": microsoft("QLinearAdd", TWO, [*ONE_OF_BYTES, np.float32(0.06), np.uint8(100)], ["a", 0, 1, "b", 2, 3, 4, 5]),
    "QLinearConcat": microsoft(
        "QLinearConcat", TWO, [*ONE_OF_BYTES, np.float32(0.025), np.uint8(100)], [4, 5, "a", 0, 1, "b", 2, 3], axis=1
    ),
    "QLinearSigmoid": microsoft(
        "QLinearSigmoid", {"a": BYTES}, [*ONE_OF_BYTES[:2], np.float32(1 / 256), np.uint8(0)], ["a", 0, 1, 2, 3]
    ),
    "QLinearLeakyRelu": microsoft("QLinearLeakyRelu", {"a": BYTES}, ONE_OF_BYTES, ["a", 0, 1, 2, 3], alpha=0.3),
    "QLinearSoftmax": microsoft(
        "QLinearSoftmax", {"a": BYTES}, [*ONE_OF_BYTES[:2], np.float32(1 / 256), np.uint8(0)], ["a", 0, 1, 2, 3],
        axis=-1, opset=13,
    ),
    "QLinearAveragePool": microsoft(
        "QLinearAveragePool", {"a": BYTES}, ONE_OF_BYTES, ["a", 0, 1, 2, 3], kernel_shape=[2, 2], strides=[2, 2]
    ),
    "QLinearGlobalAveragePool": microsoft("QLinearGlobalAveragePool", {"a": BYTES}, ONE_OF_BYTES, ["a", 0, 1, 2, 3]),
    "QGemm": microsoft(
        "QGemm", {"a": ROWS},
        [np.float32(0.02), np.uint8(120), WEIGHT, np.float32(0.01), np.int8(3), np.array([900, -40, 0, 5], np.int32),
         np.float32(0.2), np.uint8(128)],
        ["a", 0, 1, 2, 3, 4, 5, 6, 7],
    ),
    "QGemm of a transposed weight with a scale for each column": microsoft(
        "QGemm", {"a": ROWS},
        [np.float32(0.02), np.uint8(120), WEIGHT.T.copy(), np.array([0.01, 0.02, 0.005, 0.01], np.float32),
         np.zeros(4, np.int8), np.array([900, -40, 0, 5], np.int32), np.float32(0.2), np.uint8(128)],
        ["a", 0, 1, 2, 3, 4, 5, 6, 7], transB=1, alpha=1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_onnx_runtime_s_quantisation_tool_count_as_it_does(form: str, to: Any) -> None:
    model = FORMS[form]
    fed = {i.name: TWO.get(i.name, BYTES) if i.name != "a" or form[1] != "G" else ROWS for i in model.graph.input}
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, fed)
    converted = cp.convert(cp.load(model), to, precision="fp32" if to == "mlprogram" else None, check=False)
    (got,) = cp.session(converted).run(fed).values()
    off = np.abs(np.asarray(got, np.float64) - expected)
    assert off.max() <= 1  # an edge of a step, at most
    assert np.mean(off > 0) <= 0.05


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
