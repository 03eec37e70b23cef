"""What operators of all formats have in common for verification: how each passes an error on, and which fuse."""

from __future__ import annotations

from coreproof.conversion.operators import error_behaviour as family
from coreproof.conversion.operators import meaning
from coreproof.conversion.operators import word as stem
from coreproof.conversion.registry import ErrorBehaviour as Family
from coreproof.conversion.registry import plain
from coreproof.model.graph import Node

__all__ = ["Family", "family", "interpolates", "makes_steps", "plain", "stem", "terms"]

_INTERPOLATION = 10
"""Roundings in a number interpolated along two axes: along each two weights, two products and their sum."""


def makes_steps(operator: str) -> bool:
    """Whether its results are whole numbers of steps: what arrives within its error of an edge is a step off."""
    return meaning(operator).get("steps", False)


def interpolates(operator: str) -> bool:
    """Whether its results lie between neighbours, at places that it computes."""
    return meaning(operator).get("interpolates", False)


def terms(node: Node, inputs: tuple[int | None, ...], output: int | None) -> int:
    """How many products or values one result of ``node`` sums up; 1 where it sums nothing.

    ``inputs`` and ``output`` are element counts where known.
    """
    kind = family(node.operator)
    shapes = [shape for _, shape in node.parameters.values() if shape]
    if kind == "linear":
        if shapes:
            largest = max(shapes, key=_count)
            if len(largest) >= 3:
                return max(1, _count(largest) // max(1, largest[0]))
            if len(largest) == 1:
                return max(1, _count(largest) // max(1, int(node.attributes.get("outputChannels", 1) or 1)))
            return max(largest)
        return 256
    if interpolates(node.operator):
        return _INTERPOLATION
    if kind in ("average", "norm"):
        known = [n for n in inputs if n]
        if known and output:
            return max(1, known[0] // output)
    return 1


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
