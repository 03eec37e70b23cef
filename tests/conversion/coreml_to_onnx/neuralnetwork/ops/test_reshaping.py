"""Reshapes and permutations in rank 5 networks, and the format's own worked examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.coreml_to_onnx.lowered import close, run_layer
from tests.drawn import normal


def test_reshape_and_flatten_in_both_orders() -> None:
    x = normal(2, 3, 4)
    assert run_layer("reshape", x, exact=False, targetShape=[4, 2, 3]).shape == (1, 1, 4, 2, 3)
    close(run_layer("reshape", x, exact=False, targetShape=[2, 3, -1, 1]), x.reshape(2, 1, 3, 4, 1))
    close(run_layer("reshape", x, exact=False, targetShape=[6, 2, 2])[0, 0], x.reshape(6, 2, 2))
    last = x.transpose(1, 2, 0).reshape(2, 2, 6).transpose(2, 0, 1)
    close(run_layer("reshape", x, exact=False, targetShape=[6, 2, 2], mode="CHANNEL_LAST")[0, 0], last)
    close(run_layer("flatten", x, exact=False)[0, 0], x.reshape(24, 1, 1))
    close(run_layer("flatten", x, exact=False, mode="CHANNEL_LAST")[0, 0], x.transpose(1, 2, 0).reshape(24, 1, 1))


@pytest.mark.parametrize(("axis", "shape"), [([0, 3, 1, 2], (1, 1, 4, 2, 3)), ([3, 1, 2, 0], (4, 1, 2, 3, 1))])
def test_permute_counts_seq_c_h_w(axis: list[int], shape: tuple[int, ...]) -> None:
    x = normal(2, 3, 4)
    found = run_layer("permute", x, exact=False, axis=axis)
    assert found.shape == shape
    close(found.reshape(-1), x[None].transpose(axis).reshape(-1))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("DEPTH_TO_SPACE", [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]),
        ("PIXEL_SHUFFLE", [[[1, 3, 2, 4], [5, 7, 6, 8]], [[9, 11, 10, 12], [13, 15, 14, 16]]]),
    ],
)
def test_reorganize_data_as_the_format_shows_it(mode: str, expected: Any) -> None:
    x = np.arange(1, 17, dtype=np.float32).reshape(8, 1, 2)
    found = run_layer("reorganizeData", x, mode=mode, blockSize=2)
    close(found, np.asarray(expected, np.float32))
    if mode == "DEPTH_TO_SPACE":
        close(run_layer("reorganizeData", found, mode="SPACE_TO_DEPTH", blockSize=2), x)


def test_a_run_time_shape_reshapes() -> None:
    x = normal(2, 6)
    found = run_layer("reshapeDynamic", x, np.asarray([3, -1], np.float32))
    close(found, x.reshape(3, 4))
