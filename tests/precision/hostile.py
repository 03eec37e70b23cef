"""Small PyTorch networks that float16 breaks, each in a way that people have met, and one that it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn


@contextmanager
def careless() -> Iterator[None]:
    """Conversions as converters make them that do not ask what float16 can hold; ours keeps much of it from harm."""
    from coreproof.conversion.onnx_to_coreml.float16.half_range import HalfRange

    nothing = {"half_range": lambda _: HalfRange(), "raised": lambda array: array}
    with patch.multiple("coreproof.conversion.onnx_to_coreml.program", **nothing):
        yield


class Scaled(nn.Module):
    """Weights of one convolution times 1e5, those of the next divided by it: right in float32, infinite in between."""

    def __init__(self, factor: float = 1e5) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.large = nn.Conv2d(8, 8, 3, padding=1)
        self.small = nn.Conv2d(8, 8, 3, padding=1)
        self.after = nn.Conv2d(8, 4, 3, padding=1)
        with torch.no_grad():
            self.large.weight *= factor
            self.large.bias *= factor  # type: ignore[operator]
            self.small.weight /= factor

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.before(x))
        x = torch.relu(self.small(torch.relu(self.large(x))))
        return torch.as_tensor(self.after(x)).mean((2, 3))


class Variance(nn.Module):
    """x / sqrt(x^2 + 2e-8) written out: squares of small numbers and the epsilon both become zero in float16."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(16, 16)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.into(x) * 1e-4
        h = h * torch.rsqrt((h * h).mean(-1, keepdim=True) + 2e-8)
        return torch.as_tensor(self.out(h))


class Epsilon(nn.Module):
    """LayerNorm with epsilon 1e-12 over values whose variance is below float16's smallest number."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16, eps=1e-12)
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.out(self.norm(self.into(x) * 1e-4)))


class Masked(nn.Module):
    """Attention whose mask of -9e8 is made by arithmetic: -inf in float16, and NaN where a row may see nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(16, 16)
        self.key = nn.Linear(16, 16)
        self.value = nn.Linear(16, 16)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4.0
        mask = (seen[:, None, :] - 1.0) * 3e4 * 3e4
        return torch.softmax(scores + mask, -1) @ torch.as_tensor(self.value(x))


class LowestMask(Masked):
    """Attention whose mask is made with float32's lowest number: -inf in float16, and NaN times a mask of zero."""

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        low = torch.finfo(torch.float32).min
        causal = torch.triu(torch.full((x.shape[1], x.shape[1]), low), 1)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4.0
        return torch.softmax(scores + causal + (1.0 - seen[:, None, :]) * low, -1) @ torch.as_tensor(self.value(x))


class Squares(nn.Module):
    """A norm over unscaled pixels: the sum of their squares is beyond float16, its root is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x / torch.sqrt((x * x).sum((1, 2, 3), keepdim=True))
        return torch.as_tensor(self.conv(x * 50)).mean((2, 3))


class Healthy(nn.Module):
    """An ordinary network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 10), nn.Softmax(-1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.net(x))


def make(kind: Callable[[], nn.Module], seed: int = 0) -> Any:
    """The network with seeded weights, ready to be asked."""
    torch.manual_seed(seed)
    return kind().eval()
