"""Fills: the elements of a value that are far larger than all others, as a mask's -1e9 is beside ordinary scores.

They make the scale of the value, and are of no concern to what the rest is for. So a value that holds some is judged twice: the
ordinary elements by their own scale, and all of them by the whole one's.

What counts as far larger: between the two lies a gap of at least four octaves, a factor of 16, in which there is no element at
all; the larger ones are about one size (within three octaves) or no more than half of the value; and the smaller ones are a
quarter of it, or further below. Ordinary data has such gaps only between its smallest elements, where neither holds. Several
kinds of fills are taken off one after the other. Among fewer than eight elements the gap has to be ten octaves.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from coreproof.verification.error_stats import BLOCK

_EMPTY = 4
"""Octaves without any element between ordinary elements and fills."""

_ONE_SIZE = 3
"""Octaves within which fills are about one size."""

_FAR = 7
"""Octaves without any element that say more than how few elements lie below them."""

_SMALL, _EMPTY_OF_SMALL = 8, 10
"""Among fewer elements a gap is often chance: of four normally distributed numbers one in 25 leaves one of four octaves, one in a
thousand one of ten."""

_SAMPLE = 1024
"""Elements that are looked at first: nearly all values have no fills."""


class Ordinary(NamedTuple):
    """The ordinary elements of a value that holds fills: those up to ``limit``, while each fill is at least ``above``.

    ``scale`` is their root mean square, ``elements`` how many they are. ``error`` is what is predicted of them (absolute, root
    mean square), ``own`` the part of it that the operator itself adds.
    """

    limit: float
    above: float
    scale: float
    elements: int
    error: float = 0.0
    own: float = 0.0


def ordinary_part(array: np.ndarray, largest: float) -> Ordinary | None:
    """The ordinary elements of a value whose largest finite element has this size; None where it holds no fills."""
    if array.dtype.kind != "f" or array.size < 2 or not largest > 0 or math.isinf(largest):
        return None
    flat = array.reshape(-1)
    if array.size > _SAMPLE:
        # places that share no factor with the lengths of axes, so that no row or column stands for all
        places = (np.arange(_SAMPLE) * (int(array.size * 0.6180339887) | 1)) % array.size
        seen = _sizes(flat[places], {})
        # by how many octaves the largest of all lies above what was looked at
        hidden = math.frexp(largest)[1] - max(seen, default=-(1 << 20))
        if hidden <= _EMPTY and _cut(seen) is None:
            return None
    octaves: dict[int, int] = {}
    for start in range(0, array.size, BLOCK):
        _sizes(flat[start : start + BLOCK], octaves)
    cut = _cut(octaves)
    if cut is None:
        return None
    below, above = cut
    limit = math.ldexp(1.0, below) if below > _ZERO else 0.0
    squares, count = 0.0, 0
    for start in range(0, array.size, BLOCK):
        block = flat[start : start + BLOCK]
        kept = block[np.abs(block) <= limit].astype(np.float64)
        count += kept.size
        squares += float(np.sum(np.square(kept / limit))) if limit else 0.0
    return Ordinary(limit, math.ldexp(1.0, above - 1), limit * math.sqrt(squares / count) if count else 0.0, count)


def largest_finite(a: np.ndarray) -> float:
    """The size of the largest finite element."""
    if a.dtype.kind != "f" or not a.size:
        return 0.0
    ends = max(float(a.max()), -float(a.min()))
    return ends if math.isfinite(ends) else float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))


_ZERO = -(1 << 16)
"""The octave that zeros are counted in: below all others."""


def _sizes(block: np.ndarray, octaves: dict[int, int]) -> dict[int, int]:
    """How many finite elements lie in each octave, added to ``octaves``."""
    if block.dtype == np.float32:
        found = _float32_sizes(block, octaves)
        if found is not None:
            return found
    zeros = block == 0
    _, exponents = np.frexp(block[np.isfinite(block) & ~zeros])
    if exponents.size:
        lowest = int(exponents.min())
        for octave, count in enumerate(np.bincount(exponents - lowest).tolist(), start=lowest):
            if count:
                octaves[octave] = octaves.get(octave, 0) + count
    if zeros.any():
        octaves[_ZERO] = octaves.get(_ZERO, 0) + int(np.count_nonzero(zeros))
    return octaves


_EXPONENTS, _MANTISSA, _BIAS = 0xFF, 23, 126


def _float32_sizes(block: np.ndarray, octaves: dict[int, int]) -> dict[int, int] | None:
    """The same from the bits, several times as fast; None for numbers whose exponent does not say their size."""
    counts = np.bincount(
        np.ascontiguousarray(block).view(np.uint32) >> _MANTISSA & _EXPONENTS, minlength=_EXPONENTS + 1
    )
    zeros = int(counts[0])
    if zeros and zeros != block.size - np.count_nonzero(block):
        return None
    for exponent in np.flatnonzero(counts[1:_EXPONENTS]).tolist():
        octave = exponent + 1 - _BIAS
        octaves[octave] = octaves.get(octave, 0) + int(counts[exponent + 1])
    if zeros:
        octaves[_ZERO] = octaves.get(_ZERO, 0) + zeros
    return octaves


def _cut(octaves: dict[int, int]) -> tuple[int, int] | None:
    """The highest octave of the ordinary elements and the lowest of the fills."""
    found: tuple[int, int] | None = None
    total = left = sum(count for octave, count in octaves.items() if octave > _ZERO)
    order = sorted(octaves, reverse=True)
    top = order[0] if order else 0
    for octave, following in pairwise(order):
        left -= octaves[octave]
        if octave - following <= (_EMPTY_OF_SMALL if total < _SMALL else _EMPTY):
            continue
        if top - octave >= _ONE_SIZE and 2 * left < total:
            break
        # a few small numbers lie below all others by chance
        if 4 * left < total and octave - following <= _FAR:
            break
        found, top = (following, octave), following
    return found
