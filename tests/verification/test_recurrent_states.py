"""The last states of a layer with steps end the same sums as its sequence, however large the numbers that it is fed."""

from __future__ import annotations

import pytest
import torch

import coreproof as cp


@pytest.mark.sweep(1)
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
@pytest.mark.parametrize(("length", "width"), [(6, 5), (120, 16)])
def test_last_states_are_no_false_alarm(kind: type[torch.nn.Module], length: int, width: int) -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(4, width)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            out, last = self.layer(x)
            return (out, *last) if isinstance(last, tuple) else (out, last)

    torch.manual_seed(1)
    source = cp.load((Layer().eval(), (torch.randn(length, 2, 4),)))
    assert cp.verify(source, cp.convert(source, "mlprogram", precision="fp32")).agrees


@pytest.mark.thorough
def test_a_wrong_last_state_is_found() -> None:
    class Layer(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.layer, self.factor = torch.nn.LSTM(4, 5), factor

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            out, (hidden, cell) = self.layer(x)
            return out, hidden, cell * self.factor

    torch.manual_seed(1)
    right = Layer(1.0).eval()
    wrong = Layer(1.001).eval()
    wrong.layer.load_state_dict(right.layer.state_dict())
    x = torch.randn(6, 2, 4)
    candidate = cp.convert(cp.load((wrong, (x,))), "mlprogram", precision="fp32")
    assert not cp.verify(cp.load((right, (x,))), candidate).agrees
