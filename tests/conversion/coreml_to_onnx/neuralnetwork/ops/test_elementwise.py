"""Unary functions, scales and biases, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("SQRT", lambda v: np.sqrt(v)), ("RSQRT", lambda v: 1 / np.sqrt(v + 0.1)), ("INVERSE", lambda v: 1 / (v + 0.1)),
        ("POWER", lambda v: v**1.5), ("EXP", np.exp), ("LOG", lambda v: np.log(v + 0.1)), ("ABS", np.abs),
        ("THRESHOLD", lambda v: np.maximum(v, 1.5)),
    ],
)  # fmt: skip
def test_unary_scales_and_shifts_first(kind: str, expected: Any) -> None:
    x = np.abs(normal(3, 2, 2))
    close(run_layer("unary", x, type=kind, alpha=1.5, epsilon=0.1, scale=2.0, shift=0.25), expected(2 * x + 0.25))


def test_scale_and_bias_shapes() -> None:
    x, c, hw = normal(3, 4, 5), normal(3), normal(1, 4, 5)
    close(
        run_layer("scale", x, exact=False, shapeScale=[3], scale=c, hasBias=True, shapeBias=[1, 4, 5], bias=hw)[0, 0],
        x * c[:, None, None] + hw,
    )
    close(run_layer("bias", x, exact=False, shape=[1], bias=np.ones(1))[0, 0], x + 1)
