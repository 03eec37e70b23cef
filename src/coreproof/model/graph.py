"""Graph, Node, Value: one read-only view over ONNX, NeuralNetwork and ML Program alike."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from coreproof.errors import InputError
from coreproof.model.features import Shape
from coreproof.model.notebook_view import NotebookView


@dataclass(frozen=True)
class Value:
    """A named tensor inside a model. ``dtype`` is a numpy name; unknown parts are None.

    ``unnamed``: the file gives it no name; it is called so by whoever read it, after what makes it and a count, and a value that
    is called the same elsewhere is another one.
    """

    name: str
    dtype: str | None = None
    shape: Shape | None = None
    constant: bool = False
    unnamed: bool = False


@dataclass(frozen=True)
class Node:
    """One operator (ONNX), layer (NeuralNetwork) or operation (ML Program).

    ``inputs`` and ``outputs`` are value names. ``parameters`` are the weights that the node carries or reads:
    name -> (dtype, shape). ``source`` says where the node came from (PyTorch module path, earlier layer) if known.
    ``blocks`` are nested graphs (If, Loop, cond, while_loop, branch).
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    source: str | None = None
    blocks: tuple[Graph, ...] = ()


@dataclass(frozen=True)
class Graph(NotebookView):
    """The nodes of a model in stored order, and its values by name."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value] = field(default_factory=dict)

    @cached_property
    def outline(self) -> str:
        """A digest of what is made of what, under which names: two graphs with one outline mean the same by a value's name.

        Numbers do not count, neither weights nor attributes: other ones make other values of the same meaning.
        """
        digest = hashlib.blake2b(digest_size=16)
        for node in self.nodes:
            blocks = [block.outline for block in node.blocks]
            digest.update(repr((node.domain, node.operator, node.inputs, node.outputs, blocks)).encode())
        return digest.hexdigest()

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs}

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            # x * x reads x once
            for name in dict.fromkeys(node.inputs):
                consumers.setdefault(name, []).append(node)
        return consumers

    def producer(self, value: str) -> Node | None:
        """The node that makes ``value``; None for inputs and constants."""
        return self._producers.get(value)

    def is_constant(self, value: str) -> bool:
        """Whether a value is stored, and neither fed nor computed."""
        known = self.values.get(value)
        return known is not None and known.constant

    def layer_of(self, value: str) -> str | None:
        """The name of the node that makes ``value``; None for inputs and constants."""
        node = self.producer(value)
        return None if node is None else node.name

    def consumers(self, value: str) -> tuple[Node, ...]:
        """The nodes that read ``value``, in stored order."""
        return tuple(self._consumers.get(value, ()))

    def data(self, node: Node) -> list[str]:
        """The values that ``node`` computes with: what it reads, but for weights, settings and constants."""
        return [n for n in node.inputs if n and n not in node.parameters and not self.is_constant(n)]

    @cached_property
    def made(self) -> frozenset[str]:
        """The inputs, and every value that a node makes; those of nested graphs stay inside them."""
        return frozenset((*self.inputs, *(name for node in self.nodes for name in node.outputs)))

    @cached_property
    def _makers(self) -> dict[str, list[int]]:
        """The places of the nodes that make a value, in a branch or a loop too; a network may write a name several times."""
        makers: dict[str, list[int]] = {}
        for place, node in enumerate(self.nodes):
            for name in _outputs_of(node):
                makers.setdefault(name, []).append(place)
        return makers

    @cached_property
    def _reads(self) -> tuple[frozenset[str], ...]:
        return tuple(frozenset(_read(node)) for node in self.nodes)

    def reads(self, node: Node) -> tuple[str, ...]:
        """The values that ``node`` reads, those that its blocks read from outside included, each once, in order."""
        return tuple(dict.fromkeys(_read(node)))

    def between(self, inputs: Collection[str], outputs: Iterable[str]) -> tuple[Node, ...]:
        """The nodes that make ``outputs``, and what those read in turn, down to ``inputs``; in stored order.

        An output is made even where it is among the inputs. Layers that make nothing but write a state which is read stay too.
        """
        makers = {name: list(places) for name, places in self._makers.items()}
        for place, node in enumerate(self.nodes):
            # a write_state makes no value: it counts as a maker of the state that it names
            for name in node.inputs if not _outputs_of(node) else ():
                if name in self.inputs:
                    makers.setdefault(name, []).append(place)
        return tuple(self.nodes[place] for place in select(outputs, makers, self._reads, inputs))

    def node(self, name: str) -> Node:
        """The node of that name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def find(self, name: str, where: str | None = None) -> tuple[Node, ...]:
        """The nodes of that name, then those that make a value of that name.

        Raises InputError, which names what is near, where there is none; ``where`` is the model as its user calls it.
        """
        found = [node for node in self.nodes if name in (node.name, *node.outputs)]
        if found:
            return tuple(sorted(found, key=lambda node: node.name != name))
        from difflib import get_close_matches

        known = dict.fromkeys(called for node in self.nodes for called in (node.name, *node.outputs))
        near = get_close_matches(name, known, 3, cutoff=0.4)
        raise InputError(
            f"the model has no layer {name!r}",
            where=where,
            found=f"{len(self.nodes)} layers",
            fix=f"did you mean {', '.join(near)}?" if near else "`coreproof show MODEL` lists the layers",
        )


def select(
    outputs: Iterable[str],
    makers: Mapping[str, Iterable[int]],
    reads: Sequence[Iterable[str]],
    stops: Container[str] = (),
) -> list[int]:
    """The places, in order, of what makes ``outputs``, and of what that reads in turn, down to ``stops``.

    Where anything in coreproof takes a part of a graph, it goes by this. ``makers`` are the places that make a value, ``reads``
    what each place reads. An output is made even where it is among the stops.
    """
    front, seen, kept = list(outputs), set[str](), set[int]()
    while front:
        name = front.pop()
        if name in seen:
            continue
        seen.add(name)
        for place in makers.get(name, ()):
            if place not in kept:
                kept.add(place)
                front.extend(read for read in reads[place] if read not in stops)
    return sorted(kept)


def _outputs_of(node: Node) -> list[str]:
    """The values that a node makes; branches and loops of a NeuralNetwork make those of their blocks."""
    # a branch of a NeuralNetwork names no outputs: what its blocks write is seen around it
    if node.outputs or not node.blocks:
        return [name for name in node.outputs if name]
    return [name for block in node.blocks for inner in block.nodes for name in _outputs_of(inner)]


def _read(node: Node) -> Iterator[str]:
    """What a node reads; of its blocks, what they read before they make it, their own inputs and constants left out."""
    yield from (name for name in node.inputs if name)
    for block in node.blocks:
        own = {*block.inputs, *(name for name, value in block.values.items() if value.constant)}
        for inner in block.nodes:
            yield from (name for name in _read(inner) if name not in own)
            # what is read before it is written comes from outside, or from the round before
            own.update(inner.outputs)
        yield from (name for name in block.outputs if name not in own)
