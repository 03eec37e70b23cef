"""What storing a number in a dtype does to it, and how large numbers are on the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping

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


def to_float16(values: np.ndarray) -> np.ndarray:
    """``values`` as a converter stores them: finite ones beyond float16 become its largest, not infinite.

    A mask's -1e9 has to stay a number: an infinity in it makes NaN of 0 * mask, and of a softmax's row that it fills.
    """
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    beyond = np.isinf(half) & np.isfinite(values)
    if beyond.any():
        half[beyond] = np.copysign(np.float16(FLOAT16_MAX), half[beyond])
    return half


def rms(values: np.ndarray) -> float:
    """Root mean square, without overflow for values whose squares are too large."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(float(np.mean(np.square(values / largest))))
