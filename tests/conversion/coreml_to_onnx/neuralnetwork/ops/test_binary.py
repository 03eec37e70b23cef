"""Layers of several operands that are rarely met: average, dot product, repeated sequences."""

from __future__ import annotations

import numpy as np

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


def test_average_dot_and_sequence_repeat() -> None:
    a, b = normal(1, 3, 1, 1), normal(1, 3, 1, 1)
    close(run_layer("average", a, b), (a + b) / 2)
    close(run_layer("dot", a, b), (a * b).sum(1, keepdims=True))
    cosine = (a * b).sum(1, keepdims=True) / (np.linalg.norm(a) * np.linalg.norm(b))
    close(run_layer("dot", a, b, cosineSimilarity=True), cosine)
    x = normal(2, 1, 3, 1, 1)
    close(run_layer("sequenceRepeat", x, nRepetitions=3), np.concatenate([x] * 3))
