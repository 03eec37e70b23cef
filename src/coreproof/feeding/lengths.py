"""The lengths that are drawn for an input: what both models declare, and the ends of what they leave free."""

from __future__ import annotations

import math
from typing import Literal

from coreproof.errors import InputError
from coreproof.model.features import Feature

FREE_LENGTH = 8
"""Length of a dimension that neither model fixes; the first one, most often the batch, is 1."""

End = Literal["usual", "low", "high"]
ENDS: tuple[End, ...] = ("low", "high")


def lengths(a: Feature, b: Feature, end: End = "usual") -> tuple[int, ...]:
    """The shape to draw for an input that is ``a`` of one model and ``b`` of the other.

    Fixed lengths are taken as they are, 0 too: in ONNX and PyTorch it means no elements, and Core ML's files know no 0.
    Of enumerated shapes the smallest that both allow, of a range its lower end
    (or, where that is 1 and so says little, the declared default); what is free on both sides is 1 for the first
    dimension, else 8. ``end`` "low" and "high" are the ends of what is declared: of ranges, the least and the greatest length
    that both allow (of one without an upper end the usual one), of enumerated shapes the smallest and the largest.

    Raises InputError where no shape is declared.
    """
    image = a.image or b.image
    if image is not None:
        return (1, image.channels, image.height, image.width)
    if a.kind in ("double", "int64"):
        return ()
    if a.shape is None and b.shape is None:
        raise InputError(
            f"the shape of input {a.name!r} is not declared", fix="give the inputs: verify(a, b, inputs={name: array})"
        )
    listed = _enumerated(a, b, largest=end == "high")
    if listed is not None:
        return listed
    rank = len(a.shape if a.shape is not None else b.shape or ())
    sides = zip(_each(a, rank), _each(b, rank), strict=True)
    usual = tuple(_one_length(mine, theirs, i) for i, (mine, theirs) in enumerate(sides))
    return usual if end == "usual" else tuple(_end(a, b, i, rank, usual[i], end) for i in range(rank))


def _end(a: Feature, b: Feature, axis: int, rank: int, usual: int, end: End) -> int:
    """The end of the range that both allow; the usual length where nothing is declared, or a side fixes it."""
    allowed = [f.ranges[axis] for f in (a, b) if len(f.ranges) == rank]
    shapes = [f.shape for f in (a, b) if not f.ranges and f.shape is not None and len(f.shape) == rank]
    if not allowed or any(isinstance(shape[axis], int) for shape in shapes):
        return usual
    low = max(1, *(r.low for r in allowed))
    if end == "low":
        return low
    return max(low, min((r.high for r in allowed if r.high is not None), default=usual))


def _one_length(mine: tuple[int | None, bool], theirs: tuple[int | None, bool], axis: int) -> int:
    fixed = [length for length, only in (mine, theirs) if only and length is not None]
    if fixed:
        return fixed[0]
    known = [length for length, _ in (mine, theirs) if length is not None]
    return max(known) if known else 1 if axis == 0 else FREE_LENGTH


def _enumerated(a: Feature, b: Feature, *, largest: bool) -> tuple[int, ...] | None:
    """The smallest, or the largest, enumerated shape that the other side takes too; where there is none, of one side."""
    shapes = listed(a, b) or sorted(a.enumerated or b.enumerated, key=_by_size)
    return shapes[-1 if largest else 0] if shapes else None


def listed(a: Feature, b: Feature) -> list[tuple[int, ...]]:
    """The enumerated shapes of one side that the other takes too, the smallest first; empty where neither side lists any."""
    one, other = (a, b) if a.enumerated else (b, a)
    return sorted((shape for shape in one.enumerated if _takes(other, shape)), key=_by_size)


def _by_size(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return math.prod(shape), shape


def _takes(feature: Feature, shape: tuple[int, ...]) -> bool:
    if feature.enumerated:
        return shape in feature.enumerated
    if feature.ranges:
        return len(feature.ranges) == len(shape) and all(
            r.low <= n and (r.high is None or n <= r.high) for r, n in zip(feature.ranges, shape, strict=True)
        )
    declared = feature.shape
    return declared is None or (
        len(declared) == len(shape)
        and all(not isinstance(d, int) or d < 0 or d == n for d, n in zip(declared, shape, strict=True))
    )


def _each(feature: Feature, rank: int) -> list[tuple[int | None, bool]]:
    """(length, whether it is the only one allowed) of every dimension; (None, False) where nothing is said."""
    shape = feature.shape if feature.shape is not None and len(feature.shape) == rank else (None,) * rank
    found: list[tuple[int | None, bool]] = []
    for i, declared in enumerate(shape):
        known = declared if isinstance(declared, int) and declared >= 0 else None
        allowed = feature.ranges[i] if len(feature.ranges) == rank else None
        if allowed is None or allowed.low == allowed.high:
            found.append((known, known is not None))
        else:
            found.append((allowed.low if allowed.low > 1 or known is None else known, False))
    return found
