"""What float16 loses of stored numbers: those below its normal ones, and those beyond its largest."""

from __future__ import annotations

from math import prod

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.model.numbers import FLOAT16_MAX

SMALLEST = float(np.finfo(np.float16).smallest_subnormal)

LOST = 1 / 32
"""A number of which rounding to float16 takes more than this share is lost; 1e-6 (1.3%) is not, 1e-7 is."""

LOOKED_AT = 4096
"""So many numbers say of a weight whether it is faint: where these are of a usual size, so is it."""


def share_lost(array: Array) -> float:
    """The largest share of a number that float16 takes from one below its normal numbers, which keep eleven bits.

    Below them each halving loses one. Only epsilons and scales are looked at, a number or one a channel, and no weights.
    """
    if prod(array.shape) > LOOKED_AT or array.dtype == np.float16:
        return 0.0
    size = np.abs(array.astype(np.float64))
    small = size[(size > 0) & (size < np.finfo(np.float16).tiny)]
    return float((np.abs(small.astype(np.float16).astype(np.float64) - small) / small).max(initial=0.0))


def is_huge(array: Array) -> bool:
    """Whether some finite element is beyond float16."""
    if array.dtype == np.float16 or not array.size:
        return False
    # two quick looks, which a NaN or an infinity fails, and nothing else that is within float16
    if array.min() >= -FLOAT16_MAX and array.max() <= FLOAT16_MAX:
        return False
    size = np.abs(array)
    return bool((np.isfinite(size) & (size > FLOAT16_MAX)).any())


def raised(array: Array) -> Array:
    """``array`` with float16's smallest number where it would round a number to zero."""
    if array.dtype.kind != "f" or array.dtype == np.float16:
        return array
    gone = (array != 0) & (np.abs(array) < SMALLEST)
    # with its sign: a negative epsilon guards from the other side
    return np.where(gone, np.copysign(SMALLEST, array), array).astype(array.dtype) if gone.any() else array
