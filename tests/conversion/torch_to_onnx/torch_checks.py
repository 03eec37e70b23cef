"""Modules that check by PyTorch's own means, each on a line of its own, in a file whose asserts pytest does not rewrite."""

from __future__ import annotations

import torch


class Counted(torch.nn.Module):
    """Cuts as many as it is told, after it looked at that number."""

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        n = k.item()
        torch._check_is_size(n)
        most = n + 1
        torch._check(most <= 13, lambda: "too many")
        return x[:, :n].sum(-1)


class Sized(torch.nn.Module):
    """Looks at a number that nothing cuts by, and at lengths."""

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        n = k.item()
        torch._check_value(n <= 100)
        torch._check(x.shape[1] == 12)
        return x * n


class Held(torch.nn.Module):
    """Looks at a tensor, which no number is taken of."""

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        torch._assert_async((x.abs() < 100).all())
        return x * k


class Plain(torch.nn.Module):
    """Looks at lengths alone, which are no data."""

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        width = x.shape[1]
        torch._check(width == 12)
        torch._check(x.dim() == 2, lambda: "a batch of rows")
        return x * k


class Sure(torch.nn.Module):
    """Looks at each truth of a tensor, as models of transformers do where they are traced."""

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        torch._check_tensor_all(x.abs() < 100)
        return x * k
