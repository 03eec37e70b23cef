"""ErrorState: what is known of one value's size, spread and error, and how its size and spread are measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coreproof.verification.contrast import Contrast
from coreproof.verification.error_stats import BLOCK
from coreproof.verification.fills import Ordinary


class ErrorState(NamedTuple):
    """What is known of one value: predicted error (absolute, root mean square), scale, standard deviation.

    ``loudest`` is the root mean square of its loudest place (over the channels there), ``peak`` its largest element,
    both in units of the scale. ``uneven`` is the typical error at the place where errors are largest, in units of
    ``error``; ``own`` is the part that the operator itself adds; ``shared`` that which is a share of each element, as rounding
    is of a value that is only moved; ``level`` that which a sum has at each element alike. ``step``: it is rounded to multiples
    of this (0: it is not).
    ``contrast``: of what a normalisation reads, size over deviation of what it takes together. ``kept``: of what a softmax reads,
    the size of what it keeps, weighted as it weighs, in units of the scale: a mask's minimum makes the scale, and is left behind.
    ``ordinary``: the elements beside its fills, and what they err by; None where it holds none.
    ``ends``: the smallest and the largest element, where all are finite and that is known.
    ``noise``: what rounding its terms and the result alone makes of it, more than its scale where terms cancel.
    ``unsure``: what was rounded to steps may be off by so much, as a share of its own scale. ``coarse``: what one such step has
    become here, times known factors (0: no step).
    """

    error: float
    scale: float
    deviation: float
    elements: int | None = None
    loudest: float = 1.0
    peak: float = 1.0
    uneven: float = 1.0
    own: float = 0.0
    step: float = 0.0
    contrast: Contrast | None = None
    shared: float = 0.0
    kept: float = 1.0
    ordinary: Ordinary | None = None
    level: float = 0.0
    ends: tuple[float, float] | None = None
    noise: float = 0.0
    unsure: float = 0.0
    coarse: float = 0.0


def measure(array: np.ndarray) -> ErrorState:
    """A value's scale, deviation and how unevenly it is spread, over its finite elements."""
    if array.dtype.kind in "OSU" or not array.size:
        return ErrorState(0.0, 0.0, 0.0)
    small = array.ndim > 2 or array.size <= _SMALL
    quick = _measure_finite(array) if array.dtype == np.float32 and small else None
    if quick is not None:
        return quick
    return _measure_blocks(array)


def _measure_blocks(array: np.ndarray) -> ErrorState:
    """The same for any values, block by block: in float64 all at once, a large value would take ten times its own memory."""
    if array.ndim == 4:
        arranged = array.reshape(array.shape[0], array.shape[1], -1)
    else:
        features = array.shape[-1] if array.ndim > 2 else array.size
        arranged = array.reshape(-1, features, 1)
    largest, count = 0.0, 0
    for block in _flat_blocks(arranged):
        finite = np.isfinite(block)
        count += int(np.count_nonzero(finite))
        largest = max(largest, float(np.abs(block[finite]).max(initial=0.0)))
    if largest == 0.0:
        return ErrorState(0.0, 0.0, 0.0, int(array.size))
    squares = total = loudest = 0.0
    for place in _places(arranged):
        power = 0.0
        for part in place:
            units = _finite(part) / largest  # so that no square overflows
            power = power + np.square(units).sum(axis=1)
            total += float(units.sum())
        squares += float(np.sum(power))
        loudest = max(loudest, float(np.max(power)))
    mean = total / array.size
    apart = sum(float(np.square(_finite(block) / largest - mean).sum()) for block in _flat_blocks(arranged))
    share = math.sqrt(squares / count)  # the scale, as a share of the largest
    places = loudest / arranged.shape[1]
    return ErrorState(
        error=0.0,
        scale=largest * share,
        deviation=largest * math.sqrt(apart / array.size),
        elements=int(array.size),
        loudest=max(1.0, math.sqrt(places) / share),
        peak=max(1.0, 1.0 / share),
    )


def _finite(block: np.ndarray) -> npt.NDArray[np.float64]:
    values = block.astype(np.float64)
    return np.where(np.isfinite(values), values, 0.0)


def _flat_blocks(arranged: np.ndarray) -> Iterator[npt.NDArray[np.float64]]:
    for place in _places(arranged):
        for part in place:
            yield part.astype(np.float64)


def _places(arranged: np.ndarray) -> Iterator[Iterator[np.ndarray]]:
    """[outer, features, inner] in blocks: each item holds all features of the same places, in parts along the features."""
    outer, features, inner = arranged.shape
    if features * inner <= BLOCK:
        step = BLOCK // (features * inner)
        yield from (iter((arranged[start : start + step],)) for start in range(0, outer, step))
        return
    step = max(1, BLOCK // features)
    for at in range(outer):
        for start in range(0, inner, step):
            places = arranged[at : at + 1, :, start : start + step]
            yield (places[:, first : first + BLOCK] for first in range(0, features, BLOCK))


_SMALL = 1 << 13
"""As many numbers of a vector or matrix are summed in float32 without a loss that matters."""


def _measure_finite(array: npt.NDArray[np.float32]) -> ErrorState | None:
    """The same in few passes, for pictures and sequences and for small vectors.

    None where squares overflow, vanish, or the mean hides the rest.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if array.ndim <= 2:  # one place, whose features are all of the value
            flat = array.reshape(-1)
            places = np.asarray(flat @ flat)
        else:
            places = np.einsum("nchw,nchw->nhw" if array.ndim == 4 else "...c,...c->...", array, array)
        total = float(places.sum(dtype=np.float64))
        mean = float(array.sum()) / array.size
    scale = math.sqrt(total / array.size) if math.isfinite(total) else 0.0
    deviation = scale * scale - mean * mean
    if not (scale > 1e-15 and deviation > 1e-3 * scale * scale):
        return None
    ends = float(array.min()), float(array.max())
    peak = max(ends[1], -ends[0])
    loudest = math.sqrt(float(places.max()) * places.size / array.size)
    elements, uneven = int(array.size), (max(1.0, loudest / scale), max(1.0, peak / scale))
    return ErrorState(0.0, scale, math.sqrt(deviation), elements, *uneven, ends=ends)
