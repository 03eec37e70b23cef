"""What storing a number in a dtype does to it, and how large numbers are on the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import overload

import numpy as np

UNIT_ROUNDOFF: Mapping[str, float] = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8_e4m3fn": 2.0**-4,
    "float8_e5m2": 2.0**-3,
}
"""Largest relative change that storing a number in a format makes."""


FLOAT16_MAX = 65504.0
"""The largest finite number of float16: (2 - 2**-10) * 2**15 (IEEE 754, binary16)."""

OVERFLOW: Mapping[str, float] = {
    "float64": math.inf,
    "float32": (2.0 - 2.0**-24) * 2.0**127,
    "float16": FLOAT16_MAX + 16,
    "bfloat16": (2.0 - 2.0**-8) * 2.0**127,
}
"""From this size on a format rounds to infinity: half a step beyond its largest finite number (IEEE 754, 4.3.1)."""


@cache
def dtype_name(dtype: np.dtype) -> str:
    """The name of a dtype. NumPy puts it together anew each time, which takes longer than looking at a small value."""
    return str(dtype)


def to_float16(values: np.ndarray) -> np.ndarray:
    """``values`` as a converter stores them: finite ones beyond float16 become its largest, not infinite.

    A mask's -1e9 has to stay a number: an infinity in it makes NaN of 0 * mask, and of a softmax's row that it fills.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    # two quick looks, which a NaN or an infinity fails too
    if not values.size or (values.min() >= -FLOAT16_MAX and values.max() <= FLOAT16_MAX):
        return half
    beyond = np.isinf(half) & np.isfinite(values)
    if beyond.any():
        half[beyond] = np.copysign(np.float16(FLOAT16_MAX), half[beyond])
    return half


def rms(values: np.ndarray) -> float:
    """Root mean square, without overflow for values whose squares are too large."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    # divided by the largest first: squares of numbers beyond 1.8e19 leave float32, of 1.3e154 float64
    return largest * math.sqrt(float(np.mean(np.square(values / largest))))


def relative_rms(reference: np.ndarray, value: np.ndarray, scale: float | None = None) -> float:
    """The root mean square of the difference as a share of ``scale`` (default: the reference's root mean square).

    Infinite where the sizes differ, where a number is not finite, and for any difference from a scale of 0.
    """
    if reference.size != value.size:
        return math.inf
    expected, found = (array.astype(np.float64).reshape(-1) for array in (reference, value))
    with np.errstate(invalid="ignore", over="ignore"):
        error = rms(expected - found)
    return share_of(error, rms(expected) if scale is None else scale) if math.isfinite(error) else math.inf


def share_of(error: float, scale: float) -> float:
    """An error as a share of a scale: 0 where there is no error, infinite where there is one and no scale."""
    return error / scale if scale > 0 else (0.0 if error == 0 else math.inf)


@overload
def json_ready(
    value: Mapping[str, object], *, nan: str | None = "NaN", digits: int | None = None
) -> dict[str, object]: ...


@overload
def json_ready(value: object, *, nan: str | None = "NaN", digits: int | None = None) -> object: ...


def json_ready(value: object, *, nan: str | None = "NaN", digits: int | None = None) -> object:
    """A value as JSON can hold it: what is not finite becomes a word (NaN ``nan``), other floats keep so many ``digits``."""
    if isinstance(value, Mapping):
        return {key: json_ready(each, nan=nan, digits=digits) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(each, nan=nan, digits=digits) for each in value]
    if not isinstance(value, float):
        return value
    # JSON knows neither NaN nor infinities; Python would write words that other parsers refuse
    if not math.isfinite(value):
        return nan if math.isnan(value) else "infinity" if value > 0 else "-infinity"
    return value if digits is None else float(f"{value:.{digits}g}")


def bytes_as_text(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"
