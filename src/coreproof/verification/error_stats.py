"""ErrorStats: what a judgement needs to know of two tensors, taken block by block so that the numbers stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from coreproof.model.numbers import rms

Array = np.ndarray

BLOCK = 1 << 17
"""Elements of a block: few enough for the cache, enough for numpy to be busy with them."""

_ROW = 1 << 13


def in_float32(array: Array) -> Array:
    """float16 as float32, which holds each of its numbers and their squares, and is computed with several times as fast."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


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

    def in_float32(self) -> ChannelScale:
        """The same factors in float32."""
        return replace(self, per_channel=self.per_channel.astype(np.float32))

    def at(self, places: Array) -> Array:
        """The factors of the elements at these places in stored order."""
        picked: Array = self.per_channel[places // self.run % self.per_channel.size]
        return picked


@dataclass(frozen=True)
class PickedScale(ChannelScale):
    """The same for elements that were picked out, at ``places`` of the whole."""

    places: Array

    def factors(self, start: int, stop: int) -> Array:
        """The factors of the picked elements from ``start`` to ``stop``."""
        return super().at(self.places[start:stop])

    def at(self, places: Array) -> Array:
        """The factors of the picked elements at these places among those that were picked."""
        return super().at(self.places[places])


class Measured(NamedTuple):
    """What is known of a reference beforehand that is finite everywhere: its scale, above zero, and its ends."""

    scale: float
    low: float
    high: float


@np.errstate(invalid="ignore", over="ignore")
def error_stats(a: Array, b: Array, measured: Measured | None = None) -> ErrorStats | None:
    """The figures of two flat numeric arrays of the same length; None where one is empty or not finite everywhere.

    What was ``measured`` of ``a`` is not measured again.
    """
    if not a.size:
        return None
    if measured is not None and _equal(a, b):
        return ErrorStats(0.0, 0.0, 0.0, measured.scale, 1.0, measured.low, measured.high, (0.0,) * -(-a.size // BLOCK))
    total = errors = own = other = 0.0
    peaks, low, high = [], math.inf, -math.inf
    for p, q, known in _blocks(a, b):
        d = np.subtract(p, q)
        error_squares = _dot(d, d)
        other += known[1] if known else _dot(q, q)
        if measured is None:
            own += known[0] if known else _dot(p, p)
            low, high = min(low, float(p.min())), max(high, float(p.max()))
        # NaN, an infinity, or squares beyond the format: these figures would mean nothing
        if not (math.isfinite(own) and math.isfinite(error_squares)):
            return None
        np.abs(d, out=d)
        total, errors = total + float(d.sum()), errors + error_squares
        peaks.append(float(d.max()))
    if measured is not None:
        own, low, high = measured.scale * measured.scale * a.size, measured.low, measured.high
    # a * b summed is what (a - b)^2 leaves of a^2 + b^2
    cosine = _cosine(math.sqrt(own), math.sqrt(other), (own + other - errors) / 2)
    scale, rms_error = math.sqrt(own / a.size), math.sqrt(errors / a.size)
    return ErrorStats(max(peaks), total / a.size, rms_error, scale, cosine, low, high, tuple(peaks))


_FIRST = 64
"""So many elements are looked at first: where not all are equal, few are."""


def _equal(a: Array, b: Array) -> bool:
    """Whether all elements are equal; ends at the first block in which they are not."""
    if not np.array_equal(a[:_FIRST], b[:_FIRST]):
        return False
    return all(np.array_equal(a[at : at + BLOCK], b[at : at + BLOCK]) for at in range(0, a.size, BLOCK))


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
    narrow = a.size > _FEW and a.dtype == b.dtype == np.float32 and not absolute and relative > 0
    narrow = narrow and _SAFE[0] < scale < _SAFE[1]
    rounded = channel_scale if channel_scale is None or not narrow else channel_scale.in_float32()
    found = Exceedance(0, 0, -math.inf, 0.0)
    # the block with the largest error first: most others need not be looked at then
    for index in sorted(range(len(known.peaks)), key=lambda i: -known.peaks[i]):
        peak = known.peaks[index]
        beyond = peak - relative * scale
        ratio = math.inf if scale == 0 < peak - absolute else (peak - absolute) / scale if scale else 0.0
        # blocks come with the largest error first: what this one cannot do, none behind it can
        if beyond <= min(found.required_absolute, absolute) and ratio <= found.required_relative:
            break
        last = min((index + 1) * BLOCK, a.size)
        for start in range(index * BLOCK, last, _PART):
            stop = min(start + _PART, last)
            part = _Part(a[start:stop], b[start:stop], scale, channel_scale, rounded, relative, start)
            found = part.narrow(found) if narrow else part.wide(found, absolute)
    return replace(found, required_absolute=max(0.0, found.required_absolute))


_PART = 1 << 15
"""Elements that are held against a tolerance at a time: several arrays of them stay in the cache."""

_FEW = 1 << 12
"""Of so few elements, float64 tells sooner than float32 and a second look at those of which that cannot tell."""

_NARROW = 2.0**-20
"""By less than this share, errors and sizes in float32 are off from those in float64: some roundings of 2^-24 each."""


@dataclass(frozen=True)
class _Part:
    """Some elements of two arrays, which begin at ``start``, to be held against a tolerance."""

    a: Array
    b: Array
    scale: float
    channel_scale: ChannelScale | None
    rounded_scale: ChannelScale | None
    relative: float
    start: int

    def _factors(self, of: ChannelScale | None) -> Array | None:
        return None if of is None else of.factors(self.start, self.start + self.a.size)

    def wide(self, before: Exceedance, absolute: float) -> Exceedance:
        """Those of the parts before and of this one, in float64."""
        figures = _error_and_size(self.a, self.b, self.scale, self._factors(self.channel_scale))
        found = block_exceedance(*figures, self.relative, absolute)
        further = found.required_absolute > before.required_absolute
        return Exceedance(
            before.over + found.over,
            self.start + found.worst if further else before.worst,
            max(before.required_absolute, found.required_absolute),
            max(before.required_relative, found.required_relative),
        )

    def narrow(self, before: Exceedance) -> Exceedance:
        """The same of float32 numbers, in a fraction of the time: float64 only for elements of which float32 cannot tell."""
        error = np.subtract(self.a, self.b)
        peak = float(np.abs(error, out=error).max())
        scale, relative = self.scale, self.relative
        least = relative * (1 - _NARROW)
        more = peak * (1 + _NARROW) > scale * before.required_relative
        further = peak * (1 + _NARROW) - least * scale > before.required_absolute
        if not more and not further and peak <= least * scale:
            return before
        size = np.abs(self.a)
        # numpy is four times as fast with an array of one number as with the number
        np.maximum(size, np.full_like(size, scale), out=size)
        if (factors := self._factors(self.rounded_scale)) is not None:
            size *= factors
        ratio = np.divide(error, size)
        surely = ratio > np.float32(relative * (1 + _NARROW))
        reach = ratio >= np.float32(least)
        over = int(np.count_nonzero(surely))
        if np.count_nonzero(reach) > over:
            over += self._exactly(np.flatnonzero(reach & ~surely)).over
        over += before.over
        required, worst, largest = before.required_relative, before.worst, before.required_absolute
        highest = float(ratio.max()) if more else 0.0
        if highest * (1 + _NARROW) > before.required_relative:
            near = self._exactly(_nearly(ratio, highest * (1 - _NARROW)))
            required = max(required, near.required_relative)
        if further:
            size *= np.float32(relative)
            beyond = np.subtract(error, size, out=size)
            # of an element as far out as the furthest, the tolerance is at most the error less that
            furthest = float(beyond.max())
            slack = _NARROW * (2 * peak + abs(furthest))
            if furthest + slack > largest:
                places = _nearly(beyond, furthest - slack)
                near = self._exactly(places)
                if near.required_absolute > largest:
                    worst, largest = self.start + int(places[near.worst]), near.required_absolute
        return Exceedance(over, worst, largest, required)

    def _exactly(self, places: Array) -> Exceedance:
        """The figures of the elements at these places of the part, in float64."""
        factors = None if self.channel_scale is None else self.channel_scale.at(self.start + places)
        figures = _error_and_size(self.a[places], self.b[places], self.scale, factors)
        return block_exceedance(*figures, self.relative, 0.0)


def _nearly(values: Array, least: float) -> Array:
    """The places of the numbers that are at least so large, rounded down."""
    reach = values >= np.nextafter(np.float32(least), np.float32(-np.inf))
    # mostly it is one, which is found four times as fast
    return np.array([reach.argmax()]) if np.count_nonzero(reach) == 1 else np.flatnonzero(reach)


def block_exceedance(error: Array, size: Array, relative: float, absolute: float) -> Exceedance:
    """Of elements with these errors and sizes; ``required_absolute`` is negative where each is within ``relative``."""
    beyond = error - relative * size
    worst, over = int(np.argmax(beyond)), int(np.count_nonzero(beyond > absolute))
    left = error - absolute
    with np.errstate(divide="ignore", invalid="ignore"):
        # what is within the absolute part needs no relative one
        ratios = np.divide(left, size, out=np.zeros_like(left), where=left > 0)
    return Exceedance(over, worst, float(beyond[worst]), float(ratios.max()))


def _error_and_size(a: Array, b: Array, scale: float, factors: Array | None) -> tuple[Array, Array]:
    x, y = a.astype(np.float64), b.astype(np.float64)
    size = np.maximum(np.abs(x), scale)
    if factors is not None:
        size *= factors
    return np.abs(np.subtract(x, y, out=x), out=x), size
