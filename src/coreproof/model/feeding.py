"""Feeding: how a picture becomes what a model was trained to see; carried with the model, shown and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from coreproof.model.features import Colour


@dataclass(frozen=True)
class Feeding:
    """Geometry first, then numbers: ``value = (pixel * scale - mean) / std`` per channel, pixels 0-255.

    ``size`` is (width, height) of what the network sees. ``resize`` says how a picture gets there:

    - "squash": stretched to ``size``, whatever its proportions;
    - "crop": scaled until its shorter side is ``resize_to`` (``None``: until it just covers ``size``), then the
      centre is cut out.

    ``colour`` is the order of the channels; ``mean`` and ``std`` are given in that order.
    """

    size: tuple[int, int] = (224, 224)
    resize: Literal["squash", "crop"] = "crop"
    resize_to: int | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    colour: Colour = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def geometry(self) -> dict[str, Any]:
        """The part that decides which pixels are seen."""
        return {
            "size": self.size,
            "resize": self.resize,
            "resize_to": self.resize_to,
            "interpolation": self.interpolation,
        }

    def __str__(self) -> str:
        width, height = self.size
        how = "stretched" if self.resize == "squash" else f"shorter side {self.resize_to or 'fitted'}, centre crop"
        numbers = "pixels 0-255"
        if self.scale != 1.0 or any(self.mean) or any(s != 1.0 for s in self.std):
            numbers = f"(pixel*{self.scale:g} - {_list(self.mean)}) / {_list(self.std)}"
        return f"{self.colour} {width}x{height}, {how}, {self.interpolation}, {numbers}"


def _list(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"


TORCHVISION_FEEDING = Feeding(
    size=(224, 224), resize_to=256, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What torchvision's classifiers are trained on (torchvision, transforms of the weights' metadata)."""


@dataclass(frozen=True)
class Source:
    """What a ``module.path:callable`` may return to say more than the module alone does.

    ``module`` is a torch.nn.Module, ``example_inputs`` a tuple of tensors it can be called with.
    """

    module: Any
    example_inputs: tuple[Any, ...]
    feeding: Feeding | None = None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())
