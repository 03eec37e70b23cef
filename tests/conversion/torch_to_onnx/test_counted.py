"""``arange``, ``linspace`` and ``logspace`` between known numbers: as many as PyTorch has, and each with all of its digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")


def _places(end: int, n: int) -> Any:
    return torch.linspace(0, end, n).long()


ENDS = ((0.0, 0.1), (0.0, 0.3), (-1.0, 0.2), (0.5, 0.05), (0.0, 0.7), (2.0, 1 / 3))
ROWS: dict[str, list[Callable[[], Any]]] = {
    # by float32, some of these end a step sooner or later
    "steps of a fraction": [
        partial(torch.arange, a, end, step)
        for a, step in ENDS
        for n in (1, 3, 7, 10, 33)
        for end in (a + step * n, round(a + step * n, 6))
    ],
    "steps downwards, and in other types": [
        lambda: torch.arange(9, 1, -1.5),
        lambda: torch.arange(3.5),
        lambda: torch.arange(0, 9, 2.5, dtype=torch.long),
        lambda: torch.arange(5, dtype=torch.float32),
        lambda: torch.arange(0, 1, 0.1, dtype=torch.float16).float(),
        lambda: torch.arange(0, 1, 0.1, dtype=torch.float64).float(),
        lambda: torch.arange(0, 4, dtype=torch.bfloat16).float(),
    ],
    "whole steps": [
        lambda: torch.arange(7),
        lambda: torch.arange(2, 9, 2),
        lambda: torch.arange(4, dtype=torch.int32).long(),
    ],
    "from end to end": [
        partial(torch.linspace, a, b, n)
        for a, b in ((0, 1), (-1, 1), (2.0, 6.0), (0.5, 7.5), (3, -2))
        for n in (1, 2, 7, 16, 33)
    ],
    # one place less where a number is a rounding below the whole one
    "places from end to end": [partial(_places, *given) for given in ((2, 15), (8, 15), (6, 43), (99, 8))],
    "from end to end, in other types": [
        lambda: torch.linspace(0, 9, 4, dtype=torch.long),
        lambda: torch.linspace(0, 1, 5, dtype=torch.float16).float(),
        lambda: torch.linspace(0, 1, 7, dtype=torch.float64).float(),
        lambda: torch.linspace(torch.tensor(1.0), 2, 5),
    ],
    "in equal ratios": [
        lambda: torch.logspace(0, 2, 9),
        lambda: torch.logspace(0, 5, 6, base=2.0),
        lambda: torch.logspace(-1, 1, 4, dtype=torch.float64).float(),
    ],
}


@pytest.mark.parametrize("kind", ROWS)
def test_each_row_is_the_one_that_pytorch_counts(kind: str) -> None:
    rows = ROWS[kind]

    def module(x: Any) -> list[Any]:
        return [x.to(row().dtype) + row() for row in rows]

    x = torch.zeros(1)
    source = cp.convert(cp.Source(Called(module).eval(), (x,)), "onnx", check=False)
    for model in (source, cp.convert(source, "mlprogram", precision="fp32", check=False)):
        with cp.session(model) as running:
            found = running.run({source.signature.inputs[0].name: x.numpy()})
        for got, want in zip(found.values(), module(x), strict=True):
            np.testing.assert_array_equal(got, want.numpy(), err_msg=model.format)


@pytest.mark.parametrize("window", ["hamming_window", "hann_window", "blackman_window"])
def test_a_window_is_the_one_that_pytorch_has(window: str) -> None:
    """ONNX's own Hamming window begins with 2 / 23, and PyTorch's with 0.08: a spectrum was off by a tenth."""

    def windowed(x: Any) -> Any:
        return torch.stft(x, 32, 16, window=getattr(torch, window)(32), center=False, return_complex=True).abs()

    x = torch.linspace(-3, 3, 128)[None].sin()
    source = cp.load(cp.Source(Called(windowed).eval(), (x,)))
    for to in ("onnx", "mlprogram"):
        model = cp.convert(source, to, **({} if to == "onnx" else {"precision": "fp32"}))
        with cp.session(model) as running:
            (found,) = running.run({source.signature.inputs[0].name: x.numpy()}).values()
        np.testing.assert_allclose(found, windowed(x).numpy(), rtol=1e-4, atol=1e-4)


def test_differences_of_equal_steps_agree() -> None:
    """What volumes are rendered by: the distances between samples along a ray, the last of them without end."""

    def rendered(x: Any) -> Any:
        places = torch.linspace(2.0, 6.0, 16)
        apart = torch.cat([places[1:] - places[:-1], torch.tensor([1e10])])
        return 1 - torch.exp(-torch.relu(x) * apart)

    source = cp.load(cp.Source(Called(rendered).eval(), (torch.zeros(5, 16) + 0.3,)))
    for precision in ("fp32", "fp16"):
        assert cp.verify(source, cp.convert(source, "mlprogram", precision=precision))
