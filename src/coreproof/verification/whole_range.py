"""Whole numbers that a source has beyond 32 bits, where a Core ML model has others, as it holds none of that size.

Exporters write a shift of a negative number with its 64 bits as a number without a sign, 2^64 - 1 for -1, and choose by the sign
what they read of it. An infinite float that is cast becomes some end of the range there, and stays infinite in a NeuralNetwork,
which keeps whole numbers in float32. Nothing hangs on such an inner value by itself: as one that leaves float16's range, it is
harmless where all that is made of it agrees.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coreproof.verification.tolerance import Judgement

BEYOND = "elements are whole numbers beyond 32 bits"
"""What is said of such a disagreement."""
_ENDS = np.iinfo(np.int32)


def judge_whole_range(reference: np.ndarray, candidate: np.ndarray, judgement: Judgement) -> Judgement:
    """A disagreement of whole numbers, with ``clipped`` noted where it lies in those alone that 32 bits do not hold."""
    # a NeuralNetwork keeps them in float32
    if judgement.agrees or reference.size != candidate.size or reference.dtype.kind not in "iu":
        return judgement
    given, ends = candidate.reshape(reference.shape), np.iinfo(reference.dtype)
    off = given != reference
    beyond = reference > _ENDS.max if reference.dtype.kind == "u" else (reference > _ENDS.max) | (reference < _ENDS.min)
    # of what is infinite or NaN no whole number is made: processors give an end of the range, or zero
    unmade = (reference == ends.min) | (reference == ends.max) | (reference == 0)
    beyond |= unmade & ~np.isfinite(given) if given.dtype.kind == "f" else False
    if (off & ~beyond).any():
        return judgement
    many = int(off.sum())
    return replace(judgement, clipped=many, problem=f"{many} of {off.size} {BEYOND}")
