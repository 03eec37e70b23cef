"""Activations that MIL's own operations quantise: rounding explains a step here and there, and no other scale or zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.build import graph_model, weights


def net(scale: float = 0.05, zero: int = 120) -> Any:
    text = """net (float[4, 64] x) => (float[4, 48] y) {
        a = MatMul (x, w)  r = Relu (a)  q = QuantizeLinear (r, s, z)  d = DequantizeLinear (q, s, z)
        b = MatMul (d, v)  p = QuantizeLinear (b, t, z)  y = DequantizeLinear (p, t, z) }"""
    return graph_model(
        text,
        17,
        w=weights(64, 64) / 8,
        v=weights(64, 48, seed=1) / 8,
        s=np.float32(scale),
        t=np.float32(0.043),
        z=np.uint8(zero),
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_rounding_explains_a_step_here_and_there(precision: Any) -> None:
    made = cp.convert(net(), "mlprogram", target="iOS17", precision=precision)
    assert {node.operator for node in made.graph.nodes} >= {"quantize", "dequantize"}
    found = cp.verify(net(), made)
    assert found, found.summary()


@pytest.mark.parametrize(("scale", "zero"), [(0.06, 120), (0.05, 100)])
def test_another_scale_or_zero_point_is_found_where_it_stands(scale: float, zero: int) -> None:
    made = cp.convert(net(scale, zero), "mlprogram", target="iOS17", precision="fp16")
    found = cp.verify(net(), made)
    assert not found
    first = found.first_divergence
    assert first is not None
    assert first.candidate in ("q", "d")
