"""Ways through a graph: from a value forward to operators that end it, and back to what is fed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import onnx_ir as ir

from coreproof.conversion.operators import meaning

MOST = 32
"""So many operators are looked at before a value: what is further away went through a network."""


class Use(Protocol):
    """An operator that reads a value, and as which of its operands."""

    @property
    def node(self) -> ir.Node: ...  # noqa: D102 - said above
    @property
    def idx(self) -> int: ...  # noqa: D102 - said above


def names_of(nodes: Iterable[ir.Node]) -> Iterator[str]:
    """The names of all that these operators give."""
    return (value.name or "" for node in nodes for value in node.outputs)


def is_shaped(operator: str) -> bool:
    """Whether it hands all numbers on, in another shape at most (a slice hands on some)."""
    return meaning(operator).get("hands_on") in ("whole", "reshaped") or operator == "Slice"


def is_fed(value: ir.Value) -> bool:
    """Whether it is an input, of the model or of a round of a loop."""
    return value.is_graph_input() and not value.is_initializer()


def leading_to(
    value: ir.Value,
    ends: Callable[[Use], Sequence[ir.Node]],
    passes: Callable[[Use], bool],
    depth: int = MOST,
) -> list[ir.Node]:
    """The operators on the ways from ``value`` to where ``ends`` gives nodes, with these, through those that ``passes`` allows.

    None where no way ends so, or more than ``depth`` operators lie between. Each operator is looked at once, however many ways
    come to it: of a value that is joined with itself again and again there are too many to walk.
    """
    before: dict[ir.Node, list[ir.Node]] = {}
    front: list[tuple[ir.Value, ir.Node | None]] = [(value, None)]
    ended: dict[ir.Node, None] = {}
    leading: list[ir.Node] = []
    for _ in range(depth):
        behind: list[tuple[ir.Value, ir.Node | None]] = []
        for made, maker in front:
            makers = [] if maker is None else [maker]
            for use in made.uses():
                if nodes := ends(use):
                    ended.update(dict.fromkeys(nodes))
                    leading += makers
                elif passes(use):
                    if use.node not in before:
                        behind.append((use.node.outputs[0], use.node))
                    before.setdefault(use.node, []).extend(makers)
        front = behind
    found: dict[ir.Node, None] = {}
    while leading:
        node = leading.pop()
        if node not in found:
            found[node] = None
            leading += before[node]
    return [*found, *ended]


def to_operators(value: ir.Value, *operators: str) -> list[ir.Node]:
    """Those of these operators that read ``value`` in whatever shape, with what shapes it."""
    return leading_to(
        value,
        lambda use: [use.node] if use.node.op_type in operators else [],
        lambda use: is_shaped(use.node.op_type) and use.idx == 0,
    )


def computed_from(
    value: ir.Value, follow: Callable[[ir.Node], Sequence[ir.Value] | None], begins: Callable[[ir.Node], bool]
) -> list[ir.Node]:
    """The operators between what is fed, or what ``begins`` by itself, and ``value``; none where too many lie between.

    ``follow`` gives the operands of which an operator makes its result, None for one at which the way ends: a layer.
    """
    seen: dict[ir.Node, Sequence[ir.Value]] = {}
    waiting = [value]
    while waiting:
        node = waiting.pop().producer()
        operands = None if node is None or node in seen else follow(node)
        if node is None or operands is None:
            continue
        if len(seen) == MOST:
            return []
        seen[node] = operands
        waiting.extend(operands)
    found = dict.fromkeys(node for node in seen if begins(node))
    grown = True
    while grown:
        reached = [
            node
            for node, operands in seen.items()
            if node not in found and any(is_fed(v) or v.producer() in found for v in operands)
        ]
        found.update(dict.fromkeys(reached))
        grown = bool(reached)
    return list(found)
