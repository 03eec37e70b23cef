"""Buffers and arguments that are called as operators are: what the trace calls so is compared with itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Normalised(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3,), 5.0))
        self.register_buffer("std", torch.full((3,), 2.0))

    def forward(self, x: Any) -> Any:
        return (x.mean(0) - self.mean) / self.std + x.mean() * x.std(0) + x.std()


class Called(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([2.0, 3.0, 4.0]))
        self.register_buffer("mean", torch.full((3,), 5.0))

    def forward(self, x: Any, scale: Any, add: Any, *rest: Any) -> Any:
        return x * self.scale + scale + add.mean(0) * self.mean + (x + add) * rest[0].mean()


class Running(torch.nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Any) -> Any:
        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return x - self.mean


X = torch.linspace(-1, 2, 6).reshape(2, 3)
CASES = {
    "buffers": (Normalised, (X,)),
    "arguments": (Called, (X, X[0] + 1, X.flip(1), X[:, 1])),
    "buffers that change": (Running, (X,)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_name_is_given_to_one_value(name: str) -> None:
    kind, given = CASES[name]
    source = cp.load((kind().eval(), given))
    model = cp.convert(source, "mlprogram", precision="fp32")
    with cp.session(model) as running:
        state = running.state() if model.signature.states else None
        fed = {f.name: t.numpy() for f, t in zip(model.signature.inputs, given, strict=True)}
        (found,) = running.run(fed, state=state).values() if state else running.run(fed).values()
    near = 2e-3 if state else 1e-5  # a state is kept in float16
    np.testing.assert_allclose(found, kind()(*given).detach().numpy(), rtol=near, atol=near)
    verdict = cp.verify(source, model)
    assert verdict.agrees, verdict.summary()
