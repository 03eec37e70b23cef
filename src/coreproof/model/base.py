"""Model: what every verb takes and gives back, whatever format it is stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from coreproof.errors import ConversionError
from coreproof.model.features import Signature
from coreproof.model.feeding import Feeding
from coreproof.model.files.atomic import replacing_together
from coreproof.model.files.outputs import Kind, check_output
from coreproof.model.graph import Graph
from coreproof.model.notebook_view import NotebookView

Format = Literal["torch", "onnx", "mlprogram", "neuralnetwork", "pipeline", "classic", "coreai", "recording"]

SIGN = "#"
"""Between a model and the name of its function, wherever a model is named: ``llm.mlpackage#decode``."""


class Model(NotebookView, ABC):
    """A loaded model: its name, its format, its features, and a read view of its graph.

    ``path`` is the file or package that it was read from, None for a model that was made in memory and not saved yet.
    ``notes`` are things a reader of a report should know about how this model came to be. ``untrained``: the weights are random
    ones, as far as is known, so that what the model says of a picture means nothing. ``feeding`` is how pictures become what it
    takes, ``labels`` are what its source calls its classes, where the file itself has no place for them. ``provenance`` maps its
    values to those of the model that it was converted from, where known, and ``made_from`` are the outlines of the graphs whose
    values these are (``Graph.outline``; empty: not known). ``remembers`` are the inputs that bring what was
    remembered, each with the output that holds it after a run, where the model is known to be one step of several.
    """

    format: Format
    untrained: bool = False
    feeding: Feeding | None = None
    labels: tuple[str, ...] | tuple[int, ...] | None = None
    provenance: Mapping[str, str] = MappingProxyType({})
    made_from: frozenset[str] = frozenset()
    remembers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, name: str, path: Path | None = None, notes: tuple[str, ...] = ()) -> None:
        self.name = name
        self.path = path
        self.notes = notes

    def take_provenance(self, other: Model) -> None:
        """Takes over what is known of an ``other``, whose values these are, and of which graphs that was noted.

        Never one without the other: believed of any graph, provenance would pair values that are only called alike.
        """
        self.provenance, self.made_from = other.provenance, other.made_from

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """Inputs, outputs and labels."""

    @property
    @abstractmethod
    def graph(self) -> Graph:
        """The layers, as stored."""

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions of a model that has several, its default one first; none for any other."""
        return ()

    @property
    def at_a_function(self) -> bool:
        """Whether every verb is to work on one function that somebody named."""
        return False

    def at_function(self, name: str) -> Model:
        """The model with this function as the one that every verb works on.

        Raises ConversionError where it has none of that name, or none that could be chosen.
        """
        raise ConversionError(
            "a function can be chosen of an ML Program and of a Core AI model",
            where=self.name,
            found=f"{name!r} of a model of format {self.format}",
        )

    @property
    def is_torch(self) -> bool:
        """Whether it is a PyTorch module."""
        return self.format == "torch"

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX graph."""
        return self.format == "onnx"

    @property
    def is_source(self) -> bool:
        """Whether it is what a conversion to Core ML begins with."""
        return self.is_torch or self.is_onnx

    @property
    def is_network(self) -> bool:
        """Whether it is a Core ML NeuralNetwork: typed layers, which may bring preprocessing of their own."""
        return self.format == "neuralnetwork"

    @property
    def is_program(self) -> bool:
        """Whether it is a Core ML ML Program: operations with stored dtypes, weights in a folder."""
        return self.format == "mlprogram"

    @property
    def is_pipeline(self) -> bool:
        """Whether it is a Core ML pipeline: several models, one behind the other."""
        return self.format == "pipeline"

    @property
    def is_coreml(self) -> bool:
        """Whether it is a Core ML model of any kind."""
        return self.is_coreml_graph or self.is_pipeline or self.format == "classic"

    @property
    def is_coreml_graph(self) -> bool:
        """Whether it is a Core ML model of layers, which pipelines and classic models are not."""
        return self.is_network or self.is_program

    @property
    def is_coreai(self) -> bool:
        """Whether it is a Core AI model."""
        return self.format == "coreai"

    @property
    def called(self) -> str:
        """What people call its format: "PyTorch", "Core ML float16"; a program by what most of its results are stored as."""
        named = {"torch": "PyTorch", "onnx": "ONNX", "neuralnetwork": "Core ML NeuralNetwork", "coreai": "Core AI"}
        if not self.is_program:
            return named.get(self.format, "Core ML")
        results = (self.graph.values.get(name) for node in self.graph.nodes for name in node.outputs)
        dtypes = [value.dtype for value in results if value is not None and not value.constant]
        half = dtypes.count("float16") > dtypes.count("float32")
        return f"Core ML float{16 if half else 32}"

    @property
    def suffix(self) -> str:
        """How the files that a model of its format is written to end; ".onnx" for what is written as that."""
        if self.is_network or self.format == "classic":
            return ".mlmodel"
        if self.is_coreai:
            return ".aimodel"
        return ".mlpackage" if self.is_coreml else ".onnx"

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Writes the model, whole or not at all; returns the path. A model of the same format that stands there is replaced.

        Raises OutputExistsError where something else does, unless ``replace`` allows it; see ``write`` for the rest.
        """
        target = Path(path)
        self.check_place(target, replace=replace)
        with replacing_together(target.parent, (target.name,)) as stage:
            self.write(stage / target.name, target)
            self.check_place(target, replace=replace)  # it may have taken long
        return target

    def check_place(self, target: Path, *, replace: bool = False) -> None:
        """Raises OutputExistsError where ``write`` would put something in the place of what is no such model."""
        check_output(target, self._kind(target), replace=replace, inputs=(self.path,), in_place=True)

    @abstractmethod
    def _kind(self, target: Path) -> Kind:
        """What ``write`` makes of this path."""

    @abstractmethod
    def write(self, fresh: Path, target: Path) -> None:
        """Writes the model, and what belongs beside it, into an empty folder, from where it goes to ``target``. See ``save``."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} ({self.format}{'' if self.path is None else f', {self.path}'})>"
