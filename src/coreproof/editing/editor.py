"""Editor: a model opened for edits. The verbs are written once on its primitives; each format has its own editor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from coreproof.editing.interface import Interface
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import layer_weights


@dataclass(frozen=True)
class NewLayer:
    """A layer that is put in; operator and attributes are the format's own names.

    ``inputs`` in the operator's own order, or by name; ``attributes`` holds settings and weights alike (numpy arrays).
    """

    operator: str
    name: str
    inputs: Sequence[str] | Mapping[str, str]
    outputs: Sequence[str]
    attributes: Mapping[str, object] = field(default_factory=dict)

    @property
    def reads(self) -> list[str]:
        """The values that it reads, in the order in which they are given."""
        return list(self.inputs.values() if isinstance(self.inputs, Mapping) else self.inputs)


class Editor(ABC):
    """A private copy of a model that is changed in place, then closed into a new model.

    Layers and values are named as in ``graph``. A primitive changes what its name says and nothing else; it raises EditError
    for a name, an attribute or a value that does not fit, and leaves the model unchanged then.
    """

    interface: Interface
    """What the model declares, to be changed as well."""

    def __init__(self, model: Model) -> None:
        self.reopen(model)

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

    @abstractmethod
    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        """Makes these layers read ``to`` wherever they read ``value``: at once, for a value may have thousands of readers."""

    @abstractmethod
    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        """Makes ``layer`` call what it makes by these names; readers and features are not touched."""

    @abstractmethod
    def add(self, layer: NewLayer, after: str | None) -> None:
        """Puts a new layer behind the layer ``after`` (None: at the front)."""

    @abstractmethod
    def set(self, layer: str, attribute: str, value: object) -> None:
        """Gives an attribute, or a weight (a numpy array, in the layer's own order), another value; None takes it away."""

    def weights(self, layer: str) -> dict[str, npt.NDArray[np.generic]]:
        """The layer's weights by name, in real values and in the shape that the layer gives them."""
        return dict(layer_weights(self.model, self.node(layer).name))

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

    # helpers for the verbs

    def node(self, layer: str) -> Node:
        """The layer of that name, or one that makes a value of that name; EditError that lists near names."""
        nodes = self.graph.nodes
        # a value may bear the name of another layer: layers come first
        found = [n for n in nodes if n.name == layer] or [n for n in nodes if layer in n.outputs]
        if found:
            return found[0]
        raise EditError(
            f"there is no layer {layer!r}",
            where=self.model.name,
            expected="a layer or the value that it makes" + such_as(layer, [n.name for n in nodes]),
            found=layer,
            fix="`coreproof show MODEL --layers` lists them",
        )

    def is_constant(self, name: str) -> bool:
        """Whether a value is stored in the model: an initializer, a const, or what a layer without inputs makes."""
        producer = self.graph.producer(name)
        return self.graph.is_constant(name) or (producer is not None and not any(producer.inputs))

    def is_value(self, name: str) -> bool:
        """Whether some layer, input or constant makes a value of that name."""
        return is_value(self.graph, name)

    def value(self, name: str) -> str:
        """The value of that name, else the first that the layer of that name makes; EditError that lists near names."""
        return name if self.is_value(name) else self.node(name).outputs[0]

    def require_value(self, name: str) -> str:
        """``name``, when some layer, input or constant makes it; EditError otherwise."""
        return require_value(self.graph, name, self.model.name)

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


def is_value(graph: Graph, name: str) -> bool:
    """Whether some layer, input or constant makes a value of that name."""
    return name in graph.made or name in graph.values


def require_value(graph: Graph, name: str, where: str) -> str:
    """``name``, when some layer, input or constant makes it; EditError otherwise."""
    if is_value(graph, name):
        return name
    near = such_as(name, sorted({*graph.made, *graph.values}))
    raise EditError(f"there is no value {name!r}", where=where, expected=f"a value{near}")


def such_as(name: str, names: Sequence[str]) -> str:
    """The names that are near to one that is unknown, as the end of what was expected."""
    from difflib import get_close_matches

    near = get_close_matches(name, names, n=3)
    return f", such as {', '.join(near)}" if near else ""
