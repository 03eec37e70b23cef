"""Feeding: how a picture becomes what a model was trained to see; carried with the model, shown and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal, get_args

from coreproof.errors import InputError
from coreproof.model.arguments import of_kind, one_of, texts
from coreproof.model.features import Colour

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Feeding:
    """Geometry first, then numbers: ``value = (pixel * scale - mean) / std`` per channel, pixels 0-255.

    ``size`` is (width, height) of what the network sees. ``resize`` says how a picture gets there:

    - "squash": stretched to ``size``, whatever its proportions;
    - "crop": scaled until its shorter side is ``resize_to`` (``None``: until it just covers ``size``), then the
      centre is cut out.

    ``colour`` is the order of the channels; ``mean`` and ``std`` are given in that order.

    Example:
        >>> cp.Feeding(size=(320, 240), scale=1 / 255).size
        (320, 240)

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

    def __post_init__(self) -> None:
        """Raises InputError for a value outside its list, a size of no pixels, numbers that do not fit the channels."""
        size = self.size
        if not isinstance(size, tuple | list) or len(size) != 2 or not all(_is_count(side) for side in size):
            found = f"{len(size)} numbers: {size}" if isinstance(size, tuple | list) else f"{size!r}"
            raise InputError("a feeding's size is a width and a height", expected="2 numbers above zero", found=found)
        if self.resize_to is not None and not _is_count(self.resize_to):
            raise InputError("a feeding's resize_to is a number of pixels", found=f"{self.resize_to!r}")
        one_of(self.resize, ("squash", "crop"), "a feeding's resize")
        one_of(self.interpolation, ("nearest", "bilinear", "bicubic", "lanczos"), "a feeding's interpolation")
        one_of(self.colour, get_args(Colour), "a feeding's colour")
        one_of(self.layout, ("NCHW", "NHWC"), "a feeding's layout")
        check_numbers("a feeding's", self.colour, scale=self.scale, mean=self.mean, std=self.std)

    @property
    def geometry(self) -> dict[str, object]:
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


def check_numbers(whose: str, colour: str, *, scale: object, mean: object, std: object) -> None:
    """Raises InputError where what is done to the pixels of ``colour`` makes no sense; ``whose``: "a feeding's", "--".

    ``mean`` and ``std`` have one number, or one a channel; ``std`` divides, so none of it is 0.
    """
    told = whose if whose.endswith("-") else f"{whose} "
    # every kind of grey has one channel
    channels = 1 if colour.startswith("GRAY") else 3
    listed: dict[str, Sequence[object]] = {"scale": (scale,)}
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, tuple | list) or len(values) not in (1, channels):
            found = f"{len(values)} numbers: {_short(values)}" if isinstance(values, tuple | list) else f"{values!r}"
            raise InputError(
                f"{told}{name} does not fit the {channels} channel(s) of {colour}",
                expected="1 number" if channels == 1 else f"1 number, or {channels}, one a channel",
                found=found,
            )
        listed[name] = values
    for name, values in listed.items():
        wrong = [v for v in values if isinstance(v, bool) or not isinstance(v, Real) or not math.isfinite(v)]
        if wrong:
            raise InputError(f"{told}{name} takes numbers", expected="finite numbers", found=_short(wrong))
    if any(v == 0 for v in listed["std"]):
        raise InputError(f"{told}std divides: none of it can be 0", found=_short(listed["std"]))


def _is_count(value: object) -> bool:
    # NumPy's whole numbers count; true and false, which Python takes for such, do not
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 < int(value) < 2**24


def _short(values: Sequence[object]) -> str:
    shown = ", ".join(map(str, values[:6]))
    return f"{shown}, ..." if len(values) > 6 else shown


def _list(values: tuple[float, ...]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"


TORCHVISION_FEEDING = Feeding(
    size=(224, 224), resize_to=256, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What torchvision's classifiers are trained on (torchvision, transforms of the weights' metadata)."""


@dataclass(frozen=True)
class Source:
    """What a ``module.path:callable`` may return to say more than the module alone does.

    ``module`` is a torch.nn.Module, ``example_inputs`` what it can be called with: a tuple of arguments, or a dictionary of
    them by their names. Each is a tensor, or holds tensors in tuples, lists and dictionaries; each tensor becomes an input.
    ``untrained``: its weights are random, so that what it answers over photos means nothing; the verdict says so.

    Example:
        >>> import torch
        >>> source = cp.Source(torch.nn.ReLU(), (torch.zeros(1, 3, 8, 8),))
        >>> len(cp.load(source).signature.inputs)
        1

    """

    module: torch.nn.Module
    example_inputs: tuple[object, ...] | Mapping[str, object]
    feeding: Feeding | None = None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())
    untrained: bool = False

    def __post_init__(self) -> None:
        """Raises InputError for labels that are one text, which has as many letters as a model may have classes."""
        if self.labels is not None:
            object.__setattr__(self, "labels", texts(self.labels, "labels"))
        of_kind(self.feeding, Feeding, "feeding")
