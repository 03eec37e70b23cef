"""CoreMLDocument: a private copy of a Core ML model, which edits change in place."""

from __future__ import annotations

from abc import ABC, abstractmethod

from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.graph import Graph

Description = Model_pb2.ModelDescription | Model_pb2.FunctionDescription


class CoreMLDocument(ABC):
    """``spec`` is the copy, ``description`` what describes its features, the model's own or that of one function.

    Graph, signature and shapes are read from ``model``: whoever changes the copy calls ``changed``, so that they are read anew.
    """

    description: Description

    def __init__(self, model: CoreMLModel) -> None:
        self.origin = model
        self.spec = Model_pb2.Model()
        self.spec.CopyFrom(model.spec)
        self._view: CoreMLModel | None = None

    @property
    def where(self) -> str:
        """How messages name the model."""
        return self.origin.where

    @property
    def model(self) -> CoreMLModel:
        """The model as it is now; it changes with the edits."""
        if self._view is None:
            self._view = self.as_model()
        return self._view

    @property
    def graph(self) -> Graph:
        """The layers as they are now."""
        return self.model.graph

    @abstractmethod
    def as_model(self) -> CoreMLModel:
        """A model of the copy."""

    def changed(self) -> None:
        """The model is another one from now on."""
        self._view = None
