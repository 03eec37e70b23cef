"""The networks that are measured, and their ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

DEPTHS = (6, 12, 24, 48)
WIDTH, TOKENS, HEADS = 128, 64, 4


class Block(nn.Module):
    """One pre-norm transformer layer, written out: every converter sees plain matmul, softmax and layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm_attention(x)
        query, key, value = (self.heads(layer(y)) for layer in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(2, 3)) * (WIDTH // HEADS) ** -0.5
        seen = torch.matmul(torch.softmax(scores, dim=-1), value)
        x = x + self.out(seen.transpose(1, 2).reshape(1, TOKENS, WIDTH))
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm_mlp(x))))

    @staticmethod
    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, TOKENS, HEADS, WIDTH // HEADS).transpose(1, 2)


def transformer(depth: int) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(depth))).eval(), (torch.randn(1, TOKENS, WIDTH),)


def resnet50() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    from coreproof.model.load import load

    torch.manual_seed(0)
    model: Any = load("torchvision:resnet50?weights=random")
    return model.module, model.example_inputs


def swin_t() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    from coreproof.model.load import load

    torch.manual_seed(0)
    model: Any = load("torchvision:swin_t?weights=random")
    return model.module, model.example_inputs


def efficientnet_lite0() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    from examples.efficientnet_lite0 import model

    source = model()
    return source.module, tuple(source.example_inputs)


def tiny() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Converted once before the clock starts, so that what a tool imports late is paid for."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), (torch.randn(1, 3, 16, 16),)


def _of_depth(depth: int) -> Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]:
    return lambda: transformer(depth)


MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[torch.Tensor, ...]]]] = {
    "tiny": tiny,
    "resnet50": resnet50,
    "swin_t": swin_t,
    "efficientnet-lite0": efficientnet_lite0,
    **{f"transformer-{depth}": _of_depth(depth) for depth in DEPTHS},
}


def onnx_file(name: str, folder: Path) -> Path:
    """The model as one ONNX file that every converter is given; made once."""
    path = folder / f"{name}.onnx"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        module, inputs = MODELS[name]()
        fresh = path.with_suffix(".fresh")
        torch.onnx.export(module, inputs, str(fresh), dynamo=True, external_data=False, verbose=False)
        fresh.replace(path)
    return path
