"""What the ordinary elements of a value err by that holds fills (fills.py): not what the size of the fills would let them.

A rounding is a share of the element that is rounded: beside a mask's -1e9, whose rounding is 60, a score is rounded as if the
mask were not there. So the errors of ordinary elements are followed by themselves, as long as operators act on each element
alone: sums, choices and moves, products with a number. Behind any other operator, and where it is not certain that the ordinary
elements of a result come from the ordinary ones of its operands, the error of the whole value stands for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from coreproof.conversion.operators import canonical_op, error_class, meaning, operation_of
from coreproof.model.graph import Node
from coreproof.verification.error_state import ErrorState
from coreproof.verification.fills import Ordinary


class Added(NamedTuple):
    """What the operator itself adds: a ``share`` of each element, ``further`` a share of its terms, the ``floor`` of the format.

    ``gain`` is by how much it amplifies white noise, where that is known; ``scaled``: it multiplies with one number.
    ``shared`` is what of the result's whole error is a share of each element.
    """

    share: float
    further: float
    floor: float
    gain: float | None
    scaled: bool
    shared: float


_SATURATED = 64.0
"""From this size on a sigmoid is flat: what arrives there is left behind."""

_ALONE = ("neg", "abs", "cast", "identity", "sqrt", "sign")
"""Operators on single elements, besides those that move and add, that make nothing ordinary of a fill."""


def ordinary_after(
    node: Node, read: Sequence[ErrorState], result: ErrorState, error: float, added: Added
) -> Ordinary | None:
    """The ordinary elements of a result whose error as a whole is ``error``."""
    part = result.ordinary
    if part is None:
        return None
    own = math.hypot(added.share * part.scale, added.floor)
    carried = _carried(node, read, result, part, added)
    # what an engine is known to be off by besides does not follow single elements
    if added.further:
        return part._replace(error=error, own=own)
    if carried is None:
        shared = added.shared * min(1.0, part.scale / result.scale) if result.scale else added.shared
        rest = math.sqrt(max(error - added.shared, 0.0)) * math.sqrt(error + added.shared)
        return part._replace(error=math.hypot(rest, shared), own=own)
    if added.gain is not None and read:
        own = math.hypot(added.share * max(part.scale, added.gain * read[0].scale), added.floor)
    return part._replace(error=min(error * _spread(result, part), math.hypot(carried, own)), own=own)


def _carried(node: Node, read: Sequence[ErrorState], result: ErrorState, part: Ordinary, added: Added) -> float | None:
    """What the errors of the operands become in the ordinary elements; None where only the whole is known."""
    kind = error_class(operation_of(node))
    if not read:
        return 0.0
    if kind == "move":
        return max(_among(s, part.limit) * _louder(s, part) for s in read)
    if kind == "add":
        # what cancels a fill is as large as that
        others = [math.fsum(o.peak * o.scale for o in read if o is not s) for s in read]
        return math.hypot(*(_among(s, part.limit + other) for s, other in zip(read, others, strict=True)))
    if kind == "linear" and added.gain is not None:
        shares = math.hypot(*(s.error / s.scale for s in read if s.scale > 0))
        return max(part.scale * shares, added.gain * read[0].error)
    if kind == "elementwise" and len(read) == 2 and canonical_op(node.operator) == "mul":
        # where as many are ordinary before as behind, they are the same
        if all(s.ordinary is None or s.ordinary.elements == part.elements for s in read):
            return part.scale * sum(_share(s) for s in read)
        return None
    known = read[0].ordinary
    if len(read) == 1 and known is not None and known.scale > 0 and not added.scaled and _keeps_them(node, known, part):
        # a slope near 1 at most, or as the function makes all of them larger
        return known.error * max(1.0, part.scale / known.scale)
    if len(read) == 1 and (added.scaled or canonical_op(operation_of(node)) in _ALONE):
        (source,) = read
        if source.ordinary is None:
            return None
        known = source.ordinary
        return known.error * (part.scale / known.scale if known.scale else 1.0) if added.scaled else known.error
    return None


def _keeps_them(node: Node, before: Ordinary, behind: Ordinary) -> bool:
    """Whether a function of single elements makes ordinary ones of these alone: what it makes of fills would be more."""
    word = canonical_op(operation_of(node))
    return _flattens(node) or (word == "leakyrelu" and before.elements == behind.elements)


def _share(source: ErrorState) -> float:
    """The error of the ordinary elements, of all where all are, as a share of their scale."""
    known = source.ordinary
    error, scale = (source.error, source.scale) if known is None else (known.error, known.scale)
    return error / scale if scale > 0 else 0.0


def _among(source: ErrorState, limit: float) -> float:
    """The error of the operand's elements up to this size."""
    known = source.ordinary
    return known.error if known is not None and limit < known.above else source.error


def _louder(source: ErrorState, part: Ordinary) -> float:
    """How much more the chosen ones err than all of which they are chosen, as in ``error_model``."""
    scale, count = source.scale, source.elements
    if source.ordinary is not None and part.limit < source.ordinary.above:
        scale, count = source.ordinary.scale, source.ordinary.elements
    if not count or not part.elements or scale == 0:
        return 1.0
    return max(1.0, min(part.scale / scale, math.sqrt(count / part.elements)))


def _spread(result: ErrorState, part: Ordinary) -> float:
    """The most that the ordinary elements can err, in units of the whole value's error: all of it may stand there."""
    return math.sqrt((result.elements or part.elements) / part.elements) if part.elements else 1.0


def _flattens(node: Node) -> bool:
    return meaning(operation_of(node)).get("flattens", False)


def without_fills(node: Node, read: Sequence[ErrorState], result: ErrorState) -> list[ErrorState]:
    """The operands, those of whose fills nothing is left in the result as their ordinary elements alone are.

    A function that is flat far from zero leaves nothing of them (a softplus of -1e9), and so does a product with one
    (x * sigmoid(x)), or a choice: then nothing in the result is as large as a fill, and it holds none itself.
    """
    kind = error_class(operation_of(node))
    product = len(read) > 1 and canonical_op(node.operator) == "mul"
    if result.elements is None or result.ordinary is not None or not (product or kind == "move" or _flattens(node)):
        return list(read)
    # an exponential of 64 and more is infinite in float16, and larger than all else in float32
    largest = 0.0 if kind == "exponential" else result.peak * result.scale
    parts = [s.ordinary if s.ordinary is not None and s.ordinary.above > largest else None for s in read]
    return [s if part is None else _alone(s, part) for s, part in zip(read, parts, strict=True)]


def _alone(source: ErrorState, part: Ordinary) -> ErrorState:
    """A value as if it held no fills."""
    if part.scale == 0 or part.above < _SATURATED:
        return source
    return source._replace(
        error=part.error,
        scale=part.scale,
        elements=part.elements,
        deviation=min(source.deviation, part.scale),
        shared=min(source.shared, part.error),
        ordinary=None,
    )
