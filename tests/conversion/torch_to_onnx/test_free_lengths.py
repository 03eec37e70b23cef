"""Operators along axes of free length: converted once, they are what PyTorch computes at each of several lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import coreproof as cp
from tests.conversion.torch_to_onnx.test_forms import Called

torch = pytest.importorskip("torch", reason="needs the torch extra")
functional = torch.nn.functional


def drawn(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def check(functions: Sequence[Callable[..., Any]], free: Sequence[Any], examples: Sequence[Any]) -> None:
    """All functions in one module: an export takes seconds."""
    module = Called(lambda x: tuple(made for f in functions for made in _listed(f(x)))).eval()
    model = cp.convert(
        cp.Source(module, (examples[0],)),
        "mlprogram",
        precision="fp32",
        shapes={"input_0": free},
        check=False,
    )
    (name,) = (f.name for f in model.signature.inputs)
    with cp.session(model) as running:
        for x in examples:
            found = [np.asarray(v) for v in running.run({name: x.numpy()}).values()]
            for number, (got, want) in enumerate(zip(found, module(x), strict=True)):
                said = f"result {number} at {tuple(x.shape)}"
                np.testing.assert_allclose(
                    got.reshape(want.shape), want.numpy(), rtol=1e-4, atol=1e-5, equal_nan=True, err_msg=said
                )


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, tuple) else [made]


def test_running_products_and_extrema() -> None:
    ties = drawn(1, 9, 4).round()
    check(
        [
            lambda x: x.cumprod(1),
            lambda x: torch.cummax(x, 1),
            lambda x: torch.cummin(x, 1),
            lambda x: torch.cummax(x.transpose(1, 2), -1),
        ],
        [1, (2, 16), 4],
        [drawn(1, 6, 4), ties, drawn(1, 2, 4)],
    )


def test_what_stands_in_the_middle() -> None:
    holes = drawn(1, 7, 4)
    holes[0, 2, 1] = holes[0, 5, 1] = holes[0, 0, 3] = torch.nan
    check(
        [
            torch.median,
            lambda x: torch.median(x, 1),
            lambda x: torch.nanmedian(x, 1)[0],
            lambda x: x.nan_to_num().round().mode(1)[0],
        ],
        [1, (2, 16), 4],
        [drawn(1, 6, 4), drawn(1, 11, 4), holes],
    )


@pytest.mark.sweep(1)
@pytest.mark.parametrize("free", ["batch", "size"])
def test_adaptive_pooling(free: str) -> None:
    check(
        [
            lambda x: functional.adaptive_avg_pool2d(x, (3, 2)),
            lambda x: functional.adaptive_avg_pool2d(x, (None, 1)),
            lambda x: functional.adaptive_avg_pool2d(x, 1),
            lambda x: functional.adaptive_max_pool2d(x, (3, 2), return_indices=True),
            lambda x: functional.adaptive_avg_pool1d(x[:, :, 0], 4),
        ],
        [(1, 4), 2, 7, 9] if free == "batch" else [1, 2, (3, 16), (3, 16)],
        [drawn(2, 2, 7, 9), drawn(1, 2, 7, 9).round()]
        if free == "batch"
        else [drawn(1, 2, 7, 9), drawn(1, 2, 12, 6), drawn(1, 2, 5, 4).round()],
    )
