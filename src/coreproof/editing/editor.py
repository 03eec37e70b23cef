"""Editor: a model opened for edits. The verbs are written once on its primitives; each format has its own editor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node


class Editor(ABC):
    """A private copy of a model that is changed in place, then closed into a new model.

    Layers and values are named as in ``graph``. A primitive changes what its name says and nothing else; it raises EditError
    for a name, an attribute or a value that does not fit, and leaves the model unchanged then.
    """

    @property
    @abstractmethod
    def model(self) -> Model:
        """The model as it is now, to be looked at and run (not a copy: it changes with the edits)."""

    @property
    def graph(self) -> Graph:
        """The layers as they are now."""
        return self.model.graph

    @abstractmethod
    def reopen(self, model: Model) -> None:
        """Goes on with another model, which was made of this one."""

    @abstractmethod
    def close(self) -> Model:
        """The new model. What was not changed is stored as it was, byte for byte."""

    # layers

    @abstractmethod
    def remove(self, layer: str) -> None:
        """Takes a layer out; whoever reads its outputs still names them."""

    @abstractmethod
    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        """Makes ``layer`` read these values; in an ML Program they replace the values that it reads, in order, settings apart."""

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        """Makes these layers read ``to`` wherever they read ``value``: at once, for a value may have thousands of readers."""
        for reader in readers:
            self.set_inputs(reader.name, [to if name == value else name for name in reader.inputs])

    @abstractmethod
    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        """Makes ``layer`` call what it makes by these names; readers and features are not touched."""

    @abstractmethod
    def add(
        self,
        operator: str,
        name: str,
        inputs: Sequence[str] | Mapping[str, str],
        outputs: Sequence[str],
        attributes: Mapping[str, object],
        after: str | None,
    ) -> None:
        """Puts a new layer behind the layer ``after`` (None: at the front).

        ``attributes`` holds settings and weights alike (numpy arrays); the format's own names.
        """

    @abstractmethod
    def set(self, layer: str, attribute: str, value: object) -> None:
        """Gives an attribute, or a weight (a numpy array, in the layer's own order), another value; None takes it away."""

    @abstractmethod
    def weights(self, layer: str) -> dict[str, npt.NDArray[np.generic]]:
        """The layer's weights by name, in real values and in the shape that the layer gives them."""

    # names

    @abstractmethod
    def rename_layer(self, old: str, new: str) -> None:
        """Gives a layer another name; its outputs keep theirs."""

    @abstractmethod
    def rename_value(self, old: str, new: str) -> None:
        """Renames a value or a feature everywhere: layers, nested blocks, features, preprocessing, classifier."""

    def name_output(self, value: str, output: str) -> None:
        """Gives a value the name of a declared output, where it is made and wherever it is read."""
        maker = self.graph.producer(value)
        assert maker is not None
        readers = self.graph.consumers(value)
        self.set_outputs(maker.name, [output if name == value else name for name in maker.outputs])
        self.redirect(value, output, readers)

    # features

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
        input that becomes a multi-array is fed what the network saw behind them. Raises EditError.
        """
        raise self._unable("retype", feature)

    def reshape(
        self,
        feature: str,
        shape: Sequence[int] | None = None,
        *,
        enumerated: Sequence[Sequence[int]] = (),
        ranges: Sequence[Sequence[int]] = (),
    ) -> None:
        """Gives an input another shape, a list of shapes, or a range (low, high; -1: no end) for each length.

        Of a picture, the shape is [height, width]. Declared outputs follow, as far as their shapes can be told. Raises EditError.
        """
        raise self._unable("reshape", feature)

    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        """Gives a classifier other labels, one a score; EditError for another number of them, or a model without labels."""
        raise self._unable("relabel", "")

    def _unable(self, verb: str, feature: str) -> EditError:
        return EditError(
            f"{verb} is not possible in a {self.model.format} model",
            where=f"{self.model.name}{feature and f', feature {feature!r}'}",
        )

    # helpers for the verbs

    def node(self, layer: str) -> Node:
        """The layer of that name, or one that makes a value of that name; EditError that lists near names."""
        nodes = self.graph.nodes
        for node in nodes:
            if node.name == layer:
                return node
        for node in nodes:
            if layer in node.outputs:
                return node
        raise EditError(
            f"there is no layer {layer!r}",
            where=self.model.name,
            expected="a layer or the value that it makes" + _near(layer, [n.name for n in nodes]),
            found=layer,
            fix="`coreproof show MODEL --layers` lists them",
        )

    def is_constant(self, name: str) -> bool:
        """Whether a value is stored in the model: an initializer, a const, or what a layer without inputs makes."""
        graph = self.graph
        value = graph.values.get(name)
        if value is not None and value.constant:
            return True
        producer = graph.producer(name)
        return producer is not None and not any(producer.inputs)

    def require_value(self, name: str) -> str:
        """``name``, when some layer, input or constant makes it; EditError otherwise."""
        graph = self.graph
        made = {*graph.inputs, *graph.values, *(o for n in graph.nodes for o in n.outputs)}
        if name in made:
            return name
        raise EditError(
            f"there is no value {name!r}", where=self.model.name, expected="a value" + _near(name, sorted(made))
        )

    def require_free(self, name: str) -> str:
        """``name``, when no value bears it yet; EditError otherwise."""
        graph = self.graph
        if name in graph.values or any(name in node.outputs for node in graph.nodes):
            raise EditError(f"the name {name!r} is taken", where=self.model.name, fix="choose another")
        return name

    def require_new_layer(self, name: str) -> str:
        """``name``, when no layer bears it yet; EditError otherwise."""
        if any(node.name == name for node in self.graph.nodes):
            raise EditError(f"there is a layer {name!r} already", where=self.model.name, fix="choose another name")
        return name


def _near(name: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=3)
    return f", such as {', '.join(near)}" if near else ""
