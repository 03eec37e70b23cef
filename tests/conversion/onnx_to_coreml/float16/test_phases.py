"""Angles and remainders of large numbers in float16 programs: positions, times and phases are turned as PyTorch turns them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from coreproof.conversion.onnx_to_coreml.float16.half_range import half_range
from tests.build import onnx_model

torch = pytest.importorskip("torch", reason="needs the torch extra")

FREQUENCIES = torch.exp(-math.log(10000.0) * torch.arange(8) / 8)
DIRECTIONS = torch.linspace(-60, 60, 24).reshape(3, 8)


class Module(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, of: Callable[..., Any]) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Any) -> Any:
        return self.of(x)


def _steps(t: Any) -> Any:
    angles = t.float()[:, None] * FREQUENCIES
    return torch.cat([angles.sin(), angles.cos()], -1)


def _rotated(x: Any) -> Any:
    angles = torch.outer(torch.arange(x.shape[1]).float(), FREQUENCIES)
    return x * angles.cos() + torch.roll(x, 1, -1) * angles.sin()


def _rotated_by_products(x: Any) -> Any:
    angles = (FREQUENCIES[:, None] @ torch.arange(x.shape[1], dtype=torch.float32)[None]).T
    return x * torch.cat([angles, angles], -1)[:, :8].cos()


RAMP = torch.linspace(0, 1, 64)
FED: dict[str, tuple[Callable[..., Any], Any]] = {
    "steps of a diffusion": (_steps, torch.tensor([3.0, 997, 731, 512])),
    "steps that are integers": (_steps, torch.tensor([3, 997, 4097, 60001])),
    "directions": (lambda x: torch.sin(2 * math.pi * x @ DIRECTIONS), torch.rand(5, 3)),
    "octaves": (lambda x: torch.cat([torch.cos(x * 2.0**k * math.pi) for k in range(10)], -1), torch.rand(5, 3)),
    "remainder": (lambda x: torch.remainder(x * 1e3, 7.0), RAMP),
    "remainder of a negative one": (lambda x: torch.fmod(x * -1e5, 7.0), RAMP),
    "fraction": (lambda x: x * 1e3 - torch.floor(x * 1e3), RAMP),
    "fraction with its sign": (lambda x: (x * -1e3).frac(), RAMP),
    "phase": (lambda x: torch.sin(torch.cumsum(x * 2 * math.pi, 0)), torch.rand(400)),
    "phase within a turn": (lambda x: torch.remainder(torch.cumsum(x, 0), 1.0), torch.rand(400)),
}


@pytest.mark.sweep(4)
@pytest.mark.parametrize("case", FED)
def test_what_is_fed_is_turned_in_float32(case: str) -> None:
    then, x = FED[case]
    module = Module(then).eval()
    with cp.session(cp.convert((module, (x,)), "mlprogram", precision="fp16", check=False)) as running:
        [got] = running.run({"x": x.numpy()}).values()
    # a phase of 400 terms is added up in another order
    np.testing.assert_allclose(got, module(x).numpy(), atol=2e-3 if "phase" in case else 5e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("then", [_rotated, _rotated_by_products])
def test_positions_of_a_free_length_are_turned_in_float32(then: Callable[..., Any]) -> None:
    module = Module(then).eval()
    made = cp.convert(
        (module, (torch.ones(1, 64, 8),)),
        "mlprogram",
        precision="fp16",
        check=False,
        shapes={"x": ["1", "1..8192", "8"]},
    )
    x = torch.ones(1, 8192, 8)
    with cp.session(made) as running:
        [got] = running.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(got, module(x).numpy(), atol=2e-3)


HEAD = '<ir_version: 8, opset_import: ["": 17]> net'


@pytest.mark.parametrize(
    "text",
    [
        "h = MatMul(x, w) y = Sin(h)",
        "h = MatMul(x, w) s = Sin(h) p = Mul(s, s) y = Add(h, p)",
        "h = MatMul(x, w) f = Floor(h) y = Sub(h, f)",
        "y = Floor(x)",
        "f = Round(x) s = Sub(one, f) y = Mul(s, s)",
    ],
)
def test_what_a_layer_gives_stays_in_float16(text: str) -> None:
    weights = {"w": np.eye(8, dtype=np.float32), "one": np.float32(1)}
    used = {name: value for name, value in weights.items() if f" {name})" in text or f"({name}," in text}
    assert not half_range(onnx_model(f"{HEAD} (float[3,8] x) => (float[3,8] y) {{ {text} }}", **used).ir.graph).wide


@pytest.mark.thorough
def test_a_frequency_that_is_off_is_found_in_float16() -> None:
    """The fifth of eight, which is a hundredth of the first: beside that an error of 3% is small."""
    module = Module(_steps).eval()
    source = cp.load(cp.Source(module, (torch.tensor([3.0, 997]),)))
    assert cp.verify(source, cp.convert(source, "mlprogram", precision="fp16", check=False))
    wrong = FREQUENCIES * torch.where(torch.arange(8) == 4, 1.03, 1.0)

    def off(t: Any) -> Any:
        angles = t.float()[:, None] * wrong
        return torch.cat([angles.sin(), angles.cos()], -1)

    planted = cp.convert((Module(off).eval(), (torch.tensor([3.0, 997]),)), "mlprogram", precision="fp16", check=False)
    assert not cp.verify(source, planted)
