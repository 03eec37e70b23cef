"""In a float16 program: logarithms of sums of exponentials that a graph writes out, and steps that it counts itself."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from coreproof.runtime.open import session
from tests.build import graph_model


def test_a_logarithm_of_exponentials_that_are_beyond_float16_is_within_it() -> None:
    text = """agraph (float[2, 3] x) => (float[2, 1] y) {
        e = Exp (x)  s = ReduceSum <keepdims = 1> (e, axes)  y = Log (s)
    }"""
    x = np.array([[60, 20, 3], [-2, 0.5, 1]], np.float32)
    with session(onnx_to_coreml(graph_model(text, axes=np.array([1], np.int64)), precision="fp16")) as running:
        found = running.run({"x": x})["y"]
    np.testing.assert_allclose(found, np.log(np.exp(x.astype(np.float64)).sum(1, keepdims=True)), rtol=2e-3)


def test_steps_of_a_scale_that_is_computed_are_those_of_float32() -> None:
    text = """agraph (float[64] x) => (uint8[64] y) {
        top = ReduceMax <keepdims = 0> (x)  scale = Div (top, steps)
        q = Div (x, scale)  r = Round (q)  c = Clip (r, low, high)  y = Cast <to = 2> (c)
    }"""
    stored = {"steps": np.float32(255), "low": np.float32(0), "high": np.float32(255)}
    x = (np.random.default_rng(0).integers(0, 3000, 64) / 1024).astype(np.float16).astype(np.float32)
    with session(onnx_to_coreml(graph_model(text, **stored), precision="fp16")) as running:
        found = running.run({"x": x})["y"]
    np.testing.assert_array_equal(found, np.round(x / (x.max() / np.float32(255))))
