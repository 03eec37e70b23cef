"""ErrorStats: what a judgement needs to know of two tensors, taken block by block so that the numbers stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from coreproof.model.numbers import rms

Array = np.ndarray

BLOCK = 1 << 17
"""Elements of a block: few enough for the cache, enough for numpy to be busy with them."""

_ROW = 1 << 13


@dataclass(frozen=True)
class ErrorStats:
    """Two finite tensors of the same size: the largest, mean and root-mean-square error, the reference's scale and range.

    ``scale`` is its root mean square. ``low`` and ``high`` are NaN where there are no elements. ``peaks`` is the largest error
    of each block.
    """

    error: float
    mean_error: float
    rms_error: float
    scale: float
    cosine: float
    low: float
    high: float
    peaks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Exceedance:
    """How far single elements are beyond ``absolute + relative * size``: how many, the worst, what would have passed."""

    over: int
    worst: int
    required_absolute: float
    required_relative: float


@dataclass(frozen=True)
class ChannelScale:
    """By how much each channel may err more, at least 1 (``per_channel``); its elements lie together in runs of ``run``."""

    per_channel: Array
    run: int

    def factors(self, start: int, stop: int) -> Array:
        """The factors of the elements from ``start`` to ``stop``, counted in stored order."""
        channels = np.arange(start // self.run, (stop - 1) // self.run + 1)
        expanded = np.repeat(self.per_channel[channels % self.per_channel.size], self.run)
        # the first channel may begin before the block does
        first = start - start // self.run * self.run
        picked: Array = expanded[first : first + stop - start]
        return picked


@dataclass(frozen=True)
class PickedScale(ChannelScale):
    """The same for elements that were picked out, at ``places`` of the whole."""

    places: Array

    def factors(self, start: int, stop: int) -> Array:
        """The factors of the picked elements from ``start`` to ``stop``."""
        picked: Array = self.per_channel[self.places[start:stop] // self.run % self.per_channel.size]
        return picked


@np.errstate(invalid="ignore", over="ignore")
def error_stats(a: Array, b: Array) -> ErrorStats | None:
    """The figures of two flat numeric arrays of the same length; None where one is empty or not finite everywhere."""
    if not a.size:
        return None
    total = errors = own = other = 0.0
    peaks, low, high = [], math.inf, -math.inf
    for p, q, known in _blocks(a, b):
        d = np.subtract(p, q)
        squares, others = known or (_dot(p, p), _dot(q, q))
        error_squares = _dot(d, d)
        # NaN, an infinity, or squares beyond the format: these figures would mean nothing
        if not (math.isfinite(squares) and math.isfinite(error_squares)):
            return None
        np.abs(d, out=d)
        total, errors, own, other = total + float(d.sum()), errors + error_squares, own + squares, other + others
        peaks.append(float(d.max()))
        low, high = min(low, float(p.min())), max(high, float(p.max()))
    # a * b summed is what (a - b)^2 leaves of a^2 + b^2
    cosine = _cosine(math.sqrt(own), math.sqrt(other), (own + other - errors) / 2)
    scale, rms_error = math.sqrt(own / a.size), math.sqrt(errors / a.size)
    return ErrorStats(max(peaks), total / a.size, rms_error, scale, cosine, low, high, tuple(peaks))


def any_size_stats(x: Array, y: Array) -> ErrorStats:
    """The same of finite float64 numbers that may be none, or so large that their squares are infinite; not in blocks."""
    error, scale, other = np.abs(x - y), rms(x), rms(y)
    # scaled before they are multiplied, so that no product overflows
    products = float(np.mean((x / scale) * (y / other))) if scale and other else 0.0
    return ErrorStats(
        error=float(error.max(initial=0.0)),
        mean_error=float(error.mean()) if error.size else 0.0,
        rms_error=rms(error),
        scale=scale,
        cosine=_cosine(float(scale > 0), float(other > 0), products),
        low=float(x.min()) if x.size else math.nan,
        high=float(x.max()) if x.size else math.nan,
    )


def _cosine(a: float, b: float, products: float) -> float:
    """Of two lengths and the sum of products; two values of nothing but zeros point the same way."""
    if a == 0 or b == 0:
        return 1.0 if a == b else 0.0
    # divided one after the other, since a * b may overflow; rounding may lead beyond 1
    return min(1.0, max(-1.0, products / a / b))


@np.errstate(invalid="ignore", over="ignore")
def errors(a: Array, b: Array) -> tuple[float, float, float] | None:
    """Largest error, typical error and the reference's scale alone; None as for ``error_stats``."""
    if not a.size:
        return None
    largest = error_squares = squares = 0.0
    for p, q, known in _blocks(a, b):
        d = np.subtract(p, q)
        squares += known[0] if known else _dot(p, p)
        error_squares += _dot(d, d)
        if not (math.isfinite(squares) and math.isfinite(error_squares)):
            return None
        largest = max(largest, float(d.max()), -float(d.min()))
    return largest, math.sqrt(error_squares / a.size), math.sqrt(squares / a.size)


_SAFE = (1e-10, 1e10)
"""Between these sizes, squares of float32 numbers and of their rounding errors are float32 numbers."""


def _blocks(a: Array, b: Array) -> Iterator[tuple[Array, Array, tuple[float, float] | None]]:
    """The two arrays block by block: in float32 where they are and where that is safe, else in float64.

    With their sums of squares, where those were needed to tell whether it is safe.
    """
    sums = None
    if a.dtype == b.dtype == np.float32:
        p, q = a[:BLOCK], b[:BLOCK]
        squares = _dot(p, p), _dot(q, q)
        if all(_SAFE[0] < math.sqrt(s / p.size) < _SAFE[1] for s in squares):
            sums = squares
            yield p, q, sums  # one block stands for all: a layer's values are of one magnitude, and an overflow shows
    narrow = sums is not None
    for start in range(BLOCK if narrow else 0, a.size, BLOCK):
        p, q = a[start : start + BLOCK], b[start : start + BLOCK]
        yield (p, q, None) if narrow else (p.astype(np.float64), q.astype(np.float64), None)


def _dot(a: Array, b: Array) -> float:
    """The sum of products, in rows so short that no library spreads them over threads: waiting for those costs more."""
    if a.size < _ROW:
        return float(a @ b)
    rows = a.size // _ROW * _ROW
    long = np.vecdot(a[:rows].reshape(-1, _ROW), b[:rows].reshape(-1, _ROW)).sum(dtype=np.float64)
    return float(long) + float(a[rows:] @ b[rows:])


def exceedance(
    a: Array, b: Array, known: ErrorStats, relative: float, absolute: float, channel_scale: ChannelScale | None
) -> Exceedance:
    """Element by element, in the blocks whose largest error can matter: no element's size is below the scale."""
    if known.error == 0:
        return Exceedance(0, 0, 0.0, 0.0)
    scale = known.scale
    over, worst, furthest, required_relative = 0, 0, -math.inf, 0.0
    # the block with the largest error first: most others need not be looked at then
    for index in sorted(range(len(known.peaks)), key=lambda i: -known.peaks[i]):
        peak = known.peaks[index]
        beyond = peak - relative * scale
        ratio = math.inf if scale == 0 < peak - absolute else (peak - absolute) / scale if scale else 0.0
        # blocks come with the largest error first: what this one cannot do, none behind it can
        if beyond <= min(furthest, absolute) and ratio <= required_relative:
            break
        start = index * BLOCK
        block = block_exceedance(*_error_and_size(a, b, start, scale, channel_scale), relative, absolute)
        if block.required_absolute > furthest:
            furthest, worst = block.required_absolute, start + block.worst
        over += block.over
        required_relative = max(required_relative, block.required_relative)
    return Exceedance(over, worst, max(0.0, furthest), required_relative)


def block_exceedance(error: Array, size: Array, relative: float, absolute: float) -> Exceedance:
    """Of elements with these errors and sizes; ``required_absolute`` is negative where each is within ``relative``."""
    beyond = error - relative * size
    worst, over = int(np.argmax(beyond)), int(np.count_nonzero(beyond > absolute))
    left = error - absolute
    with np.errstate(divide="ignore", invalid="ignore"):
        # what is within the absolute part needs no relative one
        ratios = np.divide(left, size, out=np.zeros_like(left), where=left > 0)
    return Exceedance(over, worst, float(beyond[worst]), float(ratios.max()))


def _error_and_size(
    a: Array, b: Array, start: int, scale: float, channel_scale: ChannelScale | None
) -> tuple[Array, Array]:
    x, y = (v[start : start + BLOCK].astype(np.float64) for v in (a, b))
    size = np.maximum(np.abs(x), scale)
    if channel_scale is not None:
        size *= channel_scale.factors(start, start + x.size)
    return np.abs(np.subtract(x, y, out=x), out=x), size
