"""Zeros that are drawn, of which a source makes numbers that float16 does not hold: the draw is asked for again without them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.model.onnx.model import OnnxModel
from tests.build import graph_model

RATIO = "net (float[10, 4] x, float[10, 4] y) => (float[10, 4] z) { a = Abs(y)  s = Add(a, eps)  z = Div(x, s) }"


def ratio(eps: float) -> OnnxModel:
    return graph_model(RATIO, eps=np.float32(eps))


def test_a_quotient_by_zero_and_an_epsilon_is_judged_without_zeros_and_says_so() -> None:
    source = ratio(1e-6)
    made = cp.convert(source, "mlprogram", precision="fp16")
    assert made.notes[-1].startswith("checked")
    found = cp.verify(source, made)
    assert found, found.summary()
    assert "without zeros, of which the source makes 'z' larger than float16 holds" in found.inputs


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_another_epsilon_is_a_fault_all_the_same(precision: Any) -> None:
    assert not cp.verify(ratio(1e-6), cp.convert(ratio(1e-2), "mlprogram", precision=precision, check=False))


def test_what_leaves_the_range_for_usual_numbers_is_a_fault() -> None:
    source = graph_model("net (float[10, 4] x) => (float[10, 4] z) { m = Mul(x, k)  z = Mul(m, m) }", k=np.float32(300))
    found = cp.verify(source, cp.convert(source, "mlprogram", precision="fp16", check=False))
    assert not found
    assert found.first_divergence is not None


def test_a_zero_vector_that_becomes_nan_is_a_fault() -> None:
    """What the source makes of zeros is within the range here, so that nothing is drawn again."""
    text = "net (float[10, 4] x) => (float[10, 4] z) { n = ReduceL2<axes=[-1]>(x)  s = Add(n, eps)  z = Div(x, s) }"
    source = graph_model(text, opset=13, eps=np.float32(1e-8))
    bare = "net (float[10, 4] x) => (float[10, 4] z) { n = ReduceL2<axes=[-1]>(x)  z = Div(x, n) }"
    assert cp.verify(source, cp.convert(source, "mlprogram", precision="fp16"))
    assert not cp.verify(source, graph_model(bare, opset=13))
