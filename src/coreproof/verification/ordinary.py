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

from coreproof.conversion.operators import canonical_op, error_class
from coreproof.model.graph import Node
from coreproof.verification.error_state import ErrorState
from coreproof.verification.fills import Ordinary


class Added(NamedTuple):
    """What the operator itself adds: a ``share`` of each element, ``further`` a share of its terms, the ``floor`` of the format.

    ``gain`` is by how much it amplifies white noise, where that is known; ``scaled``: it multiplies with one number.
    """

    share: float
    further: float
    floor: float
    gain: float | None
    scaled: bool


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
    if carried is None or added.further:
        return part._replace(error=error, own=own)
    if added.gain is not None and read:
        own = math.hypot(added.share * max(part.scale, added.gain * read[0].scale), added.floor)
    return part._replace(error=min(error * _spread(result, part), math.hypot(carried, own)), own=own)


def _carried(node: Node, read: Sequence[ErrorState], result: ErrorState, part: Ordinary, added: Added) -> float | None:
    """What the errors of the operands become in the ordinary elements; None where only the whole is known."""
    kind = error_class(node.operator)
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
    if len(read) == 1 and (added.scaled or canonical_op(node.operator) in _ALONE):
        (source,) = read
        if source.ordinary is None:
            return None
        known = source.ordinary
        return known.error * (part.scale / known.scale if known.scale else 1.0) if added.scaled else known.error
    return None


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


def left_of_fills(source: ErrorState) -> float | None:
    """The error of an operand of which a function that is flat at the fills leaves nothing else; None where there are none."""
    known = source.ordinary
    return known.error if known is not None and known.above >= _SATURATED else None
