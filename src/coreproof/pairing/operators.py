"""What an operator of any format does to an error, beyond its class: steps, interpolation, and how many terms it sums."""

from __future__ import annotations

import math

from coreproof.conversion.operators import error_class, meaning
from coreproof.model.graph import Node

_INTERPOLATION = 10
"""Roundings in a number interpolated along two axes: along each two weights, two products and their sum."""


def makes_steps(operator: str) -> bool:
    """Whether its results are whole numbers of steps: what arrives within its error of an edge is a step off."""
    return meaning(operator).get("steps", False)


def interpolates(operator: str) -> bool:
    """Whether its results lie between neighbours, at places that it computes."""
    return meaning(operator).get("interpolates", False)


def summand_count(node: Node, inputs: tuple[int | None, ...], output: int | None) -> int:
    """How many products or values one result of ``node`` sums up; 1 where it sums nothing.

    ``inputs`` and ``output`` are element counts where known.
    """
    kind = error_class(node.operator)
    shapes = [shape for _, shape in node.parameters.values() if shape]
    if kind == "linear":
        if shapes:
            largest = max(shapes, key=math.prod)
            if len(largest) >= 3:  # a kernel: [out, in / groups, ...]
                return max(1, math.prod(largest) // max(1, largest[0]))
            if len(largest) == 1:  # a NeuralNetwork's, which states no shape but the number of outputs
                return max(1, math.prod(largest) // max(1, int(node.attributes.get("outputChannels", 1) or 1)))
            return max(largest)
        return 256  # two values of unknown inner length, as attention multiplies
    if interpolates(node.operator):
        return _INTERPOLATION
    if kind in ("average", "norm"):
        known = [n for n in inputs if n]
        if known and output:
            return max(1, known[0] // output)
    return 1
