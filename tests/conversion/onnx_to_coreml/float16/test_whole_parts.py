"""Whole parts of floats in float16 programs: what is beyond float16, or between its numbers, is computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.float16.half_range import half_range
from tests.build import onnx_model

torch = pytest.importorskip("torch", reason="needs the torch extra")

Forward = Callable[..., Any]
FED: dict[str, tuple[Forward, float]] = {
    "int64": (lambda net, x: (x * 1e3).long(), 300),
    "int32": (lambda net, x: (x * 1e3).int(), 300),
    "between float16's numbers": (lambda net, x: (x * 1000).int(), 4),
    "a time": (lambda net, x: x.int(), 1.7e9),
    "a time of day": (lambda net, x: (x / 60).long() % 60, 1.7e9),
    "sum": (lambda net, x: (x.sum(1) * 100).long(), 1000),
    "rounded": (lambda net, x: torch.round(x * 100).int(), 5000),
    "floor": (lambda net, x: torch.div(x, 60, rounding_mode="floor").long(), 1e6),
    "bytes": (lambda net, x: (x * 255).to(torch.uint8).int(), 1),
    "clamped": (lambda net, x: (x * 1e4).clamp(0, 50000).int(), 10),
    "exponential": (lambda net, x: torch.exp(x).long(), 20),
    "cumulative": (lambda net, x: torch.cumsum(x * 100, 1).long(), 1000),
    "joined": (lambda net, x: torch.cat([x * 1000, x], 1).int(), 100),
    "integers": (lambda net, x: (x.long().float() * 1.5).long(), 1e6),
    "behind a layer": (lambda net, x: (net(x) * 1e6).long() // 1000000, 1),
}
"""What is computed, and how large the numbers are that are fed."""


class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, then: Forward) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 4)
        self.then = then

    def forward(self, x: Any) -> Any:
        return self.then(self.linear, x)


def _drawn(seed: int, size: float) -> Any:
    return torch.rand(2, 4, generator=torch.Generator().manual_seed(seed)) * size


@pytest.mark.sweep(2)
@pytest.mark.parametrize("case", FED)
def test_a_whole_part_in_float16_is_the_one_that_pytorch_takes(case: str) -> None:
    then, size = FED[case]
    module = Net(then).eval()
    with cp.session(cp.convert((module, (_drawn(0, size),)), "mlprogram", precision="fp16", check=False)) as running:
        for seed in range(1, 5):
            x = _drawn(seed, size)
            with torch.no_grad():
                wanted = module(x).numpy()
            [got] = running.run({"x": x.numpy()}).values()
            np.testing.assert_array_equal(got, wanted)


def test_integers_that_are_fed_are_divided_and_floored_in_float32() -> None:
    module = Floored().eval()
    example = torch.tensor([[160, 320]])
    with cp.session(cp.convert((module, (example,)), "mlprogram", precision="fp16", check=False)) as running:
        for n in ([[100001, 65599]], [[2400, 999999]]):
            [got] = running.run({"n": np.array(n, np.int32)}).values()
            np.testing.assert_array_equal(got, module(torch.tensor(n)).numpy())


class Floored(torch.nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, n: Any) -> Any:
        return (n / 3).floor().int() + torch.div(n, 160, rounding_mode="floor")


HEAD = '<ir_version: 8, opset_import: ["": 17]> net'


@pytest.mark.parametrize(
    "text",
    [
        "h = MatMul(x, w) s = Sigmoid(h) m = Mul(s, hundred) y = Cast<to=7>(m)",
        "h = MatMul(x, w) m = Mul(h, hundred) t = Tanh(m) y = Cast<to=7>(t)",
        "h = MatMul(x, w) m = Mul(h, hundred) t = Clip(m, hundred, hundred) y = Cast<to=7>(t)",
        "h = MatMul(x, w) f = Floor(h) y = Cast<to=7>(f)",
        "s = Shape(x) f = Cast<to=1>(s) m = Mul(f, hundred) l = Log(m) y = Cast<to=7>(l)",
        "h = MatMul(x, w) g = Greater(h, hundred) y = Cast<to=7>(g)",
    ],
)
def test_what_stays_small_stays_in_float16(text: str) -> None:
    weights = {"w": np.eye(4, dtype=np.float32), "hundred": np.float32(100)}
    used = {name: value for name, value in weights.items() if name in text}
    model = onnx_model(f"{HEAD} (float[3,4] x) => (int64[a,b] y) {{ {text} }}", **used)
    assert not half_range(model.ir.graph).wide
