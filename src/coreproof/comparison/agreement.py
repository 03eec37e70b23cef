"""Statistics of agreement, on plain numpy arrays: counts, intervals, kappa, divergence, accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating]
Integers: TypeAlias = npt.NDArray[np.integer]

_BLOCK = 16
_Z_95 = 1.959963984540054


def wilson(successes: float, trials: float, z: float = _Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (95% by default); (0, 1) without trials.

    Trials that are no evidence of their own are counted in parts: of seven crops of a picture each is a seventh, as
    if they all told the same. That is the widest interval that crops can have, whatever they have in common.
    """
    if trials == 0:
        return 0.0, 1.0
    share = min(1.0, successes / trials)  # parts of pictures add up to a little more than they are
    # Wilson (1927): the shares p for which (share - p)^2 <= z^2 p (1 - p) / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = ((centre + sign * spread) / (1 + z * z / trials) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def cohen_kappa(agreeing: int, a: Integers, b: Integers) -> float:
    """Cohen's kappa of two labellings: agreement beyond what their label frequencies make by chance.

    ``agreeing``: how many things both give the same label; ``a`` and ``b``: how often each gives each label. 1 for identical
    labellings. NaN, for undefined, where both give one and the same label throughout (chance alone makes them agree, 0 / 0), and
    without any labels.
    """
    total = int(a.sum())
    if total == 0:
        return math.nan
    # what two labellings of these frequencies agree on by chance (Cohen, 1960)
    chance = float((a / total) @ (b / total))
    return math.nan if chance == 1.0 else (agreeing / total - chance) / (1 - chance)


def top_k(probabilities: Floats, k: int = 5) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Indices and values of the k largest of each row, largest first; equal ones in class order."""
    rest = np.array(probabilities, dtype=np.float32)
    rows = np.arange(len(rest))
    indices = np.empty((len(rest), min(k, rest.shape[1])), np.int32)
    for place in range(indices.shape[1]):  # a few times the first maximum is much faster than sorting all classes
        indices[:, place] = rest.argmax(axis=1)
        rest[rows, indices[:, place]] = -np.inf
    return indices, np.take_along_axis(np.asarray(probabilities, np.float32), indices, axis=1)


def top_overlap(a: Integers, b: Integers, a_values: Floats, b_values: Floats) -> npt.NDArray[np.float64]:
    """The share of each row's classes (top-5 indices) that both models name, whatever the order: 0..1.

    A class of no probability is not named: it stands there because of its number alone.
    """
    named = a_values > 0, b_values > 0
    same = (a[:, :, None] == b[:, None, :]) & named[0][:, :, None] & named[1][:, None, :]
    most = np.maximum(named[0].sum(axis=1), named[1].sum(axis=1))
    return np.asarray(same.any(axis=2).sum(axis=1) / np.maximum(most, 1), dtype=np.float64)


def entropy(probabilities: Floats) -> npt.NDArray[np.float64]:
    """Shannon entropy of each row, in bits."""
    p = np.asarray(probabilities, dtype=np.float64)
    logarithms = np.maximum(p, np.finfo(np.float64).tiny)  # 0 log 0 is 0
    np.log2(logarithms, out=logarithms)
    return np.asarray(-np.einsum("ij,ij->i", p, logarithms))


@dataclass(frozen=True)
class Distributions:
    """Rows of probabilities, scaled to sum 1, with their entropies: what divergences from many others need once."""

    rows: npt.NDArray[np.float64]
    entropies: npt.NDArray[np.float64]

    @classmethod
    def from_probabilities(cls, probabilities: Floats) -> Distributions:
        """Rows are scaled to sum 1: 16-bit probabilities do not, and the difference would count as divergence."""
        p = np.array(probabilities, dtype=np.float64)
        p /= p.sum(axis=-1, keepdims=True)
        return cls(p, np.concatenate([entropy(p[rows]) for rows in _blocks(len(p))]))

    def divergence(self, other: Distributions) -> npt.NDArray[np.float64]:
        """Jensen-Shannon divergence of each pair of rows, base 2: 0 for equal distributions, 1 for disjoint ones."""
        mixed = [entropy((self.rows[rows] + other.rows[rows]) / 2) for rows in _blocks(len(self.rows))]
        # H((p + q) / 2) - (H(p) + H(q)) / 2, which rounding may put just outside of 0..1
        return np.clip(np.concatenate(mixed) - (self.entropies + other.entropies) / 2, 0.0, 1.0)


def _blocks(rows: int) -> list[slice]:
    """Few rows at a time: what is computed with them stays in the processor's cache."""
    return [slice(start, start + _BLOCK) for start in range(0, max(rows, 1), _BLOCK)]


def truth_rank(probabilities: Floats, truth: Integers) -> npt.NDArray[np.int32]:
    """How many classes each row holds more probable than the true one: 0 is right; -1 where truth is unknown (-1)."""
    known = (truth >= 0) & (truth < probabilities.shape[1])
    rows = np.arange(len(truth))
    at = np.where(known, truth, 0)
    own = probabilities[rows, at][:, None]
    classes = np.arange(probabilities.shape[1])[None, :]
    # of equal classes the earlier one comes first, as in top_k
    ahead = (probabilities > own) | ((probabilities == own) & (classes < at[:, None]))
    return np.where(known, ahead.sum(axis=1), -1).astype(np.int32)
