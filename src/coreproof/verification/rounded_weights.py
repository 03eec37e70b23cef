"""Whether a weight is another but for rounding to steps, and which slices are not: a row in another's place, or larger."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain

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

_FEW_OTHERS = 0.02
"""The share of numbers that a table may not serve best: centres that moved once more after the last look at the numbers."""

_EVEN = 0.25
"""The share of neighbours that may have another step: blocks end now and then."""

_LIKELY = 2.0
"""Times what a number is off by typically: hardly one is off by more."""

_CLEARLY = 0.2
"""By so much further than the nearest is more than a table moves at last: a twentieth of the gap between two entries."""

_ODD = 2
"""Numbers of a slice that may have become another than the nearest where hardly any of the others did."""

_BESIDE = 1.5
"""Steps that lie between a number and the next but nearest that is stored, at most."""

_TELLING = 0.15
"""The share of numbers that have to be further from another slice's than from the nearest, for a table to tell slices apart."""

_USED = 4
"""Times that the entries of a table are used on the average, at least, for it to be one."""

_VECTORS = (2, 4, 8)
"""Numbers that an entry of a table may hold, besides one."""

_PLACES = 64
"""Places along each other axis of a slice that are looked at for numbers that are not the nearest."""

_LARGEST_TABLE = 256
"""Entries of the largest table, of 8 bits."""

_TOLD = 4
"""Slices, or numbers, of a weight that are told of those that are another's."""


def explains(now: Array, meant: Array, steps: Array, unsure: Array | float = 0.0) -> bool:
    """Whether steps of this size, NaN where a number is left out, make ``now`` of ``meant``.

    A number becomes the nearest that can be stored, half a step away at most, or, where a tool spreads errors over its
    neighbours (GPTQ), the one beyond: root mean squares over a slice are held against the whole step. The weight as a
    whole has to be nearer to the source's than zeros are, which a step as large as the weight itself would not
    show, and so has each slice of which not every number is the nearest: a row in another's place is further from its own than
    zeros. A slice that is much further off, in steps, than the others are was not rounded as they were. Of numbers that are left
    out each is to hold less than half of what one that is kept holds, in squares. And the weight as a whole is neither larger nor
    shifted, which each number's step would hide, and no single number is ``torn``. ``unsure``: by which share each number of
    ``meant`` may be off itself.
    """
    kept = np.isfinite(steps)
    if np.sum(np.square(now - meant)) >= np.sum(np.square(meant)) and not _became_nearest(now, meant, steps, 0).all():
        return False
    # pruning takes the small ones; where large ones are gone, they got lost
    if kept.any() and not kept.all() and rms(meant[~kept]) > math.sqrt(0.5) * rms(meant[kept]):
        return False
    if _is_moved(now, meant, steps) or torn(now, meant, steps, unsure).size:
        return False
    # axes that hold channels: the first two; a vector is one slice
    return all(
        bool(_explained(now, meant, steps, axis, unsure).all()) for axis in (range(2) if now.ndim > 1 else (None,))
    )


def _is_moved(now: Array, meant: Array, steps: Array) -> bool:
    """Whether a weight is larger or smaller than the other, or shifted against it, by more than rounding makes it.

    That moves numbers over the edges between two that can be stored, besides: where each became the nearest one, a grid that is
    uneven around the weight moved it. What lies beyond the last that can be stored may have become that, or have a share in it.
    """
    kept = np.isfinite(steps)
    if kept.sum() < _MANY or not meant[kept].any():
        return False
    one, other = now[kept], meant[kept]
    return all(_drifted(one, m) for m in (other, other.clip(one.min(), one.max()))) and not _are_nearest(
        now, meant, steps
    )


def _drifted(now: Array, meant: Array) -> bool:
    """Whether numbers are larger, smaller or shifted on the average.

    What is rounded to the nearest of a grid is on the average what it was; what becomes the mean of its neighbours (k-means) is
    smaller by what it lost. So of the two gains of a least-squares fit, each side against the other, none is above 1.
    """
    off, sizes = now - meant, (float(np.square(now).sum()), float(np.square(meant).sum()))
    if not all(sizes):
        return True
    chance = _SURE / math.sqrt(now.size)
    share = math.sqrt(float(np.square(off).sum()) / sizes[1])
    product = float((now * meant).sum())
    if max(product / size for size in sizes) > 1 + SAME + share * (_SKEWED + chance):
        return True
    return abs(float(off.mean())) > SAME * rms(meant) + float(off.std()) * (2 * _SKEWED + chance)


def _are_nearest(now: Array, meant: Array, steps: Array) -> bool:
    """Whether all but a few numbers became the nearest of those that are stored: in even steps, or in tables of any.

    A table may be that of the whole weight, of each row or of each column.
    """
    one, other, step, _ = _spread(now, meant, steps, None)
    most = _FEW_OTHERS * np.isfinite(step).sum()
    return any(further.sum() <= most for further in _further(one, other, step))


def _further(
    now: Array, meant: Array, steps: Array, unsure: Array | float = 0.0, clearly: float = SAME, *, whole: bool = False
) -> Iterator[npt.NDArray[np.bool_]]:
    """Which numbers did not become the nearest that is stored, by what is stored: even steps, or one table or several.

    ``clearly``: by which share of the distance to the nearest they have to be further than that. ``whole``: no tables of slices.
    """
    kept = np.isfinite(steps)
    off = np.abs(now - meant) - (SAME + _LIKELY * unsure) * np.abs(meant)
    if _are_even(steps):
        yield kept & (off > math.sqrt(_NEAREST) * (1 + clearly / 2) * np.where(kept, steps, 0.0))
    for axis in (None, *range(min(2, now.ndim) if now.ndim > 1 and not whole else 0)):
        sides = [a[None] if axis is None else np.moveaxis(a, axis, 0) for a in (now, meant, off, kept)]
        found = np.zeros(sides[0].shape, np.bool_)
        for at in range(len(found)):
            told = sides[3][at]
            one, other, distance = (side[at][told] for side in sides[:3])
            found[at][told] = _beyond_nearest(one, other, distance, clearly)
        yield found[0] if axis is None else np.moveaxis(found, 0, axis)


def torn(now: Array, meant: Array, steps: Array, unsure: Array | float = 0.0) -> npt.NDArray[np.intp]:
    """The places, [count, rank], of numbers that lie further from their source than the two nearest that are stored.

    A tool that makes of each number the nearest, and of a few the one beside it, makes none of these: they were changed.
    None, where a tool rounds otherwise.
    """
    none = np.empty((0, now.ndim), np.intp)
    kept = np.isfinite(steps)
    meant = meant.clip(now.min(), now.max())
    off = np.abs(now - meant) - (SAME + _SURE * unsure) * np.abs(meant)
    with np.errstate(invalid="ignore"):  # of what is left out
        suspects = np.argwhere(kept & (off > steps))
    most = max(_FEW_OTHERS * kept.sum(), _ODD)
    if not 0 < len(suspects) <= most:
        return none
    if _are_even(steps):
        others = kept & (off > math.sqrt(_NEAREST) * (1 + _CLEARLY) * np.where(kept, steps, 0.0))
        far = [
            at for at in map(tuple, suspects) if off[at] > _BESIDE * steps[at] and not _is_last(now, meant, steps, at)
        ]
        return np.array(far, np.intp) if far and others.sum() <= most else none
    for axis in (None, *range(min(2, now.ndim))):
        if axis == 0 and any(
            further.mean() <= _FEW_OTHERS for further, _, _ in _vectors(*_spread(now, meant, steps, None)[:3])
        ):
            return none
        slices = [()] if axis is None else np.unique(suspects[:, axis])[:_PLACES].tolist()
        places = [(...,) if axis is None else (*[slice(None)] * axis, at) for at in slices]
        found = [_beyond_both(now[at], meant[at], off[at], kept[at]) for at in places]
        if all(told is not None for told in found):
            whole = np.zeros(now.shape, np.bool_)
            for at, told in zip(places, found, strict=True):
                whole[at] = told
            return np.argwhere(whole)
    return none


def _beyond_both(now: Array, meant: Array, off: Array, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Which numbers lie further off than the two nearest of the table that these are of; None where they are of none."""
    table = np.unique(now[kept])
    if not 1 < table.size <= _LARGEST_TABLE or kept.sum() < _MANY:
        return None
    after = np.searchsorted(table, meant).clip(1, table.size - 1)
    nearest, beside = np.sort(np.abs(table[np.stack([after - 1, after])] - meant), axis=0) * (1 + _CLEARLY)
    return None if (kept & (off > nearest)).sum() > _FEW_OTHERS * kept.sum() else kept & (off > beside)


def _is_last(now: Array, meant: Array, steps: Array, at: tuple[int, ...]) -> bool:
    """Whether a number became the last that its slice, or block, can store, with its source beyond that."""
    same = now[steps == steps[at]]
    if same.min() == same.max():  # the last of a table has a step of its own
        same = now
    return bool(now[at] == (same.max() if meant[at] > now[at] else same.min()))


def _are_even(steps: Array) -> bool:
    """Whether steps are the same for numbers beside each other, as scales make them; the gaps of a table are not."""
    for axis in range(steps.ndim):
        beside = np.diff(steps, axis=axis)
        told = np.isfinite(beside)
        if told.any() and np.mean(np.abs(beside[told]) > SAME * np.nanmax(np.abs(steps))) < _EVEN:
            return True
    return False


def _beyond_nearest(now: Array, meant: Array, off: Array, clearly: float) -> npt.NDArray[np.bool_]:
    """Which numbers are further from what they became than from another that is stored."""
    table = np.unique(now)
    if table.size > _LARGEST_TABLE or not table.size:
        return np.ones(now.shape, np.bool_)
    after = np.searchsorted(table, meant).clip(1, max(1, table.size - 1))
    around = np.abs(table[np.stack([after - 1, after.clip(max=table.size - 1)])] - meant)
    beyond: npt.NDArray[np.bool_] = off > around.min(0) * (1 + clearly)
    return beyond


def _vectors(now: Array, meant: Array, steps: Array) -> Iterator[tuple[npt.NDArray[np.bool_], int, int]]:
    """``_further`` of tables that hold several numbers each, neighbours along an axis, of a weight of which all is kept.

    With that axis, and how many: so many are further all at once.
    """
    if not np.isfinite(steps).all():
        return
    for axis in range(min(2, now.ndim)):
        for size in (size for size in _VECTORS if now.shape[axis] % size == 0):
            one, other = (np.moveaxis(a, axis, -1).reshape(*np.delete(a.shape, axis), -1, size) for a in (now, meant))
            table = np.unique(one.reshape(-1, size), axis=0)
            # of hardly more vectors than entries each is the nearest to itself
            if not 1 < len(table) <= min(_LARGEST_TABLE, one[..., 0].size // _USED):
                continue
            squares = np.square(other).sum(-1, keepdims=True) - 2 * other @ table.T + np.square(table).sum(1)
            nearest = np.sqrt(np.maximum(squares.min(-1), 0.0))
            off = np.sqrt(np.square(one - other).sum(-1)) - SAME * np.sqrt(np.square(other).sum(-1))
            further = np.repeat((off > nearest * (1 + _CLEARLY))[..., None], size, axis=-1)
            yield np.moveaxis(further.reshape(*further.shape[:-2], -1), -1, axis), axis, size


def _became_nearest(now: Array, meant: Array, steps: Array, axis: int) -> npt.NDArray[np.bool_]:
    """The slices of which all but a few numbers became the nearest of a table, while of others' numbers many are not.

    So a slice may be off by more than zeros are, where the table holds nothing that is near it.
    """
    one, other, step, _ = _spread(now, meant, steps, axis)
    rest = tuple(at for at in range(now.ndim) if at != axis)
    count = one.size / one.shape[axis]
    moved = np.roll(other, 1, axis)
    singles = (_further(one, source, step, whole=True) for source in (other, moved))
    scalars = ((further, control, 1) for further, control in zip(*singles, strict=True))
    both = zip(_vectors(one, other, step), _vectors(one, moved, step), strict=True)
    vectors = ((further, control, size) for (further, _, size), (control, _, _) in both)
    for further, control, size in chain(scalars, vectors):
        if control.mean() > _TELLING and further.mean() <= _FEW_OTHERS:
            slices: npt.NDArray[np.bool_] = further.sum(rest) <= _FEW_OTHERS * count + _ODD * size
            return slices
    return np.zeros(now.shape[axis], np.bool_)


def _strays(now: Array, meant: Array, steps: Array, axis: int, unsure: Array | float) -> npt.NDArray[np.bool_]:
    """The slices of which many numbers did not become the nearest that is stored, where those of most slices did.

    What is larger than its source lies within its steps, and on another one. None, where a tool rounds otherwise.
    """
    seen = _spread(now, meant, steps, axis, unsure)
    rest = tuple(at for at in range(now.ndim) if at != axis)
    told = np.isfinite(seen[2]).sum(rest)
    scalars = ((further, axis, 1) for further in _further(*seen, _CLEARLY))
    for further, along, several in chain(scalars, _vectors(*seen[:3])):
        size = 1 if along == axis else several
        counts = further.sum(rest)
        if told.any() and np.median(counts[told > 0] / told[told > 0]) <= _FEW_OTHERS:
            # as many as in the other slices, by chance
            usual = told * (counts.sum() - counts) / np.maximum(told.sum() - told, 1)
            strays: npt.NDArray[np.bool_] = counts > usual + _SURE * np.sqrt(usual * size) + _ODD * size
            return strays
    return np.zeros(now.shape[axis], np.bool_)


def _spread(
    now: Array, meant: Array, steps: Array, axis: int | None, unsure: Array | float = 0.0
) -> tuple[Array, Array, Array, Array]:
    """Evenly spread places of long slices, which say enough; what lies beyond the last that is stored becomes that.

    Neighbours stay together: a table may hold several numbers each.
    """
    places = np.ix_(*(_blocks(length if at != axis else 0, length) for at, length in enumerate(now.shape)))
    doubts = np.broadcast_to(unsure, now.shape)[places]
    return now[places], meant.clip(now.min(), now.max())[places], steps[places], doubts


def _blocks(long: int, length: int) -> npt.NDArray[np.intp]:
    """Evenly spread blocks of places along an axis that is ``long``; else all."""
    if long <= _PLACES:
        return np.arange(length)
    most = _VECTORS[-1]
    starts = np.linspace(0, length // most - 1, _PLACES // most).astype(np.intp) * most
    return (starts[:, None] + np.arange(most)).reshape(-1)


def off_steps(now: Array, meant: Array, steps: Array, unsure: Array | float = 0.0) -> float:
    """The share of numbers that did not become the nearest that is stored: of its own weight hardly any."""
    seen = _spread(now, meant, steps, None, unsure)
    vectors = (further for further, _, _ in _vectors(*seen[:3]))
    return float(min(further.mean() for further in chain(_further(*seen, _CLEARLY), vectors)))


def _explained(
    now: Array, meant: Array, steps: Array, axis: int | None, unsure: Array | float = 0.0
) -> npt.NDArray[np.bool_]:
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
    if axis is None:
        return explained
    if not explained.all():
        explained |= _became_nearest(now, meant, steps, axis)
    # what was guessed slice by slice is off by its own share in each
    if not (isinstance(unsure, np.ndarray) and unsure.shape[axis] > 1):
        explained &= ~_strays(now, meant, steps, axis, unsure)
    return explained if kept.all() else explained & ~_lost(meant, kept, axis)


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


def altered(now: Array, meant: Array, steps: Array, unsure: Array | float = 0.0) -> str:
    """Which slices of a weight are not what it was made from, in words, where those are few, or how all is moved; else empty.

    Rounding touches all of a weight alike: where most rows (or columns) are the source's but for their bits and a few are not,
    these hold something else, another row of the source's or a multiple of their own.
    """
    meant = np.broadcast_to(meant, now.shape)
    if 0 < len(places := torn(now, meant, steps, unsure)) <= _TOLD:
        return ", ".join(
            f"the numbers at {list(at)} are {now[at]:.3g} and {meant[at]:.3g}" for at in map(tuple, places.tolist())
        )
    for axis, what in ((0, "row"), (1, "column")) if now.ndim > 1 else ():
        wrong = np.flatnonzero(~_explained(now, meant, steps, axis, unsure))
        rest = (np.delete(array, wrong, axis) for array in (now, meant, steps))
        # of what is moved as a whole, slices stand out where their steps are small
        if wrong.size and 2 * wrong.size < now.shape[axis] and not _is_moved(*rest):
            one, other, step = (
                np.moveaxis(array, axis, 0).reshape(now.shape[axis], -1) for array in (now, meant, steps)
            )
            told = (f"{what} {at} {_held(one[at], at, other, step[at], what)}" for at in wrong[:_TOLD])
            return ", ".join(told) + (f" and {wrong.size - _TOLD} more" if wrong.size > _TOLD else "")
    return _moved_in_words(now, meant) if _is_moved(now, meant, steps) else ""


def _moved_in_words(now: Array, meant: Array) -> str:
    """By how much all of a weight is larger, or shifted: whichever explains more of it."""
    shift, factor = float((now - meant).mean()), float((now * meant).sum() / np.square(meant).sum())
    if rms(now - meant - shift) < rms(now - factor * meant):
        return f"all of it is shifted by {shift:.2g}"
    return f"all of it is {factor:.3g} times its source's"


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
