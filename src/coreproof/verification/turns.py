"""Angles: of a direction along the negative axis both pi and -pi are right, and what is left of zero decides which.

``atan2(y, x)`` of a negative x jumps by a full turn where y changes its sign. Where y is nothing but rounding (the imaginary
part of a spectrum's first line), two engines give either. An angle that is a full turn off is held against the other as it is
turned back: within what rounding explains both are then pi.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from coreproof.conversion.operators import canonical_op, error_class, operation_of
from coreproof.model.graph import Graph
from coreproof.pairing.align import Pair

Array = np.ndarray

_ANGLES = frozenset({"atan", "atan2", "angle", "arctan2"})
_FAR = 8
"""So many layers behind an arc tangent a converter has made an angle of it: a choice by signs, and pi added."""
_BESIDE = 1.01
"""An angle is no larger than pi, and what it is rounded to."""


def angles(pairs: Iterable[Pair], reference: Graph, candidate: Graph) -> frozenset[str]:
    """The candidate's values that hold angles, as either side's operators say."""
    return frozenset(
        pair.candidate for pair in pairs if _is_angle(reference, pair.reference) or _is_angle(candidate, pair.candidate)
    )


def _is_angle(graph: Graph, name: str) -> bool:
    front = {name}
    for _ in range(_FAR):
        makers = [node for each in front if (node := graph.producer(each)) is not None]
        if any(canonical_op(operation_of(node)) in _ANGLES for node in makers):
            return True
        moved = [
            node
            for node in makers
            if error_class(operation_of(node)) in ("move", "add") or _only_hands_on(node.operator)
        ]
        front = {each for node in moved for each in node.inputs}
    return False


def _only_hands_on(operator: str) -> bool:
    return canonical_op(operator) in ("cast", "where", "select", "identity")


def turned_back(reference: Array, candidate: Array) -> tuple[Array, int]:
    """The candidate's angles, those that are nearer to the reference's a full turn on turned by it; and how many these are."""
    a, b = reference, candidate.reshape(reference.shape)
    if a.dtype.kind != "f" or b.dtype.kind != "f" or not a.size:
        return candidate, 0
    with np.errstate(invalid="ignore"):
        apart = a.astype(np.float64) - b.astype(np.float64)
        far = (np.abs(apart) > math.pi) & (np.abs(a) <= _BESIDE * math.pi) & (np.abs(b) <= _BESIDE * math.pi)
    if not far.any():
        return candidate, 0
    return np.where(far, b + np.copysign(2 * math.pi, apart), b), int(np.count_nonzero(far))
