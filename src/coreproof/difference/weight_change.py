"""What happened to a weight between two versions of a model: how much it changed, and in plain words how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import ml_dtypes
import numpy as np
import numpy.typing as npt

from coreproof.model.numbers import FLOAT16_MAX, UNIT_ROUNDOFF, rms

Array = np.ndarray

_HALF_STEP = UNIT_ROUNDOFF["float16"]
_SMALLEST_HALF = 2.0**-25
"""The largest absolute error of rounding to float16 below its smallest normal number."""
_SINGLE_STEP = 2.0**-20
"""Relative difference that computing in float32 leaves behind."""


@dataclass(frozen=True)
class WeightChange:
    """One weight before and after. Figures are None where the shapes do not fit each other.

    ``max_abs`` is the largest difference between finite numbers, ``relative_rms`` the rms of the difference over the rms of
    the weight before (infinite where the weight was zero, or is not finite any more); ``share`` the part of the elements that
    changed; ``words`` say what is recognised ("transposed", "rounded to float16", ...), empty for equal numbers.
    """

    parameter: str
    before: tuple[str, tuple[int, ...]]
    after: tuple[str, tuple[int, ...]]
    max_abs: float | None
    relative_rms: float | None
    share: float | None
    words: str

    @property
    def equal(self) -> bool:
        """Whether the numbers are the same; their storage may differ."""
        return self.max_abs == 0 and self.before[1] == self.after[1]


def weight_change(parameter: str, before: Array, after: Array, stored: tuple[str, str] | None = None) -> WeightChange:
    """Compares two weights; ``stored`` names the dtypes in the files, where they are not those of the arrays."""
    dtypes = stored or (str(before.dtype), str(after.dtype))
    ends = ((dtypes[0], before.shape), (dtypes[1], after.shape))
    if before.dtype.kind in "OSU" or after.dtype.kind in "OSU":  # texts and dictionaries hold no numbers to measure
        alike = repr(before.tolist()) == repr(after.tolist())
        measured = 0.0 if alike else None
        return WeightChange(parameter, *ends, measured, measured, measured, "" if alike else "other contents")
    a, b = before.astype(np.float64), after.astype(np.float64)
    if a.shape != b.shape:
        return WeightChange(parameter, *ends, None, None, None, _words_of_shapes(a, b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        words = "" if dtypes[0] == dtypes[1] else f"stored as {dtypes[1]}, the same numbers"
        return WeightChange(parameter, *ends, 0.0, 0.0, 0.0, words)
    finite = np.isfinite(a) & np.isfinite(b)
    difference = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=finite & ~same))
    # numbers that are not finite on one side have no difference that could be squared
    scale = rms(np.where(finite, a, 0.0))
    relative = float("inf") if not scale or not finite.all() else rms(difference) / scale
    share = float(np.mean(~same))
    words = _words(a, b, relative, share, dtypes)
    return WeightChange(parameter, *ends, float(np.max(difference)), relative, share, words)


def _words_of_shapes(a: Array, b: Array) -> str:
    """What became of a weight that has another shape now."""
    if a.size != b.size:
        return _cut(a, b) or "another shape"
    for axes in _orders(a.ndim):
        moved = a.transpose(axes)
        if moved.shape == b.shape and (kind := _close(moved, b)) is not None:
            return _joined(_order_words(axes), kind)
    kind = _close(a.reshape(-1), b.reshape(-1))
    return _joined("reshaped", kind) if kind is not None else "another shape and other numbers"


def _cut(a: Array, b: Array) -> str | None:
    """One axis shorter or longer, the rest as it was."""
    if a.ndim != b.ndim:
        return None
    axes = [i for i in range(a.ndim) if a.shape[i] != b.shape[i]]
    if len(axes) != 1:
        return None
    axis, kept = axes[0], min(a.shape[axes[0]], b.shape[axes[0]])
    word = "cut off" if b.shape[axis] < a.shape[axis] else "appended"
    count = abs(a.shape[axis] - b.shape[axis])
    for end, pick in (("the end", slice(0, kept)), ("the front", slice(-kept, None))):
        chosen = tuple(pick if i == axis else slice(None) for i in range(a.ndim))
        if _close(*(whole[chosen] if whole.shape[axis] > kept else whole for whole in (a, b))) is not None:
            return f"{count} {_axis_word(axis, a.ndim)} {word} at {end}"
    return None


def _words(a: Array, b: Array, relative: float, share: float, stored: tuple[str, str]) -> str:
    """Of two weights of one shape that are not the same."""
    # the surest first: a whole matrix of zeros is also one that was scaled, and a rounded one was also slightly changed
    return (
        _spoilt(a, b)
        or _rounding(a, b)
        or next((_joined(words, kind) for moved, words in _moves(a, b) if (kind := _close(moved, b)) is not None), None)
        or _scaled_besides(a, b)
        or (f"{round(share * a.size):,} of {a.size:,} elements changed" if _is_few(share, a.size) else None)
        or _quantised(a, b, relative)
        or _stored_in_fewer_bits(stored, relative)
        or _by_likeness(a, b, relative)
    )


def _is_few(share: float, size: int) -> bool:
    return share <= 0.02 and share * size < 1000


def _by_likeness(a: Array, b: Array, relative: float) -> str:
    """How alike two weights are that nothing in particular was done to: by the cosine of the angle between them."""
    cosine = float(np.sum(a * b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), _TINY))
    # of two unrelated lists of n numbers it is about 1 / sqrt(n)
    if abs(cosine) < 0.1 and a.size >= 64:
        return "other numbers, unrelated"
    return "slightly changed" if relative < 0.05 else "changed"


def _spoilt(a: Array, b: Array) -> str | None:
    broken = int(np.sum(~np.isfinite(b) & np.isfinite(a)))
    if broken:
        over = int(np.sum(np.isinf(b) & (np.abs(np.nan_to_num(a)) > FLOAT16_MAX)))
        if over == broken:
            return f"{over:,} values overflowed float16"
        return f"{broken:,} values are NaN or infinite now"
    if not np.isfinite(a).all():
        return "changed where it was NaN or infinite"
    if not b.any():
        return "all zero now"
    if b.size > 1 and (b == b.flat[0]).all():
        return f"all {b.flat[0]:g} now"
    return None


def _close(a: Array, b: Array) -> str | None:
    """What sets them apart: "" when equal, "rounded ..." when equal but for rounding, None when different."""
    rounding = _rounding(a, b)
    return "" if rounding == "float32 rounding" and np.array_equal(a, b) else rounding


def _rounding(a: Array, b: Array) -> str | None:
    """How ``b`` is a rounded ``a``; None when it is not. A corner is looked at first, which settles most cases."""
    corner = (slice(0, 16 if a.ndim < 3 else 4),) * a.ndim
    return None if a.ndim and _rounded(a[corner], b[corner]) is None else _rounded(a, b)


def _rounded(a: Array, b: Array) -> str | None:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    error, size = np.abs(a - b), np.abs(a)
    if bool((error <= _SINGLE_STEP * size).all()):
        return "float32 rounding"
    # bfloat16 has three bits less than float16, and so eight times its steps
    if not bool((error <= 8 * _HALF_STEP * size * 1.001 + _SMALLEST_HALF).all()):
        return None
    if bool((error <= _HALF_STEP * size * 1.001 + _SMALLEST_HALF).all()):
        if _fits(b, np.float16):
            return "rounded to float16"
        if _fits(a, np.float16):
            return "no longer rounded to float16"
    return "rounded to bfloat16" if _fits(b, ml_dtypes.bfloat16) else None


def _fits(values: Array, dtype: npt.DTypeLike) -> bool:
    """Whether a narrower type holds these numbers exactly."""
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float32).astype(dtype).astype(np.float64) == values).all())


def _joined(words: str, rounding: str) -> str:
    return f"{words}, {rounding}" if rounding and rounding != "float32 rounding" else words


def _moves(a: Array, b: Array) -> Iterator[tuple[Array, str]]:
    """Plausible things that happen to weights on their way between tools; the first that explains ``b`` counts."""
    if _same_numbers(a, b):
        yield -a, "sign flipped"
        for axes in _orders(a.ndim):
            if a.transpose(axes).shape == b.shape:
                yield a.transpose(axes), _order_words(axes)
        if a.ndim >= 3:
            yield np.flip(a, tuple(range(2, a.ndim))), "kernels flipped"
        for axis in range(min(a.ndim, 2)):
            yield from _permuted(a, b, axis)
    factor = float(_factors(a.reshape(1, -1), b.reshape(1, -1))[0])
    if factor and a.size > 1:
        yield a * factor, f"scaled by {factor:.6g}"
    shift = float(np.mean(b - a))
    if a.size > 2 and abs(shift) > 1e-6 * float(np.max(np.abs(a)) or 1):
        yield a + shift, f"shifted by {shift:+.6g}"
    for axis in range(min(a.ndim, 2)):
        yield from _scaled_along(a, b, axis)


def _scaled_besides(a: Array, b: Array) -> str | None:
    """One factor for all, or one a channel, where rounding to few bits (or pruning) is what else happened."""
    if a.size < 16 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    rows, others = _slices(a, b, 0)
    each, whole = _factors(rows, others), float(_factors(a.reshape(1, -1), b.reshape(1, -1))[0])
    for factors in (np.full_like(each, whole), each):
        meant = rows * factors[:, None]
        left = float(np.linalg.norm(others - meant) / max(float(np.linalg.norm(meant)), _TINY))
        # how far the factors are from 1, twice as large and half as large alike
        off = rms(np.log(np.maximum(np.abs(factors), 1e-12)))
        # what compression itself does to the factors is less than what it leaves of error
        if left < _COMPRESSED and off > 0.05 + 2 * left and rows.shape[1] > 4:
            if np.ptp(factors) == 0:
                return f"scaled by {whole:.3g}, and slightly changed"
            return f"{_axis_word(0, a.ndim)} scaled by {factors.min():.3g} to {factors.max():.3g}, and slightly changed"
    return None


_COMPRESSED = 0.35
"""What compression to a few bits leaves of the error of a weight, as a share of it."""


_TINY = 1e-300
"""Stands in for a zero that is divided by."""


def _factors(rows: Array, others: Array) -> Array:
    """The factor of each row that brings it nearest to the other, by least squares."""
    factors: Array = np.sum(rows * others, 1) / np.maximum(np.sum(rows * rows, 1), _TINY)
    return factors


def _same_numbers(a: Array, b: Array) -> bool:
    """Whether ``b`` can be the numbers of ``a`` in another order or with another sign, rounding allowed."""
    before, after = float(np.sum(a * a)), float(np.sum(b * b))
    # squares double a relative error; the sum of squares knows neither order nor sign
    return abs(before - after) <= 4 * _HALF_STEP * before


def _slices(a: Array, b: Array, axis: int) -> tuple[Array, Array]:
    """Both as [length of the axis, everything else]."""
    rows, others = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (a, b))
    return rows, others


def _permuted(a: Array, b: Array, axis: int) -> Iterator[tuple[Array, str]]:
    """Slices along one axis in another order."""
    rows, others = _slices(a, b, axis)
    word = _axis_word(axis, a.ndim)
    order = _permutation(rows, others)
    if order is not None:
        words = f"{word} permuted"
        if (order == np.arange(len(order))[::-1]).all():
            words = f"{word} reversed" + (" (RGB and BGR swapped)" if len(order) == 3 and a.ndim == 4 else "")
        yield np.take(a, order, axis), words


def _scaled_along(a: Array, b: Array, axis: int) -> Iterator[tuple[Array, str]]:
    """Each slice along one axis scaled by its own factor (a normalisation folded in)."""
    rows, others = _slices(a, b, axis)
    word = _axis_word(axis, a.ndim)
    if rows.shape[1] > 1:
        factors = _factors(rows, others)
        scaled = np.moveaxis((rows * factors[:, None]).reshape(np.moveaxis(a, axis, 0).shape), 0, axis)
        yield scaled, f"{word} scaled by {factors.min():.3g} to {factors.max():.3g}"


def _permutation(rows: Array, others: Array) -> npt.NDArray[np.int64] | None:
    """The order in which ``rows`` are ``others``, allowing for rounding; None when they are not, or stand as they were."""
    if len(rows) < 2 or len(rows) > 65536:
        return None
    # A projection that no order changes finds the candidates; _close judges the result.
    direction = np.random.default_rng(0).normal(size=rows.shape[1])
    sorted_rows, sorted_others = (np.argsort(each @ direction, kind="stable") for each in (rows, others))
    order = np.empty(len(rows), np.int64)
    order[sorted_others] = sorted_rows
    return None if (order == np.arange(len(order))).all() else order


def _quantised(a: Array, b: Array, relative: float) -> str | None:
    """Few different numbers where there were many, near the ones that were there."""
    if relative > 0.5:
        return None
    known = np.unique(b).size
    per = ""
    # with a scale a channel, each channel has its own 256 numbers at the most
    if known > 256 and b.ndim > 1:
        widest = max(np.unique(row).size for row in b.reshape(b.shape[0], -1)[:64])
        if widest <= 256 and b[0].size > 4 * widest:
            known, per = widest, " a channel"
    # few numbers in a small weight, or in one that had few before, tell nothing
    if known > 256 or b.size < 4 * known or np.unique(a).size < 2 * known:
        return None
    bits = max(1, int(np.ceil(np.log2(known))))
    return f"quantised to {bits} bits ({known} different values{per})"


def _stored_in_fewer_bits(stored: tuple[str, str], relative: float) -> str | None:
    """What the file says: floats before, whole numbers now."""
    bits = re.fullmatch(r"u?int(\d+)", stored[1])
    if bits is None or relative > 0.5 or "float" not in stored[0]:
        return None
    return f"quantised to {bits[1]} bits"


def _orders(rank: int) -> Iterator[tuple[int, ...]]:
    if rank <= 5:
        # up to 120 orders; of six dimensions there are 720, each with a look at the whole weight
        yield from (axes for axes in permutations(range(rank)) if axes != tuple(range(rank)))


def _order_words(axes: tuple[int, ...]) -> str:
    if axes == (1, 0):
        return "transposed"
    return f"axes reordered to {','.join(map(str, axes))}"


def _axis_word(axis: int, rank: int) -> str:
    if rank == 1:
        return "values"
    return "output channels" if axis == 0 else "input channels" if axis == 1 else f"places along axis {axis}"
