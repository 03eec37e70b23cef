"""keep_fp32="auto": what overflows in float16 alone is found by running, kept in float32 and named, and the result agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.build import graph_model, weights

X = (np.random.default_rng(0).standard_normal((1, 16, 32)) * 40).astype(np.float32)
KINDS = {
    "a sum of squares": ("s = Mul (x, x)  r = ReduceSum <keepdims = 1> (s, last)  q = Sqrt (r)  y = Div (x, q)", "r"),
    "a norm of large activations": (
        "k = Constant <value_float = 20.0> ()  l = Mul (x, k)  m = ReduceMean <keepdims = 1> (l, last)  d = Sub (l, m) "
        "s = Mul (d, d)  v = ReduceMean <keepdims = 1> (s, last)  q = Sqrt (v)  y = Div (d, q)",
        "s",
    ),
    "a softmax without its maximum": (
        "k = Constant <value_float = 0.2> ()  l = Mul (x, k)  e = Exp (l)  r = ReduceSum <keepdims = 1> (e, last)  "
        "y = Div (e, r)",
        "e",
    ),
    "a clamp that comes behind": (
        "e = Exp (t)  f = Mul (x, e)  c = Clip (f, low, high)  y = MatMul (c, w)",
        "f",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_overflows_in_float16_alone_is_kept_wide_and_named(kind: str) -> None:
    body, value = KINDS[kind]
    model = graph_model(
        f"net (float[1, 16, 32] x) => (float[1, 16, 32] y) {{ {body} }}",
        18,
        last=np.array([-1]), t=np.float32(9.5), low=np.float32(-10), high=np.float32(10), w=weights(32, 32),
    )  # fmt: skip
    made = cp.convert(model, "mlprogram", keep_fp32="auto", inputs={"x": X}, check=False)
    said = next(note for note in made.notes if note.startswith("in float32"))
    assert f"{value} (" in said or f" {value};" in said or f" {value} " in said, said
    found = cp.verify(model, made, inputs={"x": X})
    assert found, found.summary()
    assert np.isfinite(cp.session(made).run({"x": X})["y"]).all()


NORMS = ("y = LayerNormalization <axis = -1> (l, g)", "r = ReduceL2 <keepdims = 1> (l, last)  y = Div (l, r)")


@pytest.mark.parametrize("body", NORMS)
def test_a_sum_inside_an_operator_is_found_although_its_result_is_small(body: str) -> None:
    text = f"net (float[1, 16, 32] x) => (float[1, 16, 32] y) {{ k = Constant <value_float = 2.0> ()  l = Mul (x, k)  {body} }}"
    model = graph_model(text, 18, g=np.ones(32, np.float32), last=np.array([-1]))
    made = cp.convert(model, "mlprogram", keep_fp32="auto", inputs={"x": X}, check=False)
    said = next(note for note in made.notes if note.startswith("in float32"))
    assert "it forms a sum of squares" in said
    small = cp.convert(model, "mlprogram", keep_fp32="auto", inputs={"x": X / 40}, check=False)
    assert any("nothing has to stay" in note for note in small.notes)
    assert cp.verify(model, made, inputs={"x": X})


def test_what_float16_holds_stays_in_float16() -> None:
    model = graph_model("net (float[1, 32] x) => (float[1, 32] y) { y = MatMul (x, w) }", 18, w=weights(32, 32))
    made = cp.convert(model, "mlprogram", keep_fp32="auto")
    assert any("nothing has to stay in float32" in note for note in made.notes)
    assert {node.operator for node in made.graph.nodes} >= {"cast", "linear"}


def test_operators_are_kept_wide_by_their_names() -> None:
    model: Any = graph_model(
        "net (float[1, 32] x) => (float[1, 32] y) { a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, w) }",
        18,
        w=weights(32, 32),
    )
    dtypes = {}
    for kept in ([], ["MatMul"]):
        made = cp.convert(model, "mlprogram", keep_fp32=kept, check=False)
        values = made.graph.values
        dtypes[bool(kept)] = [values[n.outputs[0]].dtype for n in made.graph.nodes if n.operator == "linear"]
    assert dtypes == {False: ["float16", "float16"], True: ["float32", "float32"]}
