"""Sub-models: described by where they begin, where they end and what is skipped, and built from that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from coreproof.model.base import Model
from coreproof.model.formats.free_name import free_name
from coreproof.model.graph import Graph, Node

T = TypeVar("T", bound=Message)


@dataclass(frozen=True)
class Submodel:
    """A sub-model. ``outputs`` empty: the model's own outputs, whatever they are made into (labels, dictionaries).

    ``inputs`` are inner values that are fed from outside instead of being made; the model's own inputs stay where they are
    read. ``bypassed`` says, for the outputs of layers that are skipped, which value stands in for each.
    ``shapes`` gives inputs another shape than they have in the whole model.
    """

    outputs: tuple[str, ...] = ()
    inputs: frozenset[str] = frozenset()
    bypassed: tuple[tuple[str, str], ...] = ()
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def to_json(self) -> dict[str, object]:
        """The submodel as the file that a search goes on from holds it."""
        return {
            "outputs": list(self.outputs),
            "inputs": sorted(self.inputs),
            "bypassed": [list(pair) for pair in self.bypassed],
            "shapes": [[name, list(shape)] for name, shape in self.shapes],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Submodel:
        """The submodel that ``to_json`` wrote."""
        return cls(
            tuple(document["outputs"]),
            frozenset(document["inputs"]),
            tuple((a, b) for a, b in document["bypassed"]),
            tuple((name, tuple(shape)) for name, shape in document["shapes"]),
        )


@dataclass(frozen=True)
class StoredLayer:
    """One layer as cutting sees it: the values that it reads (constants left out) and makes, and its stored ``message``."""

    name: str
    operator: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    message: Message = field(compare=False, repr=False)


@dataclass(frozen=True)
class Selection:
    """What a submodel leaves: its layers in order, the inputs and the outputs that they have."""

    layers: tuple[StoredLayer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int, int]:
        """What the smaller of two slices is smaller in."""
        return len(self.layers), len(self.inputs), len(self.outputs)


class SubmodelBuilder(ABC):
    """A model that can be cut. ``shapes`` and ``dtypes`` are those of its values, as far as they are known.

    ``whole_outputs`` are the values that its own outputs are made from.
    """

    layers: tuple[StoredLayer, ...]
    inputs: tuple[str, ...]
    whole_outputs: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    def __init__(self, model: Model) -> None:
        self.model = model
        self._read()
        self._made = dict.fromkeys(name for layer in self.layers for name in layer.makes)
        self._graph = _as_graph(self.layers, self.inputs)

    @abstractmethod
    def _read(self) -> None:
        """Reads the layers and what is known of their values, once for all that is built."""

    def select(self, submodel: Submodel) -> Selection:
        """The layers that the submodel's outputs need, and which inputs those read."""
        around = bypasses(submodel)
        outputs = tuple(dict.fromkeys(around.get(name, name) for name in submodel.outputs or self.whole_outputs))
        # what is skipped is looked through: every layer reads what stands in for it
        layers = tuple(_reading(layer, around) for layer in self.layers) if around else self.layers
        graph = _as_graph(layers, self.inputs) if around else self._graph
        free = {*submodel.inputs, *self.inputs}
        # an output that is fed needs no layer
        kept = {node.name for node in graph.between(free, [name for name in outputs if name not in free])}
        chosen = tuple(layer for layer in layers if layer.name in kept)
        read = {name for layer in chosen for name in layer.reads}.union(outputs)
        # in a fixed order, whatever the order in which a set gives them: a search is deterministic
        inputs = dict.fromkeys(n for n in (*self.inputs, *self._made) if n in free and n in read)
        return Selection(chosen, tuple(inputs), outputs)

    def can_feed(self, name: str) -> bool:
        """Whether a value can be made an input: it is made by a layer, and its shape and dtype are known."""
        return name in self._made and name in self.shapes and name in self.dtypes

    def learn(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Notes the shape that a value had when the model ran, where the file does not say it."""
        self.shapes[name] = shape
        self.dtypes.setdefault(name, dtype)

    def declared_shape(self, name: str) -> tuple[int, ...]:
        """The shape in which an input declares the value."""
        return self.shapes[name]

    def same_type(self, one: str, other: str) -> bool:
        """Whether one value can stand in for another."""
        shape = self.shapes.get(one)
        return shape is not None and shape == self.shapes.get(other) and self.dtypes.get(one) == self.dtypes.get(other)

    def leaving(
        self, layers: Collection[StoredLayer], rest: Collection[StoredLayer], outputs: Sequence[str]
    ) -> list[str]:
        """The values that ``layers`` make for the ``rest`` or for the outputs."""
        read = {name for layer in rest for name in layer.reads} | set(outputs)
        return [name for layer in layers for name in layer.makes if name in read]

    @abstractmethod
    def build(self, submodel: Submodel) -> Model:
        """The sub-model. Raises EditError where the format cannot hold it."""

    def shape_of(self, submodel: Submodel, name: str) -> tuple[int, ...]:
        """The shape in which an input is declared."""
        return dict(submodel.shapes).get(name) or self.shapes[name]


def layers_of(
    messages: Iterable[T],
    names: Iterable[str],
    operator: Callable[[T], str],
    reads: Callable[[T], Iterable[str]],
    makes: Callable[[T], Iterable[str]],
    constants: Container[str] = (),
) -> tuple[StoredLayer, ...]:
    """The stored layers by what these functions tell of each; a file may give several the same name."""
    found: dict[str, StoredLayer] = {}
    for message, name in zip(messages, names, strict=True):
        # layers are found again by name, and files do not promise that names differ
        apart = free_name(name, found, first=2, sign="#")
        read = tuple(dict.fromkeys(value for value in reads(message) if value not in constants))
        found[apart] = StoredLayer(apart, operator(message), read, tuple(makes(message)), message)
    return tuple(found.values())


def _as_graph(layers: Sequence[StoredLayer], inputs: tuple[str, ...]) -> Graph:
    return Graph("", tuple(Node(one.name, one.operator, one.reads, one.makes) for one in layers), inputs, ())


def _reading(layer: StoredLayer, around: Mapping[str, str]) -> StoredLayer:
    """The layer with what it reads where layers before it are skipped."""
    return replace(layer, reads=tuple(dict.fromkeys(around.get(name, name) for name in layer.reads)))


def bypasses(submodel: Submodel) -> dict[str, str]:
    """For each value of a layer that is skipped, which one is read in its place in the end."""
    around = dict(submodel.bypassed)
    for name, stand_in in submodel.bypassed:
        seen = {name}
        # what stands in may have been skipped itself, and two that stand in for each other lead nowhere
        while stand_in in around and stand_in not in seen:
            seen.add(stand_in)
            stand_in = around[stand_in]
        around[name] = stand_in
    return around
