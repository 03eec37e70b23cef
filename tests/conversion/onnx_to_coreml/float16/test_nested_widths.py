"""What float16 does not hold is computed in float32 in the bodies of loops and the branches of ifs as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
BODIES: dict[str, tuple[str, list[float]]] = {
    "a logarithm": ("b = Abs(a) m = Add(b, eps) e = Log(m)", [0, 1, 0, 3]),
    "a norm of small numbers": ("e = LayerNormalization<epsilon=1e-12>(a, w)", [1e-3, 2e-3, -1e-3, 5e-4]),
    "a norm of large ones": ("q = Mul(a, a) s = ReduceMean<axes=[0]>(q) r = Sqrt(s) e = Div(a, r)", [300, 400, -500, 1]),
    "an angle": ("m = Mul(a, k) e = Sin(m)", [3.25, 7.75, 0.25, 1]),
    "exponentials": ("q = Exp(a) s = ReduceSum<keepdims=1>(q) l = Log(s) e = Sub(a, l)", [20, 30, 11, 15]),
    "a whole part": (
        "m = Mul(a, k) i = Cast<to=7>(m) s = Constant<value = int64 {7}>() r = Mod(i, s) e = Cast<to=1>(r)",
        [100.25, 77.75, 0.125, 65],
    ),
}  # fmt: skip
WEIGHTS = {"k": np.float32(1000), "eps": np.float32(1e-8), "w": np.ones(4, np.float32)}
ROUND = "y = Loop(c, t, x) <body = b (int64 n, bool g, float[4] a) => (bool d, float[4] e) { d = Identity(g) BODY }> }"
FORMS = {
    "loop": f"(float[4] x, int64 c) => (float[4] y) {{ t = Constant<value = bool {{1}}>() {ROUND}",
    "known": "(float[4] x) => (float[4] y) { t = Constant<value = bool {1}>() c = Constant<value = int64 {1}>() "
    + ROUND,
    "if": "(float[4] a, bool c) => (float[4] y) { y = If(c) <then_branch = p () => (float[4] e) { BODY }, "
    "else_branch = z () => (float[4] f) { f = Neg(a) }> }",
    "scan": "(float[1,4] x) => (float[1,4] y) { y = Scan<num_scan_inputs=1, body = b (float[4] a) => (float[4] e) { BODY }>(x) }",
}


@pytest.mark.sweep(6)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("body", BODIES)
def test_a_body_answers_in_float16_as_the_source_does(body: str, form: str) -> None:
    nodes, numbers = BODIES[body]
    text = FORMS[form].replace("BODY", nodes)
    model = onnx_model(f"{HEAD} {text}", **{k: v for k, v in WEIGHTS.items() if f" {k})" in text})
    x = np.array([numbers] if form == "scan" else numbers, np.float32)
    more: dict[str, Any] = {"loop": {"c": np.array(1)}, "if": {"c": np.array(True)}}.get(form, {})
    fed = {"a" if form == "if" else "x": x, **more}
    [want] = onnxruntime.InferenceSession(model.stored()).run(None, fed)
    with cp.session(cp.convert(model, "mlprogram", precision="fp16", check=False)) as running:
        [got] = running.run(
            {k: v if v.dtype == np.float32 else v.astype(np.int32)[None] for k, v in fed.items()}
        ).values()
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-3)
