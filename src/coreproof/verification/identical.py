"""Whether two models answer a further draw with the very same numbers, which no tolerance has to explain, and what they held.

Most conversions to float32 are run by the same kernels as their source, so that every number is equal. Where all of them were at
one draw, they are looked at for being so at the next: of equal numbers nothing has to be predicted, and no figures are asked for
but what they held. Where a single one differs, or is not finite, the draw is judged as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from coreproof.pairing.structured import Leaves
from coreproof.verification.content import Content
from coreproof.verification.error_stats import BLOCK
from coreproof.verification.row import Row
from coreproof.verification.tolerance import VACUOUS

Array = np.ndarray

_SMALL = 1 << 12
"""Elements up to which values are looked at many at a time: a single look costs as much as so many numbers."""


def all_identical(rows: Sequence[Row]) -> bool:
    """Whether both sides had equal numbers in every row, and rounding would have explained no half of them."""
    return all(
        row.agrees
        and row.judgement.max_error == 0
        and not row.judgement.misplaced
        and not any(row.judgement.nan + row.judgement.infinite)
        and (row.tolerance.typical or 0.0) < VACUOUS
        for row in rows
    )


def contents_if_identical(pairs: Mapping[str, tuple[Array, Array]]) -> dict[str, Content] | None:
    """What each value held in one sample, by name; None where a number differs or is not finite, and for what is no number."""
    found = dict[str, Content]()
    small: dict[str, tuple[Array, Array]] = {}
    for name, (a, b) in pairs.items():
        plain = a.dtype == b.dtype and a.dtype.kind in "fiub" and a.size == b.size and not isinstance(a, Leaves)
        if not plain or not a.size:
            return None
        if a.dtype == np.float32 and a.size <= _SMALL:
            small[name] = a.reshape(-1), b.reshape(-1)
            continue
        ends = _ends_if_equal(a.reshape(-1), b.reshape(-1))
        if ends is None:
            return None
        found[name] = _held(a.size, *ends)
    for names in _chunks(small):
        sides = [np.concatenate([small[name][side] for name in names]) for side in (0, 1)]
        if not np.array_equal(*sides):
            return None
        starts = np.cumsum([0, *(small[name][0].size for name in names[:-1])])
        lows, highs = (end.reduceat(sides[0], starts) for end in (np.minimum, np.maximum))
        if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
            return None
        for name, low, high in zip(names, lows.tolist(), highs.tolist(), strict=True):
            found[name] = _held(small[name][0].size, low, high)
    return found


def _held(elements: int, low: float, high: float) -> Content:
    # of a single number zero may be the answer
    return Content(1, elements, 0, 0, 0, low, high, blank=int(elements > 1 and low == high == 0))


def _ends_if_equal(a: Array, b: Array) -> tuple[float, float] | None:
    """The smallest and the largest number, where all are equal and finite; block by block, so that they stay in the cache."""
    low, high = np.inf, -np.inf
    for start in range(0, a.size, BLOCK):
        p, q = a[start : start + BLOCK], b[start : start + BLOCK]
        if not np.array_equal(p, q):
            return None
        low, high = min(low, float(p.min())), max(high, float(p.max()))
        if not np.isfinite(high - low):
            return None
    return low, high


def _chunks(small: Mapping[str, tuple[Array, Array]]) -> Iterator[list[str]]:
    """The names in groups that together have no more elements than a block."""
    names, total = list[str](), 0
    for name, (a, _) in small.items():
        if names and total + a.size > BLOCK:
            yield names
            names, total = [], 0
        names.append(name)
        total += a.size
    if names:
        yield names
