"""What patterns ask of a graph: who makes a value, in which width, through which layers it came."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.known_faults.record import Seen
from coreproof.model.features import Dimension
from coreproof.model.graph import Graph, Node


def called(node: Node) -> str:
    """What a layer does, without the dialect's word for a form that broadcasts."""
    return node.operator.removeprefix("broadcasting_")


def every(seen: Seen, *operators: str) -> Iterator[Node]:
    """The layers of the graph that are one of these, whatever they read and make."""
    return (node for node in seen.graph.nodes if called(node) in operators)


def of(seen: Seen, *operators: str) -> Iterator[Node]:
    """Those that make something of something: a damaged layer, which does not, is another rule's matter."""
    return (node for node in every(seen, *operators) if node.inputs and node.outputs)


def made_by(graph: Graph, value: str, *operators: str) -> Node | None:
    """The layer that makes a value of others, where it is one of these."""
    node = graph.producer(value)
    return node if node is not None and called(node) in operators and node.inputs else None


def fed(graph: Graph, node: Node) -> str | None:
    """The one value that a layer computes with besides constants; None where there is none, or several."""
    data = graph.data(node)
    return data[0] if len(data) == 1 else None


def back(graph: Graph, node: Node, *operators: str) -> Node | None:
    """The layer before ``node``, where ``node`` reads one value and that is made by one of these."""
    value = fed(graph, node)
    return None if value is None else made_by(graph, value, *operators)


def is_half(graph: Graph, value: str) -> bool:
    """Whether a value is stored in float16."""
    known = graph.values.get(value)
    return known is not None and known.dtype == "float16"


def makes_half(graph: Graph, node: Node) -> bool:
    """Whether what a layer makes first is float16."""
    return bool(node.outputs) and is_half(graph, node.outputs[0])


def shape(graph: Graph, value: str) -> tuple[Dimension, ...] | None:
    """The lengths of a value, None where they are not known."""
    known = graph.values.get(value)
    return None if known is None else known.shape


def told(graph: Graph, value: str) -> str:
    """A value's dtype and lengths in words: "float16[1, 10]"."""
    known = graph.values.get(value)
    if known is None:
        return "?"
    lengths = "?" if known.shape is None else ", ".join("?" if n is None else str(n) for n in known.shape)
    return f"{known.dtype or '?'}[{lengths}]"


def whole(length: Dimension) -> int | None:
    """A length that is a number; None for one that is free."""
    return length if isinstance(length, int) else None
