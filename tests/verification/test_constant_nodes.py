"""Constants that are nodes are stored like any other: their size says nothing of what rounding does behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.feeding.drawn import random_feeds
from tests.build import graph_model

LAST = """
net (float[2, 4, 8] x, float[2, 8, 6] w) => (float[2, 4, 6] y) {
  s = Shape(x)  e = Constant<value_ints = [9223372036854775807]>()  b = Constant<value_ints = [-1]>()
  n = Slice(s, b, e)  f = Cast<to = 1>(n)  k = Sqrt(f)  q = Div(x, k)  p = MatMul(q, w)  y = Mul(p, one)
}
"""


@pytest.mark.parametrize("to", ["mlprogram", "neuralnetwork"])
def test_the_end_of_a_slice_excuses_nothing_behind_it(to: Any) -> None:
    net = graph_model(LAST, one=np.float32(1.0))
    found = cp.verify(net, cp.convert(net, to, precision="fp32", check=False))
    assert found.proves, found.summary()
    assert (found.outputs[0].tolerance.typical or 1.0) < 1e-4
    other = graph_model(LAST, one=np.float32(1.01))
    assert not cp.verify(net, cp.convert(other, to, precision="fp32", check=False))


@pytest.mark.thorough
def test_attention_of_a_module_proves_something_and_another_scale_is_a_fault() -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Attention(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, scale: float | None) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, q: Any, k: Any) -> Any:
            return torch.nn.functional.scaled_dot_product_attention(q, k, k, scale=self.scale)

    example = (torch.randn(2, 4, 8), torch.randn(2, 6, 8))
    source, other = (cp.Source(Attention(scale), example) for scale in (None, 0.36))
    found = cp.verify(source, cp.convert(source, "onnx", check=False))
    assert found.proves, found.summary()
    assert not cp.verify(source, cp.convert(other, "onnx", check=False))


def test_a_count_that_is_held_above_a_tiny_number_is_not_negative() -> None:
    net = graph_model(
        "net (float[2, 6, 4] x, float[2, 6] m) => (float[2, 4] y) { u = Unsqueeze(m, last)  p = Mul(x, u) "
        "s = ReduceSum<keepdims = 0>(p, one)  n = ReduceSum(m, one)  c = Max(n, eps)  y = Div(s, c) }",
        last=np.array([-1], np.int64),
        one=np.array([1], np.int64),
        eps=np.float32(1e-9),
    )
    assert np.asarray(random_feeds(net, net)[0]["m"]).min() >= 0
    made = cp.convert(net, "mlprogram", precision="fp16")
    assert cp.verify(net, made)
