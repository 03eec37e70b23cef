"""A graph with one thing of one layer missing or foreign, as a damaged file has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from coreproof.model.graph import Graph, Node

_ODD = ("text", None, (), [], 1.5, -3)


def damaged(graph: Graph) -> Iterator[Graph]:
    """Each layer without inputs, outputs, weights or attributes, or with odd ones; and values of which less is known."""
    for at, node in enumerate(graph.nodes):
        for other in _damaged(node):
            yield replace(graph, nodes=(*graph.nodes[:at], other, *graph.nodes[at + 1 :]))
    yield replace(graph, values={})
    for name, value in graph.values.items():
        less: tuple[dict[str, Any], ...] = ({"shape": None}, {"shape": ()}, {"dtype": None})
        for known in less:
            yield replace(graph, values={**graph.values, name: replace(value, **known)})


def _damaged(node: Node) -> Iterator[Node]:
    yield replace(node, inputs=())
    yield replace(node, inputs=node.inputs[:1])
    yield replace(node, inputs=("?",) * len(node.inputs))
    yield replace(node, outputs=())
    yield replace(node, parameters={})
    yield replace(node, attributes={})
    for key in node.attributes:
        yield from (replace(node, attributes={**node.attributes, key: odd}) for odd in _ODD)
    for key, (dtype, _) in node.parameters.items():
        shapes: tuple[tuple[int, ...], ...] = ((), (3,), (1,) * 7)
        yield from (replace(node, parameters={**node.parameters, key: (dtype, shape)}) for shape in shapes)
