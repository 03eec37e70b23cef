"""Roots of sums of powers keep their meaning in float16, where the powers alone are beyond it."""

from __future__ import annotations

import numpy as np
import pytest

import coreproof as cp
from tests.build import onnx_model
from tests.conversion.onnx_to_coreml.float16.test_half_range import HEAD, both

WEIGHTS = {
    "two": np.float32(2),
    "three": np.array(3),
    "third": np.float32(1 / 3),
    "e": np.float32(1e-6),
    "n": np.float32(4 / 3),
    "axes": np.array([1]),
}
WRITTEN = {
    "rms norm": "q = Pow(x, two) v = ReduceMean<axes=[1]>(q) m = Add(v, e) r = Sqrt(m) i = Reciprocal(r) y = Mul(x, i)",
    "rms norm as a quotient": "q = Mul(x, x) v = ReduceMean<axes=[1]>(q) m = Add(v, e) r = Sqrt(m) y = Div(x, r)",
    "layer norm": "a = ReduceMean<axes=[1]>(x) c = Sub(x, a) q = Pow(c, two) v = ReduceMean<axes=[1]>(q) r = Sqrt(v) "
    "y = Div(c, r)",
    "layer norm with a difference of its own": "a = ReduceMean<axes=[1]>(x) c = Sub(x, a) d = Sub(x, a) q = Mul(c, c) "
    "v = ReduceMean<axes=[1]>(q) m = Add(v, e) r = Sqrt(m) y = Div(d, r)",
    "norm of squares": "q = ReduceSumSquare<axes=[1]>(x) r = Sqrt(q) y = Div(x, r)",
    "unbiased deviation": "a = ReduceMean<axes=[1]>(x) c = Sub(x, a) q = Mul(c, c) v = ReduceMean<axes=[1]>(q) u = Mul(v, n) "
    "r = Sqrt(u) y = Add(r, e)",
    "norm of cubes": "b = Abs(x) q = Pow(b, three) s = ReduceSum<keepdims=1>(q, axes) r = Pow(s, third) y = Div(x, r)",
}  # fmt: skip


@pytest.mark.sweep(8)
@pytest.mark.parametrize("size", [1.0, 300.0, 20000.0, 60000.0])
@pytest.mark.parametrize("name", WRITTEN)
def test_powers_beyond_float16_have_a_root_within(name: str, size: float) -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 4)) * size
    text = WRITTEN[name]
    used = {k: v for k, v in WEIGHTS.items() if f" {k})" in text or f" {k}," in text}
    columns = 1 if name == "unbiased deviation" else 4
    fed = {"x": rows.astype(np.float16).astype(np.float32)}
    ((want, got),) = both(f"(float[4,4] x) => (float[4,{columns}] y) {{ {text} }}", fed, **used)
    np.testing.assert_allclose(got, want, rtol=4e-3, atol=1e-3 * float(np.abs(want).max()))


def test_powers_without_a_root_stay_narrow() -> None:
    text = "(float[4,4] x) => (float[4,1] y) { q = Mul(x, x) y = ReduceMean<axes=[1]>(q) }"
    made = cp.convert(onnx_model(f"{HEAD} {text}"), "mlprogram")
    assert made.graph.values["q"].dtype == "float16"
