"""What PyTorch's own code asks its data before it computes: while PyTorch traces, the numbers are computed and nothing is asked.

A covariance asks whether its weights are negative, combinations are picked by a mask that counts, the Gaussian loss raises for
a negative variance, a distribution for a sample that is none of its own, a transformer asks whether its mask is causal: each is
an answer that data gives, at which a trace ends. What is computed does not hang on it. A pool over one axis compares lengths,
which holds a free one fixed; the one over two axes, which it is, does not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from coreproof.model.torch.mask_hints import masks_as_given
from coreproof.model.torch.stand_ins import computed_by

if TYPE_CHECKING:
    import torch


@contextmanager
def computed_unasked() -> Iterator[None]:
    """Within it, these operators and functions ask nothing of the numbers that they are given."""
    import torch
    from torch.nn import functional

    aten = torch.ops.aten
    stand_ins: dict[Any, Callable[..., torch.Tensor]] = {
        aten.cov.default: covariance,
        aten.corrcoef.default: correlation,
        aten.vander.default: powers,
        aten.max_pool1d.default: pooled,
        aten.take_along_dim.default: taken_along,
    }
    with (
        computed_by(stand_ins, [torch._C.DispatchKey.CompositeImplicitAutograd]),
        masks_as_given(),
        patch.object(functional, "gaussian_nll_loss", gaussian_loss),
        patch.object(torch, "combinations", combinations),
        patch.object(torch.distributions.Distribution, "_validate_args", False),
        patch.object(torch.distributions.Distribution, "_validate_sample", _nothing),
    ):
        yield


def _nothing(*_: object) -> None:
    """Where a distribution asks whether a sample is one of its own."""


def covariance(
    x: torch.Tensor,
    *,
    correction: int = 1,
    fweights: torch.Tensor | None = None,
    aweights: torch.Tensor | None = None,
) -> torch.Tensor:
    """[variables, observations] -> [variables, variables] (PyTorch's Correlation.cpp, without what it checks)."""
    rows = x.reshape(1, -1) if x.dim() < 2 else x
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None:
        total: Any = rows.shape[1]
        mean = rows.sum(1) / total
        parts: Any = max(total - correction, 0) if isinstance(total, int) else _at_least_none(rows, total - correction)
    else:
        total = weights.sum()
        mean = (rows * weights).sum(1) / total
        lost = correction if aweights is None else correction * (weights * aweights).sum() / total
        parts = (total - lost).clamp(min=0)
    apart = rows - mean.unsqueeze(1)
    weighted = apart if weights is None else apart * weights
    return (apart @ weighted.t().conj() / parts).squeeze()


def _at_least_none(like: torch.Tensor, count: torch.SymInt) -> torch.Tensor:
    """A number that follows from a free length, as a tensor: of one observation it is none."""
    import torch

    return torch.scalar_tensor(count, dtype=like.dtype).clamp(min=0)


def correlation(x: torch.Tensor) -> torch.Tensor:
    """The covariance over both standard deviations."""
    made = covariance(x)
    if made.dim() == 0:
        return made / made
    deviations = made.diagonal().sqrt()
    return (made / deviations.unsqueeze(1) / deviations.unsqueeze(0)).clamp(-1, 1)


def combinations(x: torch.Tensor, r: int = 2, with_replacement: bool = False) -> torch.Tensor:
    """The rows of ``itertools``, in its order."""
    import torch

    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(int(x.shape[0])), r))
    return x[torch.tensor(rows, dtype=torch.long).reshape(len(rows), r)]


def powers(x: torch.Tensor, N: int | None = None, increasing: bool = False) -> torch.Tensor:
    """[numbers] -> [numbers, N]: the largest power first, or the smallest."""
    import torch

    count = int(x.shape[0]) if N is None else N
    # multiplied up one by one, as PyTorch does
    made = [torch.ones_like(x)]
    for _ in range(count - 1):
        made.append(made[-1] * x)
    return torch.stack(made[:count] if increasing else made[:count][::-1], 1) if count else x.new_empty((x.shape[0], 0))


def taken_along(x: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> torch.Tensor:
    """What stands at these places of an axis, or of all; the other axes broadcast."""
    if dim is None:
        return x.reshape(-1).gather(0, indices.reshape(-1))
    along = dim % x.dim()
    shape = [b if isinstance(a, int) and a == 1 else a for a, b in zip(x.shape, indices.shape, strict=True)]
    others = (
        [*shape[:along], x.shape[along], *shape[along + 1 :]],
        [
            *shape[:along],
            indices.shape[along],
            *shape[along + 1 :],
        ],
    )
    return x.expand(others[0]).gather(along, indices.expand(others[1]))


def pooled(
    x: torch.Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> torch.Tensor:
    """[..., channels, length] -> the largest of each window, as a plane that is one high."""
    import torch

    along = stride or kernel_size
    plane = torch.max_pool2d(
        x.unsqueeze(-2), (1, *kernel_size), (1, *along), (0, *padding), (1, *dilation), ceil_mode=ceil_mode
    )
    return plane.squeeze(-2)


def gaussian_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: torch.Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> torch.Tensor:
    """As ``torch.nn.functional`` has it, without its check of the variance."""
    import torch

    spread = var if isinstance(var, torch.Tensor) else float(var) * input.new_ones(input.shape)
    if spread.shape != input.shape and input.shape[:-1] == spread.shape:
        spread = spread.unsqueeze(-1)
    held = spread.clamp(min=eps)
    loss = 0.5 * (held.log() + (input - target) ** 2 / held)
    loss = loss + 0.5 * math.log(2 * math.pi) if full else loss
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss
