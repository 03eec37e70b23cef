"""Sequences and optional values, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreproof as cp
from coreproof.errors import ConversionError
from tests.build import onnx_model

HEAD = '<ir_version: 8, opset_import: ["": 17]> net'
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Y = -X


@pytest.mark.sweep(3)
@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
@pytest.mark.parametrize(
    "body",
    [
        "s = SequenceConstruct(x, y) z = ConcatFromSequence<axis=1>(s)",
        "s = SequenceConstruct(x, y) z = ConcatFromSequence<axis=-1, new_axis=1>(s)",
        "s = SequenceConstruct(x, y) z = ConcatFromSequence<axis=0, new_axis=1>(s)",
        "e = SequenceEmpty() s = SequenceInsert(e, x) t = SequenceInsert(s, y, zero) z = SequenceAt(t, zero)",
        "s = SequenceConstruct(x, y, x) t = SequenceErase(s) z = SequenceAt(t, last)",
        "s = SequenceConstruct(x, y, x) t = SequenceErase(s, zero) z = SequenceAt(t, zero)",
        "s = SplitToSequence<axis=1, keepdims=0>(x) z = SequenceAt(s, last)",
        "s = SplitToSequence<axis=2>(x) z = SequenceAt(s, zero)",
        "s = SplitToSequence<axis=1>(x, two) z = SequenceAt(s, last)",
        "s = SplitToSequence<axis=1>(x, parts) z = SequenceAt(s, zero)",
        "s = SplitToSequence<axis=0>(x) n = SequenceLength(s) f = Cast<to=1>(n) z = Mul(x, f)",
        "s = SequenceConstruct(x, y) i = Identity(s) z = SequenceAt(i, last)",
        "o = Optional(x) h = OptionalHasElement(o) g = OptionalGetElement(o) z = Where(h, g, y)",
    ],
)
def test_a_sequence_is_written_out(to: Any, body: str) -> None:
    weights = {"zero": np.int64(0), "last": np.int64(-1), "two": np.int64(2), "parts": np.array([1, 2])}
    used = {k: v for k, v in weights.items() if k in body}
    model = onnx_model(f"{HEAD} (float[2,3,4] x, float[2,3,4] y) => (float[?,?,?] z) {{ {body} }}", **used)
    fed = {"x": X, "y": Y}
    session = onnxruntime.InferenceSession(model.stored())
    (want,) = session.run(None, {i.name: fed[i.name] for i in session.get_inputs()})
    with cp.session(cp.convert(model, to, precision=None if to == "neuralnetwork" else "fp32")) as running:
        (got,) = running.run(fed).values()
    np.testing.assert_array_equal(got, want)


def test_a_sequence_that_grows_in_a_loop_is_stacked() -> None:
    text = f"""{HEAD} (float[2,3] x) => (float[?,?,?] z) {{
        e = SequenceEmpty()
        s = Loop (n, t, e) <body = b (int64 i, bool c, seq(float[2,3]) s0) => (bool c1, seq(float[2,3]) s1) {{
            f = Cast<to=1>(i) m = Mul(x, f) s1 = SequenceInsert(s0, m) c1 = Identity(c) }}>
        z = ConcatFromSequence<axis=0, new_axis=1>(s) }}"""
    x = X[0, :2, :3]
    model = onnx_model(text, n=np.int64(4), t=np.bool_(True))
    with cp.session(cp.convert(model, "mlprogram", precision="fp32")) as running:
        (got,) = running.run({"x": x}).values()
    np.testing.assert_array_equal(got, np.stack([x * i for i in range(4)]))


@pytest.mark.parametrize(
    ("signature", "body", "message"),
    [
        ("(float[2] x, int64 k) => (float[2] z)", "s = SequenceConstruct(x, x) z = SequenceAt(s, k)", "position"),
        (
            "(float[2] x) => (float[2] z)",
            "s = SequenceConstruct(x, x) z = SequenceAt(s, far)",
            "place 5 of a sequence of 2",
        ),
        ("(float[2] x) => (seq(float[2]) z)", "z = SplitToSequence(x)", "is a sequence of 2 tensors"),
        ("(float[2] x) => (float[2] z)", "s = SequenceConstruct(x, x) z = Relu(s)", "a sequence of tensors"),
        ("(float[2] x) => (float[2] z)", "s = SequenceEmpty() z = ConcatFromSequence<axis=0>(s)", "without tensors"),
        ("(float[2] x) => (float[2] z)", "z = SequenceAt(x, far)", "a tensor"),
    ],
)
def test_what_cannot_be_written_out_is_refused_by_name(signature: str, body: str, message: str) -> None:
    used = {"far": np.int64(5)} if "far" in body else {}
    with pytest.raises(ConversionError, match=message):
        cp.convert(onnx_model(f"{HEAD} {signature} {{ {body} }}", **used), "mlprogram", precision="fp32")
