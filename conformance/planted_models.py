"""The healthy models that errors are planted in, each as ONNX, and what ``verify`` is given as their reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coreproof as cp
from conformance.recurrent import RECURRENT
from conformance.transformers import TRANSFORMERS
from coreproof.model.base import Model
from coreproof.model.onnx.model import OnnxModel


@dataclass(frozen=True)
class Healthy:
    """A model that errors are planted in, the reference, and the reference's names where they are others."""

    model: OnnxModel
    reference: Model
    names: dict[str, str]


def resnet50() -> OnnxModel:
    return cp.convert(cp.load("torchvision:resnet50?weights=random"), "onnx")


def transformer() -> OnnxModel:
    """An encoder like BERT's: 6 layers, 8 heads, 256 features, 128 tokens."""
    import torch
    from torch import nn

    class Encoder(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(1000, 256)
            self.places = nn.Parameter(0.1 * torch.randn(128, 256))
            layer = nn.TransformerEncoderLayer(256, 8, 1024, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
            self.head = nn.Linear(256, 10)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.layers(self.words(tokens) + self.places).mean(1))

    torch.manual_seed(0)
    return cp.convert(cp.load((Encoder().eval(), (torch.randint(0, 1000, (1, 128)),))), "onnx")


def unet() -> OnnxModel:
    """Three levels down and up with batch normalisation, transposed convolutions and concatenations."""
    import torch
    from torch import nn

    def double(into: int, out: int) -> Any:
        parts = [nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        return nn.Sequential(*parts, nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())

    class UNet(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            widths = (24, 48, 96, 192)
            self.down = nn.ModuleList(double(a, b) for a, b in zip((3, *widths), widths, strict=False))
            self.lift = nn.ModuleList(
                nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
            )
            self.up = nn.ModuleList(double(2 * a, a) for a in widths[-2::-1])
            self.last = nn.Conv2d(widths[0], 4, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for level in self.down[:-1]:
                kept.append(level(x))
                x = nn.functional.max_pool2d(kept[-1], 2)
            x = self.down[-1](x)
            for lift, level in zip(self.lift, self.up, strict=True):
                x = level(torch.cat([kept.pop(), lift(x)], 1))
            return self.last(x).softmax(1)

    torch.manual_seed(0)
    model = UNet()
    with torch.no_grad():
        for _ in range(8):
            model(torch.randn(2, 3, 192, 192))
    return cp.convert(cp.load((model.eval(), (torch.randn(1, 3, 192, 192),))), "onnx")


def small(name: str) -> Callable[[], OnnxModel]:
    """One of ``conformance.mutation_networks``, with statistics and weights from seed 0."""

    def make() -> OnnxModel:
        from conformance.mutation_networks import networks

        network = next(n for n in networks(0) if n.name == name)
        return cp.convert(cp.load((network.module, (network.example,))), "onnx")

    return make


def int8() -> OnnxModel:
    """A residual network in int8 (QDQ)."""
    from conformance.narrow import quantised

    return quantised(small("residual")())


def compressed_unet() -> Healthy:
    """The reference is coremltools' own ML Program of a U-Net with weights of 8 bits; errors go into what it becomes as ONNX."""
    from conformance.mutation_networks import networks
    from conformance.narrow import compressed

    network = next(n for n in networks(0) if n.name == "unet")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compressed.mlpackage"
        compressed(network.module, network.example, "linear").save(str(file))
        reference = cp.load(file)
        model = cp.convert(reference, "onnx")
    made = (value.name or "" for node in model.ir.graph for value in node.outputs)
    return Healthy(model, reference, {name: name.removesuffix("/carried") for name in made})


_OF_ONNX: dict[str, Callable[[], OnnxModel]] = {
    "resnet50": resnet50,
    "transformer": transformer,
    "unet": unet,
    **{name: small(name) for name in (*TRANSFORMERS, *RECURRENT)},
    "int8": int8,
}
MODELS = (*_OF_ONNX, "compressed")


def healthy(name: str) -> Healthy:
    """The model of that name."""
    if name == "compressed":
        return compressed_unet()
    model = _OF_ONNX[name]()
    return Healthy(model, model, {})
