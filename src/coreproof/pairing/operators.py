"""What an operator of any format does to an error, beyond its class: steps, interpolation, and how many terms it sums."""

from __future__ import annotations

import math

from coreproof.conversion.operators import canonical_op, error_class, meaning, operation_of
from coreproof.model.graph import Node

_INTERPOLATION = 10
"""Roundings in a number interpolated along two axes: along each two weights, two products and their sum."""

_NUMBERS = {"mul": ("x", "y", "alpha"), "realdiv": ("y",), "activation": ("linear.alpha",)}
"""Operators (by ``canonical_op``) that scale, and the attributes that hold the number."""


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
    kind = error_class(operation_of(node))
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


def scale_factor(node: Node) -> float | None:
    """By how much a product with one known number scales what it reads, as in dequantisation; None for everything else."""
    word = canonical_op(node.operator)
    numbers = [node.attributes.get(key) for key in _NUMBERS.get(word, ())]
    known = [abs(float(n)) for n in numbers if isinstance(n, int | float) and not isinstance(n, bool)]
    # two numbers, or settings beside the number, are no plain product
    if len(known) != 1 or known[0] == 0 or not math.isfinite(known[0]) or len(numbers) < len(node.attributes):
        return None
    return 1 / known[0] if word == "realdiv" else known[0]


def exponent_of(node: Node) -> float | None:
    """The known number to whose power the operator raises what it reads; None for everything else."""
    word = canonical_op(operation_of(node))
    # a NeuralNetwork's layer scales and shifts what it raises as well
    number = {"pow": node.attributes.get("y"), "power": node.attributes.get("alpha")}.get(word)
    return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else None
