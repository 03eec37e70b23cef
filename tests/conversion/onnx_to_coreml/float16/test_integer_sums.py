"""Sums of integers that are scaled down as floats, as ONNX Runtime's ``quantize_dynamic`` writes them."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
RNG = np.random.default_rng(7)
WEIGHTS: dict[str, Any] = {
    "w": RNG.integers(0, 255, (200, 6)).astype(np.uint8),
    "wz": np.uint8(131),
    "k": RNG.integers(-127, 127, (6, 200, 1)).astype(np.int8),
    "kz": np.int8(0),
    "ws": np.float32(0.003),
    "bias": RNG.normal(size=6).astype(np.float32),
    "whole": RNG.integers(-5000, 5000, 6).astype(np.int32),
    "gamma": np.ones(200, np.float32),
    "axis": np.array([2]),
    "ones": np.ones(6, np.float32),
    "million": np.float32(1e6),
    "share": np.float32(1e-6),
}
DYNAMIC = "q, q_scale, q_zero = DynamicQuantizeLinear({}) "
SCALED = "f = Cast<to=1>(p) s = Mul(q_scale, ws) m = Mul(f, s) y = Add(m, bias)"
FORMS = {
    "matmul": f"{DYNAMIC.format('x')} p = MatMulInteger(q, w, q_zero, wz) {SCALED}",
    "matmul with a bias of integers": f"{DYNAMIC.format('x')} t = MatMulInteger(q, w, q_zero, wz) p = Add(t, whole) {SCALED}",
    "conv": f"{DYNAMIC.format('x')} a = Unsqueeze(q, axis) c = ConvInteger(a, k, q_zero, kz) p = Squeeze(c, axis) {SCALED}",
    "behind a normalisation": f"q = LayerNormalization(x, gamma) {DYNAMIC.replace('q, ', 'b, ').format('q')} "
    f"p = MatMulInteger(b, w, q_zero, wz) {SCALED}",
    "divided": "c = Mul(x, million) i = Cast<to=6>(c) f = Cast<to=1>(i) y = Div(f, million)",
    "multiplied": "c = Mul(x, million) i = Cast<to=6>(c) f = Cast<to=1>(i) y = Mul(f, share)",
}


def made_of(text: str) -> OnnxModel:
    read = set(re.findall(r"\w+", text))
    used = {name: weight for name, weight in WEIGHTS.items() if name in read}
    ends = "(float[3,200] x) => (float[3,200] y)" if "million" in text else "(float[3,200] x) => (float[3,6] y)"
    return onnx_model(f"{HEAD} {ends} {{ {text} }}", **used)


@pytest.mark.parametrize(("to", "precision"), [("mlprogram", "fp16"), ("mlprogram", "fp32"), ("neuralnetwork", None)])
@pytest.mark.parametrize("name", FORMS)
def test_sums_of_integers_are_scaled_before_float16_holds_them(
    name: str, to: Literal["mlprogram", "neuralnetwork"], precision: Any
) -> None:
    model = made_of(FORMS[name])
    x = np.random.default_rng(1).normal(size=(3, 200)).astype(np.float32)
    wanted = onnxruntime.InferenceSession(model.stored()).run(None, {"x": x})[0]
    with cp.session(cp.convert(model, to, precision=precision, check=False)) as running:
        made = running.run({"x": x})["y"]
    # an element at an edge may be a step off, of which 200 products are summed: 1/255 of the range of one
    step = 2.0**-11 if name in ("divided", "multiplied") else 1 / 255
    np.testing.assert_allclose(made, wanted, rtol=2.0**-10, atol=step * np.abs(wanted).max())


def test_a_network_holds_a_bias_of_large_integers_as_its_numbers() -> None:
    whole = np.array([-20119681, 20119683, 5, -7, 2**30 + 1, 0], np.int32)
    model = onnx_model(
        f"{HEAD} (float[3,6] x) => (float[3,6] y) {{ b = DequantizeLinear(whole, step, nothing) y = Add(x, b) }}",
        whole=whole,
        step=np.float32(1e-8),
        nothing=np.int32(0),
    )
    x = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    with cp.session(cp.convert(model, "neuralnetwork", check=False)) as running:
        made = running.run({"x": x})["y"]
    np.testing.assert_allclose(made, x + whole * 1e-8, rtol=0, atol=1e-6 * 12)
