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
    if (pictures := _pictures(a, b, end)) is not None:
        return pictures
    if a.kind in ("double", "int64", "string"):
        return ()
    if a.shape is None and b.shape is None:
        raise InputError(
            f"the shape of input {a.name!r} is not declared", fix="give the inputs: verify(a, b, inputs={name: array})"
        )
    # where no shape of the one is among those of the other, one side at least gets what it declares
    shapes = listed(a, b) or sorted(a.enumerated or b.enumerated, key=_by_size)
    if shapes:
        return shapes[-1 if end == "high" else 0]
    rank = len(a.shape if a.shape is not None else b.shape or ())
    usual = tuple(map(_one_length, _each(a, rank), _each(b, rank), range(rank)))
    return usual if end == "usual" else tuple(_end(a, b, i, rank, usual[i], end) for i in range(rank))


def _pictures(a: Feature, b: Feature, end: End) -> tuple[int, ...] | None:
    """The same of pictures, whose declared sizes are height and width; None where neither side takes one."""
    feature = a if a.image is not None else b
    if feature.image is None:
        return None
    usual = (1, feature.image.channels, feature.image.height, feature.image.width)
    if end == "usual" or (a.image is not None and b.image is not None and a.image != b.image):
        return usual
    if shapes := listed(a, b):
        return shapes[-1 if end == "high" else 0]
    each = [r.low if end == "low" else r.high for r in feature.ranges]
    size = [usual[2 + axis] if length is None else max(1, length) for axis, length in enumerate(each)]
    shape = (*usual[:2], *size) if len(size) == len(usual) - 2 else usual
    return shape if all(_takes_numbers(f, shape) for f in (a, b)) else usual


def _takes_numbers(feature: Feature, shape: tuple[int, ...]) -> bool:
    """Whether a side that takes no picture takes its numbers in this shape; one that takes a picture says so itself."""
    return feature.image is not None or takes_shape(feature, shape)


def _end(a: Feature, b: Feature, axis: int, rank: int, usual: int, end: End) -> int:
    """The end of the range that both allow; the usual length where nothing is declared, or a side fixes it."""
    allowed = [f.ranges[axis] for f in (a, b) if len(f.ranges) == rank]
    shapes = [f.shape for f in (a, b) if not f.ranges and f.shape is not None and len(f.shape) == rank]
    if not allowed or any(isinstance(shape[axis], int) for shape in shapes):
        return usual
    low = max(1, *(r.low for r in allowed))  # Core ML's ranges may begin at 0, at which nothing is computed
    if end == "low":
        return low
    return max(low, min((r.high for r in allowed if r.high is not None), default=usual))


def _one_length(a: tuple[int | None, bool], b: tuple[int | None, bool], axis: int) -> int:
    fixed = [length for length, only in (a, b) if only and length is not None]
    if fixed:
        return fixed[0]
    known = [length for length, _ in (a, b) if length is not None]
    return max(known) if known else 1 if axis == 0 else FREE_LENGTH


def listed(a: Feature, b: Feature) -> list[tuple[int, ...]]:
    """The enumerated shapes of one side that the other takes too, the smallest first; empty where neither side lists any."""
    one, other = (a, b) if a.enumerated else (b, a)
    shapes = one.enumerated
    if one.image is not None:  # of a picture height and width are listed
        shapes = tuple((1, one.image.channels, *size) for size in shapes if len(shapes) > 1)
    return sorted((shape for shape in shapes if _takes_numbers(other, shape)), key=_by_size)


def _by_size(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return math.prod(shape), shape


def takes_shape(feature: Feature, shape: tuple[int, ...]) -> bool:
    """Whether a feature declares this shape: as its own, among those that it lists, or within its ranges."""
    declared = feature.shape
    if feature.enumerated or feature.ranges:
        within = len(feature.ranges) == len(shape) and all(
            r.low <= n and (r.high is None or n <= r.high) for r, n in zip(feature.ranges, shape, strict=True)
        )
        return shape == declared or (shape in feature.enumerated if feature.enumerated else within)
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
            # a range from 1 on says nothing of the length that is meant; the default shape does
            found.append((allowed.low if allowed.low > 1 or known is None else known, False))
    return found
