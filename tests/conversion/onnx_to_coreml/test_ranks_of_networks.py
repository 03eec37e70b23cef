"""Ranks at which the formats part: single numbers inside a NeuralNetwork, and the slopes of PRelu at every rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
FORMATS = ["mlprogram", "neuralnetwork"]
CONSTANTS = {
    "k24": np.linspace(-1, 1, 24, dtype=np.float32).reshape(1, 24), "k23": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "n24": np.array([24]), "s124": np.array([1, 24]), "a0": np.array([0]), "a01": np.array([0, 1]),
    "low": np.float32(-1), "high": np.float32(1),
}  # fmt: skip


def agree(text: str, feeds: dict[str, Any], to: Any, weights: dict[str, Any]) -> None:
    model = onnx_model(f"{HEAD} {text}", **weights)
    (want,) = onnxruntime.InferenceSession(model.stored()).run(None, feeds)
    with cp.session(cp.convert(model, to, precision="fp32")) as running:
        (got,) = running.run(feeds).values()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "(float[2,3] x) => (float[24] y) { r = ReduceMax<keepdims=0>(x) e = Expand(r, n24) y = Softmax<axis=0>(e) }",
        "(float[2,3] x) => (float[24] y) { r = ReduceMax<keepdims=0>(x) u = Unsqueeze(r, a0) e = Tile(u, n24)"
        " y = Softmax<axis=0>(e) }",
        "(float[2,3] x) => (float[1,24] y) { r = ReduceSum<keepdims=0>(x) u = Unsqueeze(r, a0) a = Add(u,"
        " k24) y = Softmax<axis=1>(a) }",
        "(float[2,3] x) => (float[24] y) { r = ReduceMean<keepdims=0>(x) p = Mul(r, r) e = Expand(p, s124) f"
        " = Squeeze(e, a0) y = Softmax<axis=0>(f) }",
        "(float[2,3] x) => (float[24] y) { r = ReduceMean<keepdims=0>(x) c = Clip(r, low, high) n = Neg(c) e"
        " = Expand(n, n24) y = Softmax<axis=0>(e) }",
        "(float[2,3] x) => (float[1,1] y) { r = ReduceMax<keepdims=0>(x) y = Unsqueeze(r, a01) }",
        "(float[2,3] x) => (float[2,3] y) { r = ReduceMean<keepdims=0>(x) c = Less(x, r) w = Where(c, r, x) y"
        " = Softmax<axis=0>(w) }",
        "(float[2,3] x) => (float[2,3] y) { f = Flatten<axis=0>(x) s = Squeeze(f, a0) i ="
        " ArgMax<axis=0,keepdims=0>(s) g = Cast<to=1>(i) a = Add(g, k23) y = Softmax<axis=0>(a) }",
    ],
)  # fmt: skip
def test_a_single_number_inside_has_no_axis_of_its_own(text: str, to: Any) -> None:
    x = np.array([[0.5, 1, 2], [0.1, 0.7, 1.5]], np.float32)
    agree(text, {"x": x}, to, {k: v for k, v in CONSTANTS.items() if f" {k})" in text or f" {k}," in text})


@pytest.mark.sweep(12)
@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("form", ["none", "one", "last", "channels", "all"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 2, 2), (2, 1, 4)])
def test_prelu_with_every_form_of_slope(shape: tuple[int, ...], form: str, to: Any) -> None:
    channels = (shape[1],) + (1,) * (len(shape) - 2) if len(shape) > 1 else shape
    slopes = {"none": (), "one": (1,), "last": shape[-1:], "channels": channels, "all": shape}
    rng = np.random.default_rng(1)
    slope = rng.uniform(-0.5, 1.5, slopes[form]).astype(np.float32)
    declared = ",".join(map(str, shape))
    text = f"(float[{declared}] x) => (float[{declared}] y) {{ y = PRelu(x, slope) }}"
    agree(text, {"x": rng.normal(size=shape).astype(np.float32)}, to, {"slope": slope})
