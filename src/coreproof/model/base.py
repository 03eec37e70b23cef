"""Model: what every verb takes and gives back, whatever format it is stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from coreproof.model.features import Signature
from coreproof.model.graph import Graph
from coreproof.model.shown import Shown

Format = Literal["torch", "onnx", "mlprogram", "neuralnetwork", "pipeline", "classic", "recording"]


class Model(Shown, ABC):
    """A loaded model: its name, its format, its features, and a read view of its graph.

    ``path`` is the file or package that it was read from, None for a model that was made in memory and not saved yet.
    ``notes`` are things a reader of a report should know about how this model came to be.
    """

    format: Format

    def __init__(self, name: str, path: Path | None = None, notes: tuple[str, ...] = ()) -> None:
        self.name = name
        self.path = path
        self.notes = notes

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """Inputs, outputs and labels."""

    @property
    @abstractmethod
    def graph(self) -> Graph:
        """The layers, as stored."""

    @abstractmethod
    def save(self, path: str | Path) -> Path:
        """Writes the model, whole or not at all; returns the path. Replaces what stands there."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} ({self.format}{'' if self.path is None else f', {self.path}'})>"
