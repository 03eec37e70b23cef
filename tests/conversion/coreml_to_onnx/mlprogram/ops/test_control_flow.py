"""Loops and branches of ML Programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import only, run


def test_loops_and_branches(tmp_path: Path) -> None:
    def build(mb: object, a: object) -> object:
        (power,) = mb.while_loop(  # type: ignore[attr-defined]
            _cond=lambda v: mb.less(x=mb.reduce_max(x=v), y=np.float32(100)),  # type: ignore[attr-defined]
            _body=lambda v: (mb.mul(x=v, y=np.float32(2)),),  # type: ignore[attr-defined]
            loop_vars=(a,),
        ),  # fmt: skip
        return mb.add(x=power, y=np.float32(0))  # type: ignore[attr-defined]

    model = mil(tmp_path, build, (2,), target="iOS16")
    np.testing.assert_array_equal(only(run(model, a=np.array([1, 3], np.float32))), [64, 192])
