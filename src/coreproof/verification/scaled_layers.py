"""Which layers stand beside a multiplication by stored numbers, which a converter may take into their weights."""

from __future__ import annotations

from collections.abc import Collection

from coreproof.conversion.operators import canonical_op, error_class, operation_of
from coreproof.model.graph import Graph, Node

_SCALES = frozenset({"mul", "realdiv", "divide", "scale"})
"""Besides normalisations, whose scales are stored as well."""

_LEAVES = frozenset({"cast"})
"""What leaves numbers as they are, besides moves."""


def beside_scales(graph: Graph, weighted: Collection[str]) -> frozenset[str]:
    """The names of those of the ``weighted`` layers, before or behind which a scale stands.

    Moves, casts and a bias may lie between, for a factor of what a layer makes is one of its bias too; no sum of two values.
    """
    found: set[str] = set()
    for node in graph.nodes:
        if _scales(graph, node):
            found |= _reached(graph, node, weighted, back=True) | _reached(graph, node, weighted, back=False)
    return frozenset(found)


def _scales(graph: Graph, node: Node) -> bool:
    if error_class(operation_of(node)) == "norm":
        return True
    if canonical_op(node.operator) not in _SCALES:
        return False
    stored = [name for name in node.inputs if (value := graph.values.get(name)) is not None and value.constant]
    computed = [name for name in node.inputs if (maker := graph.producer(name)) is not None and not maker.inputs]
    return bool(stored or computed or node.parameters)


def _reached(graph: Graph, start: Node, weighted: Collection[str], *, back: bool) -> set[str]:
    found: set[str] = set()
    front, seen = [start], {start.name}
    while front:
        node = front.pop()
        if back:
            near = [maker for name in node.inputs if (maker := graph.producer(name)) is not None]
        else:
            near = [reader for name in node.outputs for reader in graph.consumers(name)]
        for other in near:
            if other.name in seen:
                continue
            seen.add(other.name)
            kind = error_class(operation_of(other))
            between = kind in ("move", "add") or canonical_op(other.operator) in _SCALES | _LEAVES
            if other.name in weighted and kind == "linear":
                found.add(other.name)
            elif between and len(graph.data(other)) == 1:
                front.append(other)
    return found
