"""Interface: the inputs, outputs and labels of a model that is open for edits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from coreproof.errors import EditError


class DeclaredFeature(Protocol):
    """A declared feature of any format."""

    @property
    def name(self) -> str:
        """What it is called."""


def place_of(features: Sequence[DeclaredFeature], name: str, role: str, where: str) -> int:
    """The place of the feature of that name; EditError that lists those that there are."""
    names = [feature.name for feature in features]
    if name not in names:
        raise EditError(f"there is no {role} {name!r}", where=where, expected=", ".join(names), found=name)
    return names.index(name)


@dataclass(frozen=True)
class Retyped:
    """What a feature is to be; what is None stays as it is.

    ``kind`` is "image" or "tensor", ``dtype`` that of a tensor ("float16", ...). An image input is multiplied by ``scale``, then
    ``bias`` is added, one number a channel in the order ``colour`` ("RGB", "BGR", "GRAY"); under another colour alone each
    channel of the network keeps its numbers.
    """

    kind: str | None = None
    colour: str | None = None
    scale: float | None = None
    bias: Sequence[float] | float | None = None
    dtype: str | None = None

    @property
    def preprocesses(self) -> bool:
        """Whether a scale or a bias is asked for."""
        return self.scale is not None or self.bias is not None


@dataclass(frozen=True)
class Reshaped:
    """The shape that an input is to have, a list of shapes, or a range (low, high; -1: no end) for each length.

    Of a picture, shapes are [height, width]. With several, or with ranges, ``shape`` is the one that counts when nothing is said.
    """

    shape: Sequence[int] | None = None
    enumerated: Sequence[Sequence[int]] = ()
    ranges: Sequence[Sequence[int]] = ()


class Interface(ABC):
    """What an open model declares. A change raises EditError for what does not fit, and leaves the model as it was then."""

    @abstractmethod
    def set_output(self, value: str, instead_of: str | None = None) -> None:
        """Declares ``value`` as an output (a multi-array, its type inferred), new or in the place of another one."""

    @abstractmethod
    def drop_output(self, name: str) -> None:
        """Takes an output away."""

    @abstractmethod
    def set_input(self, value: str, shape: Sequence[int], dtype: str) -> None:
        """Declares ``value`` as an input, fed from outside from now on."""

    @abstractmethod
    def retype(self, feature: str, to: Retyped) -> None:
        """Makes a feature an image or a tensor (a multi-array), or gives it another dtype.

        An input that becomes a multi-array is fed what the network saw behind the picture's scale and bias.
        """

    @abstractmethod
    def reshape(self, feature: str, to: Reshaped) -> None:
        """Gives an input another shape. Declared outputs follow, as far as their shapes can be told."""

    @abstractmethod
    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        """Gives a classifier other labels, one a score; EditError for another number of them, or a model without labels."""
