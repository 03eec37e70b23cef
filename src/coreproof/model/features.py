"""What goes into a model and what comes out: names, kinds, dtypes, shapes, image layout, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Dimension: TypeAlias = int | str | None
"""A fixed length, a named symbolic length ("batch"), or None where the file does not say."""

Shape: TypeAlias = tuple[Dimension, ...]

Kind = Literal["tensor", "image", "dictionary", "sequence", "string", "int64", "double", "state"]
Colour = Literal["RGB", "BGR", "GRAY", "GRAY_FLOAT16"]


@dataclass(frozen=True)
class ImageLayout:
    """How a picture enters (or leaves) a model: its size in pixels and the order of its channels.

    The network sees [1, C, height, width] values 0-255 in this channel order; scale and bias that the
    model file itself stores are part of the network, not of the layout.
    """

    width: int
    height: int
    colour: Colour

    @property
    def channels(self) -> int:
        """3 for a colour picture, 1 for a grey one."""
        return 3 if self.colour in ("RGB", "BGR") else 1


@dataclass(frozen=True)
class ShapeRange:
    """The lengths that one dimension may take, both ends included; ``high`` None means unbounded."""

    low: int
    high: int | None

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{'' if self.high is None else self.high}"


_SHAPES_TOLD = 4
"""Shapes of a list that are named in a line: some models declare dozens."""


@dataclass(frozen=True)
class Feature:
    """One input or output of a model.

    ``dtype`` is a numpy dtype name ("float32", "float16", "int32", ...), None for kinds without one.
    ``holds`` says in words what an ONNX sequence or dictionary is ("sequence of dictionary of int64 to float32").
    ``enumerated`` and ``ranges`` are the flexible shapes that a Core ML file declares, empty otherwise.
    """

    name: str
    kind: Kind = "tensor"
    dtype: str | None = None
    shape: Shape | None = None
    image: ImageLayout | None = None
    optional: bool = False
    default: float | None = None
    enumerated: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[ShapeRange, ...] = ()
    description: str = ""
    holds: str = ""

    def __str__(self) -> str:
        default = "" if self.default is None else f" (default {self.default:g})"
        return f"{self._described()}, optional{default}" if self.optional else self._described()

    def _described(self) -> str:
        if self.image is not None:
            return f"{self.name}: {self.image.colour} image {self._sizes(self.image)}"
        if self.kind not in ("tensor", "state"):
            return f"{self.name}: {self.holds or self.kind}"
        shape = "?" if self.shape is None else "x".join("?" if d is None else str(d) for d in self.shape)
        if self.ranges:
            shape = "x".join(str(r) for r in self.ranges)
        elif len(self.enumerated) > 1:
            shape = _listed(self.enumerated)
        return f"{self.name}: {self.dtype or '?'}[{shape}]"

    def _sizes(self, image: ImageLayout) -> str:
        """Width by height of a picture, with all that is declared: files state height before width."""
        if self.ranges:
            return "x".join(str(r) for r in reversed(self.ranges))
        if len(self.enumerated) > 1:
            return _listed([size[::-1] for size in self.enumerated])
        return f"{image.width}x{image.height}"


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    options = ["x".join(map(str, option)) for option in shapes]
    more = len(options) - _SHAPES_TOLD
    return " or ".join(options if more < 2 else [*options[:_SHAPES_TOLD], f"{more} more"])


@dataclass(frozen=True)
class Signature:
    """All features of a model.

    ``labels`` holds the class labels in order, as a classifier stores them or a model's metadata notes them. Of
    classifiers, ``predicted_label`` is the output that carries the winning label, ``probabilities`` the output that
    carries label -> probability, and ``scores`` the inner value (a tensor of the network) that those two are made from.
    """

    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: tuple[Feature, ...] = ()
    labels: tuple[str, ...] | tuple[int, ...] | None = None
    predicted_label: str | None = None
    probabilities: str | None = None
    scores: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def input(self, name: str) -> Feature:
        """The input of that name; KeyError when there is none."""
        return _named("input", name, self.inputs)

    def output(self, name: str) -> Feature:
        """The output of that name; KeyError when there is none."""
        return _named("output", name, self.outputs)


def _named(kind: str, name: str, features: tuple[Feature, ...]) -> Feature:
    for feature in features:
        if feature.name == name:
            return feature
    raise KeyError(f"no {kind} {name!r}; there are {[f.name for f in features]}")
