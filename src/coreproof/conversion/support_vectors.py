"""How LIBSVM lays out the coefficients of a classifier, in Core ML's message and in ONNX's attributes alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from coreproof.model.budget import afford

LEAST_PROBABILITY = 1e-7
"""No pair of classes is decided with more certainty than this leaves: ``min_prob`` in LIBSVM's svm.cpp."""


def pair_weights(alpha: npt.NDArray[np.float64], counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """How much each support vector counts for each pair of classes, [pairs, vectors].

    A row of ``alpha`` holds, for the vectors of class i, those of its pair with class j in row j - 1 where j > i, else row j.
    ``counts``: how many vectors each class has.
    """
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    pairs = list(combinations(range(len(counts)), 2))
    afford("the weights of the support vectors in all pairs of classes", [len(pairs), int(starts[-1])], 8)
    weights = np.zeros((len(pairs), int(starts[-1])))
    for row, (i, j) in enumerate(pairs):
        weights[row, starts[i] : starts[i + 1]] = alpha[j - 1, starts[i] : starts[i + 1]]
        weights[row, starts[j] : starts[j + 1]] = alpha[i, starts[j] : starts[j + 1]]
    return weights
