"""Graph, Node, Value: one read-only view over ONNX, NeuralNetwork and ML Program alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from coreproof.errors import InputError
from coreproof.model.features import Shape
from coreproof.model.shown import Shown


@dataclass(frozen=True)
class Value:
    """A named tensor inside a model. ``dtype`` is a numpy name; unknown parts are None."""

    name: str
    dtype: str | None = None
    shape: Shape | None = None
    constant: bool = False


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
class Graph(Shown):
    """The nodes of a model in stored order, and its values by name."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value] = field(default_factory=dict)

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {output: node for node in self.nodes for output in node.outputs}

    @cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                consumers.setdefault(name, []).append(node)
        return consumers

    def producer(self, value: str) -> Node | None:
        """The node that makes ``value``; None for inputs and constants."""
        return self._producers.get(value)

    def consumers(self, value: str) -> tuple[Node, ...]:
        """The nodes that read ``value``, in stored order."""
        return tuple(self._consumers.get(value, ()))

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
