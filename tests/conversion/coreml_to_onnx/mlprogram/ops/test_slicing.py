"""Slices by position against NumPy: either direction, masks, dropped axes, positions that are computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("slicing")
Array = np.ndarray
X = normal(3, 4, 5)
WHOLE = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
INTS = np.int32


def index(
    begin: Sequence[int], end: Sequence[int], stride: Sequence[int] | None = None, begin_mask: Sequence[bool] | None = None,
    end_mask: Sequence[bool] | None = None, squeeze_mask: Sequence[bool] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """The index of NumPy that a slice stands for."""
    none = [False] * len(begin)
    steps = [1] * len(begin) if stride is None else stride
    return tuple(
        int(b) if s else slice(None if bm else int(b), None if em else int(e), int(step))
        for b, e, step, bm, em, s in zip(
            begin, end, steps, begin_mask or none, end_mask or none, squeeze_mask or none, strict=True
        )
    )


SLICES = [
    {"begin": INTS([1, 0, 2]), "end": INTS([3, 4, 5])}, {"begin": INTS([0, 1, 0]), "end": INTS([3, 4, 5]), "stride": [1, 2, 3]},
    {"begin": INTS([-1, 3, 4]), "end": INTS([-4, -5, 1]), "stride": [-1, -2, -1]},
    {"begin": INTS([-2, -3, -5]), "end": INTS([-1, 4, 100])},
    {"begin": INTS([1, 2, -1]), "end": INTS([0, 0, 0]), "stride": [1, 1, -1], "begin_mask": [False, False, True],
     "end_mask": [False, True, True], "squeeze_mask": [True, False, False]},
    {"begin": INTS([-1, 0, 3]), "end": INTS([0, 0, 0]), "squeeze_mask": [True, False, True], "end_mask": [False, True, False]},
    {"begin": INTS([2, 1, -2]), "end": INTS([0, 0, 0]), "squeeze_mask": [True, True, True]},
    {"begin": INTS([0, 0, 0]), "end": INTS([0, 0, 0]), "begin_mask": [True] * 3, "end_mask": [True] * 3, "stride": [-1, 1, -2]},
]  # fmt: skip


@family.defines(
    "slice_by_index",
    "x",
    [{"x": x, **where} for x in (X, WHOLE) for where in SLICES]
    + [{"x": normal(5), "begin": [3], "end": [0], "squeeze_mask": [True]}],
)
@family.defines("slice_by_index", "x begin end", [{"x": X, **where} for where in SLICES if -5 not in where["end"]])
def slice_by_index(x: Array, **where: Any) -> Array:
    return x[index(**where)]


SIZES = [
    {"begin": INTS([1, 0, 2]), "size": INTS([2, 4, 1])},
    {"begin": INTS([0, 1, 3]), "size": INTS([-1, 2, -1])},
    {"begin": INTS([-1, -3, -5]), "size": INTS([1, 2, 5])},
]


@family.defines("slice_by_size", "x begin size", [{"x": x, **where} for x in (X, WHOLE) for where in SIZES])
def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    starts = [int(b) % n for b, n in zip(begin, x.shape, strict=True)]
    return x[tuple(slice(b, None if s == -1 else b + int(s)) for b, s in zip(starts, size, strict=True))]


@family.defines(
    "slice_update", "x update begin end",
    [{"x": X, "update": normal(*slice_by_index(X, **where).shape), **where} for where in SLICES
      if slice_by_index(X, **where).ndim and -5 not in where["end"]]
    + [{"x": WHOLE, "update": -WHOLE[1:, ::2], "begin": INTS([1, 0, 0]), "end": INTS([3, 4, 5]), "stride": [1, 2, 1]}],
    target="iOS18",
)  # fmt: skip
def slice_update(x: Array, update: Array, **where: Any) -> Array:
    changed = x.copy()
    changed[index(**where)] = update
    return changed


@family.defines(
    "crop",
    "x",
    [
        {"x": X, "crop_height": [1, 0], "crop_width": [0, 2]},
        {"x": normal(2, 1, 4, 5), "crop_height": [0, 0], "crop_width": [2, 1]},
        {"x": normal(1, 1, 1, 3, 3), "crop_height": [1, 1], "crop_width": [0, 0]},
    ],
)
def crop(x: Array, crop_height: Sequence[int], crop_width: Sequence[int]) -> Array:
    height, width = x.shape[-2:]
    return x[..., crop_height[0] : height - crop_height[1], crop_width[0] : width - crop_width[1]]


@family.defines(
    "reverse",
    "x",
    [
        {"x": X},
        {"x": X, "axes": [-1]},
        {"x": WHOLE, "axes": [0, 2]},
        {"x": normal(4), "axes": [0]},
        {"x": normal(1, 2, 2, 1, 3), "axes": [4, -4]},
    ],
)
def reverse(x: Array, axes: Sequence[int] | None = None) -> Array:
    return np.flip(x, None if axes is None else tuple(axes))


@family.defines(
    "reverse_sequence", "x lengths",
    [
        {"x": X, "lengths": INTS([1, 3, 4]), "seq_axis": 1, "batch_axis": 0},
        {"x": X, "lengths": INTS([0, 2, 1, 3]), "seq_axis": 0, "batch_axis": 1},
        {"x": X, "lengths": INTS([2, 5, 0, 1]), "seq_axis": -1, "batch_axis": -2},
        {"x": normal(2, 1, 3, 2, 2), "lengths": INTS([2, 3]), "seq_axis": 2, "batch_axis": 4},
    ],
)  # fmt: skip
def reverse_sequence(x: Array, lengths: Array, seq_axis: int, batch_axis: int) -> Array:
    moved = np.moveaxis(x, (batch_axis, seq_axis), (0, 1)).copy()
    for row, length in zip(moved, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(moved, (0, 1), (batch_axis, seq_axis))


@family.each
def test_each_slice_is_numpys(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
