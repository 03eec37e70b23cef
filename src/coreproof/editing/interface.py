"""Interface: the inputs, outputs and labels of a model that is open for edits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


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
    def drop_input(self, name: str) -> None:
        """Takes an input away."""

    @abstractmethod
    def retype(
        self,
        feature: str,
        kind: str | None = None,
        *,
        colour: str | None = None,
        scale: float | None = None,
        bias: Sequence[float] | float | None = None,
        dtype: str | None = None,
    ) -> None:
        """Makes a feature an "image" or a "tensor" (a multi-array), or gives it another ``dtype`` ("float16", ...).

        An image input is multiplied by ``scale``, then ``bias`` is added, one number a channel in the order ``colour`` ("RGB",
        "BGR", "GRAY"); what is not said stays: under another colour alone each channel of the network keeps its numbers. An
        input that becomes a multi-array is fed what the network saw behind them.
        """

    @abstractmethod
    def reshape(
        self,
        feature: str,
        shape: Sequence[int] | None = None,
        *,
        enumerated: Sequence[Sequence[int]] = (),
        ranges: Sequence[Sequence[int]] = (),
    ) -> None:
        """Gives an input another shape, a list of shapes, or a range (low, high; -1: no end) for each length.

        Of a picture, the shape is [height, width]. Declared outputs follow, as far as their shapes can be told.
        """

    @abstractmethod
    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        """Gives a classifier other labels, one a score; EditError for another number of them, or a model without labels."""
