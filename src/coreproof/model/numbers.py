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


def rms(values: np.ndarray) -> float:
    """Root mean square, without overflow for values whose squares are too large."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * math.sqrt(float(np.mean(np.square(values / largest))))
