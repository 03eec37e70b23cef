"""Compressed weights, against what they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import RNG, normal, only, run


def test_sub_byte_weights(tmp_path: Path) -> None:
    indices = RNG.integers(0, 8, (8, 16)).astype(np.uint8)
    table = normal(8)

    def build(mb: object, a: object) -> object:
        from coremltools.converters.mil.mil import types

        stored = indices.astype(types.nptype_from_builtin(types.string_to_builtin("uint3")))
        weight = mb.constexpr_lut_to_dense(indices=stored, lut=table.reshape(1, 1, 8, 1))  # type: ignore[attr-defined]
        return mb.linear(x=a, weight=weight)  # type: ignore[attr-defined]

    model = mil(tmp_path, build, (2, 16), target="iOS18")
    x = normal(2, 16)
    np.testing.assert_allclose(only(run(model, a=x)), x @ table[indices].T, rtol=1e-5, atol=1e-5)
