"""Normalisations with an epsilon that float16 does not hold: right for small numbers, and no wider where numbers are large."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from tests.build import onnx_model

HEAD = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]> net'
NORMS = {
    "layer": "(float[2,8] x) => (float[2,8] y) { y = LayerNormalization<epsilon=1e-12>(x, eight, eight) }",
    "layer with its mean": "(float[2,8] x) => (float[2,8] y, float[2,1] m) "
    "{ y, m = LayerNormalization<epsilon=1e-12>(x, eight, eight) }",
    "layer of a product": "(float[2,8] x) => (float[2,8] y) { h = Mul(x, k) y = LayerNormalization<epsilon=1e-9>(h, eight) }",
    "skip": "(float[1,2,8] x) => (float[1,2,8] y) { h = Mul(x, k) y = com.microsoft.SkipLayerNormalization(x, h, eight, eight) }",
    "simplified": "(float[1,2,8] x) => (float[1,2,8] y) { y = SimplifiedLayerNormalization<epsilon=1e-12>(x, eight) }",
    "instance": "(float[1,2,8,3] x) => (float[1,2,8,3] y) { y = InstanceNormalization<epsilon=1e-12>(x, two, two) }",
    "group": "(float[1,4,8] x) => (float[1,4,8] y) { y = GroupNormalization<epsilon=1e-12, num_groups=2>(x, four, four) }",
    "without factors": "(float[1,2,8,3] x) => (float[1,2,8,3] y) { y = MeanVarianceNormalization(x) }",
}  # fmt: skip
_RNG = np.random.default_rng(4)
WEIGHTS = {
    **{name: _RNG.uniform(0.5, 1.5, n).astype(np.float32) for name, n in (("two", 2), ("four", 4), ("eight", 8))},
    "k": np.float32(1.5),
    "faint": np.float32(0.001),
    "table": _RNG.normal(0, 0.02, (20, 8)).astype(np.float32),
    "weight": _RNG.normal(0, 0.3, (8, 8)).astype(np.float32),
}


def built(text: str) -> OnnxModel:
    used = {name: array for name, array in WEIGHTS.items() if f"{name})" in text or f"{name}," in text}
    return onnx_model(f"{HEAD} {text}", **used)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("scale", [1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("norm", NORMS)
def test_small_numbers_are_normalised_as_in_the_source(norm: str, scale: float) -> None:
    model = built(NORMS[norm])
    shape = [int(n) for n in model.signature.inputs[0].shape]
    x = (scale * np.random.default_rng(1).normal(0, 1, shape)).astype(np.float16).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    want = onnxruntime.InferenceSession(model.stored(), options).run(["y"], {"x": x})[0]
    with cp.session(cp.convert(model, "mlprogram", precision="fp16", check=False)) as running:
        got = running.run({"x": x})["y"]
    np.testing.assert_allclose(got, want, rtol=4e-3, atol=4e-3)


EMBEDDED = "(int64[1,5] ids) => (float[1,5,8] y) { h = Gather(table, ids)"
LARGE = {
    "rows of a table": f"{EMBEDDED} y = LayerNormalization<epsilon=1e-12>(h, eight) }}",
    "behind a norm": f"{EMBEDDED} n = LayerNormalization<epsilon=1e-5>(h, eight) m = MatMul(n, weight) g = Relu(m) s = Add(g, n) "
    "y = LayerNormalization<epsilon=1e-12>(s, eight) }",
    "what is fed, and positions": "(float[20,8] x) => (float[20,8] y) { s = Add(x, table) "
    "y = LayerNormalization<epsilon=1e-12>(s, eight) }",
    "an epsilon that float16 holds": "(float[20,8] x) => (float[20,8] y) { s = Mul(x, k) "
    "y = LayerNormalization<epsilon=1e-6>(s, eight) }",
}  # fmt: skip
SMALL = {
    "what is fed": "(float[20,8] x) => (float[20,8] y) { s = Mul(x, k) y = LayerNormalization<epsilon=1e-12>(s, eight) }",
    "a norm made small": f"{EMBEDDED} n = LayerNormalization<epsilon=1e-5>(h, eight) s = Mul(n, faint) "
    "y = LayerNormalization<epsilon=1e-12>(s, eight) }",
    "a mean of rows": f"{EMBEDDED} t = Transpose<perm=[0,2,1]>(h) q = MatMul(h, t) p = Softmax(q) s = MatMul(p, h) "
    "y = LayerNormalization<epsilon=1e-12>(s, eight) }",
}  # fmt: skip


@pytest.mark.parametrize("body", [*LARGE, *SMALL])
def test_what_is_known_to_be_large_stays_in_float16(body: str) -> None:
    made = cp.convert(built({**LARGE, **SMALL}[body]), "mlprogram", precision="fp16", check=False)
    norms = [node.outputs[0] for node in made.graph.nodes if node.operator == "layer_norm"]
    assert made.graph.values[norms[-1]].dtype == ("float16" if body in LARGE else "float32")
