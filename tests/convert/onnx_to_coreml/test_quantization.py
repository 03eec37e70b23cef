"""Quantised operators: the integers that numpy computes from their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.convert.onnx_to_coreml.one_node import check_node

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
