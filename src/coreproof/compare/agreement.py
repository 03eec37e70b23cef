"""Statistics of agreement, on plain numpy arrays: counts, intervals, kappa, divergence, accuracy."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]

_Z_95 = 1.959963984540054


def wilson(successes: int, trials: int, z: float = _Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (95% by default); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = ((centre + sign * spread) / (1 + z * z / trials) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def cohen_kappa(a: Integers, b: Integers) -> float:
    """Cohen's kappa of two labellings: agreement beyond what their label frequencies make by chance.

    1 for identical labellings, also where both hold one and the same label throughout; NaN without photos.
    """
    if a.size == 0:
        return math.nan
    observed = float(np.mean(a == b))
    classes = int(max(a.max(), b.max())) + 1
    shares_a = np.bincount(a, minlength=classes) / a.size
    shares_b = np.bincount(b, minlength=classes) / b.size
    chance = float(shares_a @ shares_b)
    return 1.0 if chance == 1.0 else (observed - chance) / (1 - chance)


def top_k(probabilities: Floats, k: int = 5) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Indices and values of the k largest of each row, largest first; equal ones in class order."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return order.astype(np.int32), np.take_along_axis(probabilities, order, axis=1).astype(np.float32)


def top_overlap(a: Integers, b: Integers) -> npt.NDArray[np.float64]:
    """The share of each row's classes (top-5 indices) that both models name, whatever the order: 0..1."""
    shared = (a[:, :, None] == b[:, None, :]).any(axis=2).sum(axis=1)
    return np.asarray(shared / max(1, a.shape[1]), dtype=np.float64)


def entropy(probabilities: Floats) -> npt.NDArray[np.float64]:
    """Shannon entropy of each row, in bits."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(-np.sum(p * np.log2(np.where(p > 0, p, 1.0)), axis=-1))


def jensen_shannon(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """Jensen-Shannon divergence of each pair of rows, base 2: 0 for equal distributions, 1 for disjoint ones.

    Rows are scaled to sum 1 first: 16-bit probabilities do not, and the difference would count as divergence.
    """
    p, q = (np.asarray(x, dtype=np.float64) for x in (a, b))
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    divergence = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    return np.clip(divergence, 0.0, 1.0)


def truth_rank(probabilities: Floats, truth: Integers) -> npt.NDArray[np.int32]:
    """How many classes each row holds more probable than the true one: 0 is right; -1 where truth is unknown (-1)."""
    known = (truth >= 0) & (truth < probabilities.shape[1])
    rows = np.arange(len(truth))
    at = np.where(known, truth, 0)
    own = probabilities[rows, at][:, None]
    classes = np.arange(probabilities.shape[1])[None, :]
    ahead = (probabilities > own) | ((probabilities == own) & (classes < at[:, None]))
    return np.where(known, ahead.sum(axis=1), -1).astype(np.int32)


def ordered(values: Floats, largest: bool = False) -> npt.NDArray[np.intp]:
    """Positions from the smallest (or largest) value; equal ones in photo order."""
    return np.argsort(-values if largest else values, kind="stable")
