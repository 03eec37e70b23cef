"""Whether a weight is another but for rounding to steps, and which slices are not: a row in another's place, or larger."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from coreproof.model.numbers import rms

Array = npt.NDArray[np.float64]

SAME = 2e-3
"""Relative rms difference below which two weights are the same but for rounding to float16 and folding."""

_NEAREST = 0.25 + 1e-3
"""The share of a step's square up to which each number is the nearest that can be stored: half a step, and what rounding adds."""

_OUT_OF_LINE = 6.0
"""How many times the median of all slices a slice's squared distance may be: one tool rounds them alike, and vectors in a
table leave up to 3 times it at a few (measured, 64 entries of pairs, normal weights)."""

_MANY = 64
"""Numbers from which on their mean says something."""

_SURE = 5.0
"""Standard deviations of a mean that chance does not bring about."""

_SKEWED = 0.05
"""The share of its rounding by which a weight may grow: grids are not even around it, and clusters not quite settled."""

_TOLD = 4
"""Slices of a weight that are told of those that are another's."""


def explains(now: Array, meant: Array, steps: Array) -> bool:
    """Whether steps of this size, NaN where a number is left out, make ``now`` of ``meant``.

    A number becomes the nearest that can be stored, half a step away at most, or, where a tool spreads errors over its
    neighbours (GPTQ), the one beyond: root mean squares over a slice are held against the whole step. The weight as a
    whole has to be nearer to the source's than zeros are, which a step as large as the weight itself would not
    show, and so has each slice of which not every number is the nearest: a row in another's place is further from its own than
    zeros. A slice that is much further off, in steps, than the others are was not rounded as they were. Of numbers that are left
    out each is to hold less than half of what one that is kept holds, in squares. And the weight as a whole is neither larger nor
    shifted, which each number's step would hide.
    """
    kept = np.isfinite(steps)
    if np.sum(np.square(now - meant)) >= np.sum(np.square(meant)):
        return False
    # pruning takes the small ones; where large ones are gone, they got lost
    if kept.any() and not kept.all() and rms(meant[~kept]) > math.sqrt(0.5) * rms(meant[kept]):
        return False
    if _is_moved(now[kept], meant[kept]):
        return False
    # axes that hold channels: the first two; a vector is one slice
    return all(bool(_explained(now, meant, steps, axis).all()) for axis in (range(2) if now.ndim > 1 else (None,)))


def _is_moved(now: Array, meant: Array) -> bool:
    """Whether a weight is larger or smaller than the other, or shifted against it, by more than rounding makes it.

    What is rounded to the nearest of a grid is on the average what it was; what becomes the mean of its neighbours (k-means) is
    smaller by what it lost. So of the two gains of a least-squares fit, each side against the other, none is above 1.
    """
    meant = meant.clip(now.min(initial=np.inf), now.max(initial=-np.inf)) if now.size else meant
    if now.size < _MANY or not meant.any():
        return False
    off, sizes = now - meant, (float(np.square(now).sum()), float(np.square(meant).sum()))
    chance = _SURE / math.sqrt(now.size)
    share = math.sqrt(float(np.square(off).sum()) / sizes[1])
    product = float((now * meant).sum())
    if max(product / size for size in sizes) > 1 + SAME + share * (_SKEWED + chance):
        return True
    spread = float(off.std())
    return abs(float(off.mean())) > SAME * rms(meant) + spread * (2 * _SKEWED + chance)


def _explained(now: Array, meant: Array, steps: Array, axis: int | None) -> npt.NDArray[np.bool_]:
    """Which slices along an axis steps of this size make of the other's; without an axis all as one."""
    kept = np.isfinite(steps)
    # what lies beyond the largest that can be stored becomes that, however far away it is
    off = np.where(kept, now - meant.clip(now.min(), now.max()), 0.0)
    allowed = np.hypot(np.where(kept, steps, 0.0), SAME * np.where(kept, meant, 0.0))
    rest = None if axis is None else tuple(i for i in range(now.ndim) if i != axis)
    found, most = np.square(off).sum(rest), np.square(allowed).sum(rest)
    alike = np.square(np.where(kept, now - meant, 0.0)).sum(rest) < np.square(np.where(kept, meant, 0.0)).sum(rest)
    shares = np.divide(found, most, out=np.zeros_like(found), where=most > 0)
    nearest = found <= _NEAREST * most
    like_the_rest = shares <= _OUT_OF_LINE * np.median(shares)
    explained: npt.NDArray[np.bool_] = (found <= most) & (nearest | (alike & like_the_rest))
    return explained if axis is None or kept.all() else explained & ~_lost(meant, kept, axis)


def _lost(meant: Array, kept: npt.NDArray[np.bool_], axis: int) -> npt.NDArray[np.bool_]:
    """The slices of which large numbers were left out, while of most that miss any only small ones were: what pruning takes.

    Where whole slices, or a share of each block, are pruned, none is like that, or most are.
    """
    sizes, count = np.abs(np.moveaxis(meant, axis, 0)).reshape(meant.shape[axis], -1), meant.shape[axis]
    left = ~np.moveaxis(kept, axis, 0).reshape(count, -1)
    smallest = np.where(left, np.inf, sizes).min(1)
    if not np.isfinite(smallest).any():
        return np.zeros(count, np.bool_)
    beyond: npt.NDArray[np.bool_] = np.where(left, sizes, 0.0).max(1) > np.median(smallest[np.isfinite(smallest)])
    return beyond if 2 * beyond.sum() < left.any(1).sum() else np.zeros(count, np.bool_)


def altered(now: Array, meant: Array, steps: Array) -> str:
    """Which slices of a weight are not what it was made from, in words, where those are the smaller part; else empty.

    Rounding touches all of a weight alike: where most rows (or columns) are the source's but for their bits and a few are not,
    these hold something else, another row of the source's or a multiple of their own.
    """
    meant = np.broadcast_to(meant, now.shape)
    for axis, what in ((0, "row"), (1, "column")) if now.ndim > 1 else ():
        wrong = np.flatnonzero(~_explained(now, meant, steps, axis))
        if wrong.size and 2 * wrong.size < now.shape[axis]:
            one, other, step = (
                np.moveaxis(array, axis, 0).reshape(now.shape[axis], -1) for array in (now, meant, steps)
            )
            told = (f"{what} {at} {_held(one[at], at, other, step[at], what)}" for at in wrong[:_TOLD])
            return ", ".join(told) + (f" and {wrong.size - _TOLD} more" if wrong.size > _TOLD else "")
    return ""


def _held(now: Array, at: int, others: Array, steps: Array, what: str) -> str:
    """What a slice holds in its own's place."""
    if not now.any():
        return "holds zeros"
    rows = np.broadcast_to(now, others.shape), np.broadcast_to(steps, others.shape)
    moved = np.flatnonzero(_explained(rows[0], others, rows[1], 0))
    if (moved := moved[moved != at]).size:
        nearest = min(moved, key=lambda i: rms(np.where(np.isfinite(steps), now - others[i], 0.0)))
        return f"holds {what} {nearest} of its source"
    power = float(np.sum(np.square(others[at])))
    factor = float(np.sum(now * others[at])) / power if power > 0 else 0.0
    scaled = _explained(now, factor * others[at], steps, None).all()
    return f"is {factor:.3g} times its source's" if scaled else "is another"
