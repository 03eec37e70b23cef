"""What compression explains: a weight that is off by no more than the steps in which it is stored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from coreproof.doctor.source.layer_differences import SAME, STORED, LayerDifference
from coreproof.model.base import Model
from coreproof.model.layer_weights import layer_steps, layer_weights
from coreproof.model.numbers import rms

Array = npt.NDArray[np.float64]


def is_compressed(model: Model, difference: LayerDifference) -> bool:
    """Whether a difference is about a weight that is stored in few bits, as a table, or with zeros left out."""
    return difference.kind in STORED and difference.subject in layer_steps(model, difference.layer)


def is_cost(model: Model, difference: LayerDifference) -> bool:
    """Whether a difference is what compression costs: each slice is off by a step at most, and what was left out is small.

    A number becomes the nearest that can be stored, half a step away at most, or, where a tool spreads errors over its
    neighbours (GPTQ), the one beyond: root mean squares over a slice are held against the whole step. The weight as a
    whole has to be nearer to the source's than zeros are, which a step as large as the weight itself would not
    show; and numbers that are left out are to be smaller than those that are kept. A factor is never a cost: it got lost.
    """
    if difference.kind not in STORED or "scaled by" in difference.words:
        return False
    steps = layer_steps(model, difference.layer).get(difference.subject)
    meant = difference.edits[0].arguments.get("value")
    now = layer_weights(model, difference.layer).get(difference.subject)
    if steps is None or now is None or not isinstance(meant, np.ndarray) or meant.shape != now.shape != ():
        return False
    return explains(now.astype(np.float64), meant.astype(np.float64), steps.astype(np.float64))


def explains(now: Array, meant: Array, steps: Array) -> bool:
    """Whether steps of this size, NaN where a number is left out, make ``now`` of ``meant``."""
    kept = np.isfinite(steps)
    if np.sum(np.square(now - meant)) >= np.sum(np.square(meant)):
        return False
    # pruning takes the small ones; where large ones are gone, they got lost
    if kept.any() and not kept.all() and rms(meant[~kept]) > rms(meant[kept]):
        return False
    # what lies beyond the largest that can be stored becomes that, however far away it is
    off = np.where(kept, now - meant.clip(now.min(), now.max()), 0.0)
    allowed = np.hypot(np.where(kept, steps, 0.0), SAME * np.where(kept, meant, 0.0))
    return all(bool((a <= b).all()) for a, b in zip(_slices(off), _slices(allowed), strict=True))


def _slices(array: Array) -> Iterator[Array]:
    """The sums of squares of all slices along each axis that holds channels: the first two; of a vector, of the whole."""
    squares = np.square(array)
    if array.ndim < 2:
        yield squares.sum()
        return
    for axis in (0, 1):
        yield squares.sum(tuple(i for i in range(array.ndim) if i != axis))
