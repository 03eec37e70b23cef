"""Free lengths that are cut into parts: as PyTorch cuts them, at every length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import coreproof as cp
from coreproof.errors import ConversionError

Cut = Callable[[Any], Any]


def ends(parts: Any) -> Any:
    """What shows where each part begins and ends."""
    return torch.stack([part.sum(1) * (k + 1) - part.amax(1) for k, part in enumerate(parts)], 1)


CUTS: dict[str, Cut] = {
    "chunk": lambda x: ends(x.chunk(2, 1)),
    "torch.chunk by names": lambda x: ends(torch.chunk(input=x, chunks=3, dim=-2)),
    "tensor_split": lambda x: ends(x.tensor_split(4, dim=1)),
    "torch.tensor_split": lambda x: ends(torch.tensor_split(x, 3, 1)),
    "split by half": lambda x: ends(x.split((x.shape[1] + 1) // 2, 1)),
    "torch.split by a third": lambda x: ends(torch.split(x, split_size_or_sections=(x.shape[1] + 2) // 3, dim=1)),
    "split by lengths": lambda x: ends(x.split([x.shape[1] - 2, 2], 1)),
    "chunk of what is fixed": lambda x: x.chunk(2, 2)[1],
}
SLOW = (
    "torch.chunk by names",
    "torch.tensor_split",
    "torch.split by a third",
    "split by lengths",
    "chunk of what is fixed",
)


class Cutting(torch.nn.Module):
    def __init__(self, cut: Cut) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(8, 8)
        self.cut = cut

    def forward(self, x: Any) -> Any:
        return self.cut(self.layer(x))


def converted(cut: Cut, least: int) -> Any:
    module = Cutting(cut).eval()
    example = {"x": torch.randn(1, 12, 8)}
    return module, cp.convert(module, example=example, shapes={"x": [1, (least, 32), 8]}, precision="fp32")


@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.thorough) if how in SLOW else how for how in CUTS])
def test_every_length_is_cut_as_pytorch_cuts_it(how: str) -> None:
    module, made = converted(CUTS[how], 5)
    with cp.session(made) as running:
        for length in (5, 6, 7, 8, 12, 13, 31, 32):
            x = torch.randn(1, length, 8)
            with torch.no_grad():
                expected = module(x).numpy()
            (found,) = running.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5, err_msg=str(length))


@pytest.mark.parametrize(
    ("cut", "least"),
    [
        # 4 is cut into two chunks, 9 into three
        pytest.param(lambda x: ends(x.chunk(3, 1)), 4, id="three chunks from 4 on"),
        pytest.param(lambda x: ends(x.split(x.shape[1] // 2, 1)), 5, id="an odd length leaves one over"),
    ],
)
@pytest.mark.thorough
def test_what_is_cut_into_another_number_of_parts_is_refused(cut: Cut, least: int) -> None:
    with pytest.raises(ConversionError):
        converted(cut, least)
