"""Values read between neighbours at places that are fed: each engine computes the places from them, and rounds them."""

from __future__ import annotations

from typing import Any

import pytest

from coreproof.conversion.convert import convert
from coreproof.model.load import load
from coreproof.verification.verify import verify

torch = pytest.importorskip("torch", reason="needs the torch extra")


class Sampled(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Any, grid: Any) -> Any:
        return torch.grid_sampler_2d(x, grid + self.shift, 0, 0, False)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("width", [20, 160])
def test_a_rounded_place_is_no_divergence_and_a_shifted_one_is(width: int) -> None:
    torch.manual_seed(0)
    example = torch.randn(2, 3, 5, width), torch.rand(2, 13, 10, 2) * 4 - 2
    made = convert(load((Sampled(), example)), "mlprogram", precision="fp32")
    fed = {"x": example[0].numpy(), "grid": example[1].numpy()}
    assert verify(load((Sampled(), example)), made, fed)
    # by a hundredth of a pixel
    assert not verify(load((Sampled(0.02 / width), example)), made, fed)
