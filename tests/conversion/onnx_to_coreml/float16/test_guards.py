"""Small numbers that guard a division whose denominator is computed with further: held against PyTorch with zero vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import coreproof as cp

torch = pytest.importorskip("torch", reason="needs the torch extra")


def sizes(x: Any) -> Any:
    return x.norm(dim=-1, keepdim=True)


def means(x: Any) -> Any:
    return x.abs().mean(-1, keepdim=True) + 1e-9


GUARDED: dict[str, Callable[[Any], Any]] = {
    "product of norms": lambda x: (x @ x.T) / ((sizes(x) + 1e-8) * (sizes(x).T + 1e-8)),
    "product by matmul": lambda x: (x @ x.T) / ((sizes(x) + 1e-8) @ (sizes(x) + 1e-8).T),
    "square": lambda x: x * 1e-3 / means(x * 1e-2) ** 2 * 1e-3,
    "two readers": lambda x: (lambda n: x / n + x * n.reciprocal())(means(x)),
    "one of two logarithmic": lambda x: (lambda n: torch.cat([x / n, torch.log(n)], -1))(means(x)),
    "sum": lambda x: (lambda n: x / (n + x.abs().sum(-1, keepdim=True)) + x * n.reciprocal())(means(x)),
    "choice": lambda x: (lambda n: x / torch.where(n > 2, n, n / 2) + x * (1 / n))(means(x)),
    "size of a sum": lambda x: torch.atan2(x, x.flip(0) + 1e-10),
}


@pytest.mark.sweep(3)
@pytest.mark.parametrize("name", GUARDED)
def test_a_guarded_denominator_that_is_computed_with_is_never_zero(name: str) -> None:
    class Guarded(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return GUARDED[name](x)

    torch.manual_seed(0)
    usual = torch.randn(4, 8)
    mixed = usual.clone()
    mixed[1], mixed[2], mixed[0, 0] = 0.0, 5.0, 0.0
    made = cp.convert(Guarded(), "mlprogram", precision="fp16", example=(usual,))
    with cp.session(made) as running:
        for x in (usual, torch.zeros(4, 8), torch.full((4, 8), 3.0), mixed):
            (got,) = running.run({"x": x.numpy()}).values()
            want = GUARDED[name](x).numpy()
            np.testing.assert_allclose(got, want, rtol=1e-2, atol=1e-2 * max(1e-3, np.abs(want).max()))
