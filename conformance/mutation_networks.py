"""Small healthy networks for planted mutations: one of each kind that people convert, seeded, with real statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conformance.recurrent import RECURRENT
from conformance.transformers import TRANSFORMERS

LABELS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """A PyTorch module, one example input, and how it is carried to Core ML ("picture": with mean and std, and labels)."""

    name: str
    module: Any
    example: Any
    picture: bool = False
    labels: bool = False


def _settle(module: Any, *shape: int) -> Any:
    """Gives batch normalisations statistics, and every parameter of one dimension a value other than its default."""
    import torch

    with torch.no_grad():
        for _ in range(6):
            module(torch.randn(4, *shape))
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def _cnn() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1),
        nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AvgPool2d(3, 2, 1),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10), nn.Softmax(1),
    )  # fmt: skip


def _residual() -> Any:
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.one, self.two = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
            self.norm = nn.BatchNorm2d(width)

        def forward(self, x: Any) -> Any:
            return (x + self.two(self.norm(self.one(x)).relu())).relu()

    return nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.MaxPool2d(3, 2, 1), Block(12), Block(12),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10),
    )  # fmt: skip


def _mlp() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.ELU(0.7), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def _transformer() -> Any:
    from torch import nn

    class Encoder(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.normal = nn.ModuleList(nn.LayerNorm(32) for _ in range(3))
            self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
            self.wide, self.narrow, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            y = self.normal[0](x)
            q, k, v = (f(y).view(-1, 16, 4, 8).transpose(1, 2) for f in (self.query, self.key, self.value))
            y = ((q @ k.transpose(2, 3)) * 8**-0.5).softmax(-1) @ v
            x = x + self.out(y.transpose(1, 2).reshape(-1, 16, 32))
            x = x + self.narrow(nn.functional.gelu(self.wide(self.normal[1](x))))
            return self.head(self.normal[2](x).mean(1))

    return Encoder()


def _unet() -> Any:
    import torch
    from torch import nn

    class UNet(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.ReLU())
            self.lift = nn.ConvTranspose2d(16, 8, 2, 2)
            self.last = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

        def forward(self, x: Any) -> Any:
            kept = self.down(x)
            lifted = self.lift(self.deep(nn.functional.max_pool2d(kept, 2)))
            return self.last(torch.cat([kept, lifted], 1)).softmax(1)

    return UNet()


def _depthwise() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Hardswish(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.BatchNorm2d(16), nn.ReLU6(), nn.Conv2d(16, 16, 1, groups=4), nn.SiLU(),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.GroupNorm(4, 16), nn.Flatten(2), nn.Conv1d(16, 8, 3, padding=1), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(8, 10),
    )  # fmt: skip


_MAKERS: dict[str, tuple[Callable[[], Any], tuple[int, ...], bool, bool]] = {
    "cnn": (_cnn, (3, 24, 24), False, False),
    "labelled": (_cnn, (3, 24, 24), False, True),
    "residual": (_residual, (3, 32, 32), False, False),
    "mlp": (_mlp, (32,), False, False),
    "transformer": (_transformer, (16, 32), False, False),
    "unet": (_unet, (3, 24, 24), False, False),
    "depthwise": (_depthwise, (3, 24, 24), False, False),
    "picture": (_cnn, (3, 24, 24), True, True),
    **{name: (maker, shape, False, False) for name, (maker, shape) in {**TRANSFORMERS, **RECURRENT}.items()},
}


def networks(seed: int) -> list[Network]:
    """All networks, with weights drawn from the seed."""
    import torch

    made = []
    for name, (maker, shape, picture, labels) in _MAKERS.items():
        torch.manual_seed(seed)
        made.append(Network(name, _settle(maker(), *shape), torch.randn(1, *shape), picture, labels))
    return made
