"""Slices by position against numpy: either direction, masks, dropped axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import normal, only, run


@pytest.mark.parametrize(
    ("begin", "end", "stride", "expected"),
    [([1, 0], [3, 4], [1, 2], np.s_[1:3, 0:4:2]), ([-1, 3], [-4, -5], [-1, -2], np.s_[-1:-4:-1, 3:-5:-2])],
)
def test_slices(tmp_path: Path, begin: list[int], end: list[int], stride: list[int], expected: object) -> None:
    x = normal(4, 4)
    model = mil(tmp_path, lambda mb, a: mb.slice_by_index(x=a, begin=begin, end=end, stride=stride), x.shape)
    np.testing.assert_array_equal(only(run(model, a=x)), x[expected])


def test_slice_masks_and_squeeze(tmp_path: Path) -> None:
    x = normal(3, 4, 5)
    model = mil(
        tmp_path,
        lambda mb, a: mb.slice_by_index(
            x=a, begin=[1, 2, -1], end=[0, 0, 0], stride=[1, 1, -1],
            begin_mask=[False, False, True], end_mask=[False, True, True], squeeze_mask=[True, False, False],
        ),
        x.shape,
    )  # fmt: skip
    np.testing.assert_array_equal(only(run(model, a=x)), x[1, 2:, ::-1])
