"""Operations that make, join, split, sort and search tensors, against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("tensor_operation")
Array = np.ndarray
X = normal(2, 3, 4)
WHOLE = np.arange(24, dtype=np.int32).reshape(2, 3, 4) % 7 - 3
FIVE = normal(2, 1, 3, 2, 2)
INTS = np.int32


@family.defines("shape", "x", [{"x": x} for x in (X, WHOLE, FIVE, normal(3))])
def shape(x: Array) -> Array:
    return np.array(x.shape)


@family.defines(
    "fill",
    "shape",
    [{"shape": INTS([2, 3])}, {"shape": INTS([1, 2, 1, 2, 2]), "value": 2.5}, {"shape": INTS([3]), "value": -4}],
)
def fill(shape: Array, value: float = 0.0) -> Array:
    return np.full(shape, value)


@family.defines(
    "fill_like",
    "ref_tensor",
    [{"ref_tensor": X}, {"ref_tensor": WHOLE, "value": 2.5}, {"ref_tensor": FIVE, "value": 3}],
)
def fill_like(ref_tensor: Array, value: float = 0.0) -> Array:
    return np.full(ref_tensor.shape, value)


@family.defines(
    "range_1d",
    "start end step",
    [
        {"start": np.float32(a), "end": np.float32(b), "step": np.float32(c)}
        for a, b, c in ((0, 5, 1), (1, 2.25, 0.25), (5, 0.5, -1), (0, 1, 4))
    ],
    tame="start end step",
)
@family.defines(
    "range_1d",
    "start end step",
    [{"start": INTS(a), "end": INTS(b), "step": INTS(c)} for a, b, c in ((0, 5, 1), (-3, 8, 5), (5, 0, -2))],
)
def range_1d(start: Any, end: Any, step: Any) -> Array:
    return np.arange(start, end, step)


@family.defines(
    "concat", "values",
    [
        {"values": [X, normal(2, 1, 4)], "axis": 1}, {"values": [X, X, X], "axis": -1}, {"values": [WHOLE, WHOLE], "axis": 0},
        {"values": [FIVE, FIVE], "axis": 4}, {"values": [X], "axis": 0}, {"values": [X, 2 * X], "axis": 1, "interleave": True},
        {"values": [X, 2 * X, -X], "axis": -1, "interleave": True}, {"values": [FIVE, -FIVE], "axis": 0, "interleave": True},
    ],
)  # fmt: skip
def concat(values: list[Array], axis: int, interleave: bool = False) -> Array:
    joined = np.concatenate(values, axis)
    length = values[0].shape[axis]
    order = np.arange(joined.shape[axis]).reshape(-1, length).T.ravel() if interleave else np.arange(joined.shape[axis])
    return joined.take(order, axis)


@family.defines(
    "stack",
    "values",
    [{"values": [X, -X], "axis": axis} for axis in (0, 1, 3, -1, -4)]
    + [{"values": [WHOLE] * 3, "axis": 2}, {"values": [np.float32(1), np.float32(2)], "axis": 0}],
)
def stack(values: list[Array], axis: int) -> Array:
    return np.stack(values, axis)


@family.defines(
    "split", "x",
    [{"x": X, "axis": 2, "num_splits": 2}, {"x": X, "axis": -2, "split_sizes": INTS([1, 2])},
      {"x": FIVE, "axis": 2, "split_sizes": INTS([2, 1])},
     {"x": WHOLE, "axis": 0, "num_splits": 2}, {"x": normal(6), "axis": 0, "split_sizes": INTS([1, 2, 3])}],
)  # fmt: skip
def split(x: Array, axis: int, num_splits: int = 0, split_sizes: Any = None) -> tuple[Array, ...]:
    return tuple(np.split(x, num_splits if split_sizes is None else np.cumsum(split_sizes)[:-1], axis))


@family.defines(
    "tile",
    "x",
    [
        {"x": X, "reps": [1, 2, 3]},
        {"x": WHOLE, "reps": [2, 1, 1]},
        {"x": FIVE, "reps": [2, 3, 1, 2, 2]},
        {"x": normal(3), "reps": [4]},
    ],
)
def tile(x: Array, reps: list[int]) -> Array:
    return np.tile(x, reps)


PADDED = [{"pad": [1, 2]}, {"pad": [0, 1, 2, 0]}, {"pad": [1, 0, 0, 2, 1, 1]}]


@family.defines(
    "pad", "x",
    [
        *({"x": X, **p} for p in PADDED), *({"x": X, **p, "constant_val": np.float32(-np.inf)} for p in PADDED),
        *({"x": X, "pad": [1, 2], "mode": mode} for mode in ("reflect", "replicate")),
        {"x": X, "pad": [2, 1, 3, 0], "mode": "reflect"},
        {"x": X, "pad": [3, 1, 4, 0], "mode": "replicate"}, {"x": FIVE, "pad": [1, 1, 0, 2, 1, 0, 2, 2, 0, 1]},
        {"x": FIVE, "pad": [1, 1], "mode": "reflect"},
        {"x": normal(3), "pad": [0, 2], "mode": "reflect"},
    ],
)  # fmt: skip
@family.defines("pad", "x pad", [{"x": X, "pad": INTS([1, 0, 0, 2, 1, 1]), "constant_val": np.float32(0.5)}])
def pad(x: Array, pad: Any, mode: str = "constant", constant_val: Any = 0) -> Array:
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(int(a), int(b)) for a, b in np.reshape(pad, (-1, 2))]
    if mode == "constant":
        return np.pad(x, widths, constant_values=constant_val)
    return np.pad(x, widths, mode="edge" if mode == "replicate" else "reflect")


@family.defines(
    "cumsum", "x",
    [{"x": x, "axis": axis, "exclusive": e, "reverse": r} for x in (X, WHOLE)
      for axis, e, r in ((0, False, False), (1, True, False), (-1, False, True), (2, True, True))]
    + [{"x": normal(4)}],
    within=1e-6,
)  # fmt: skip
def cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Array:
    x = np.flip(x, axis) if reverse else x
    sums = np.cumsum(x, axis) - (x if exclusive else 0)
    return np.flip(sums, axis) if reverse else sums


@family.defines(
    "band_part",
    "x",
    [
        {"x": x, "lower": low, "upper": up}
        for x in (normal(3, 4), FIVE, WHOLE)
        for low, up in ((-1, -1), (0, -1), (-1, 0), (0, 0), (1, 2))
    ]
    + [{"x": normal(3, 4) > 0, "lower": 0, "upper": 1}],
)
def band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    m, n = np.indices(x.shape[-2:])
    return np.where(((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper)), x, np.zeros_like(x))


@family.defines(
    "one_hot", "indices",
    [
        {"indices": INTS([0, 3, 1]), "one_hot_vector_size": 4},
        {"indices": INTS([[0, 1], [2, 2]]), "one_hot_vector_size": 3, "axis": 1},
        {"indices": INTS([1, 0]), "one_hot_vector_size": 2, "axis": 0, "on_value": 2.5, "off_value": -1.0},
        {"indices": INTS([-1, 4, 2]), "one_hot_vector_size": 4},
        {"indices": INTS([1]), "one_hot_vector_size": 3, "on_value": np.bool_(True), "off_value": np.bool_(False)},
    ],
)  # fmt: skip
def one_hot(indices: Array, one_hot_vector_size: int, axis: int = -1, on_value: Any = 1, off_value: Any = 0) -> Array:
    """An index that lies outside is hot nowhere."""
    hot = np.where(indices[..., None] == np.arange(one_hot_vector_size), on_value, off_value)
    return np.moveaxis(hot, -1, axis)


@family.defines(
    "non_zero",
    "x",
    [
        {"x": np.float32([[0, 1, -0.0], [np.nan, 0, -2]])},
        {"x": WHOLE},
        {"x": np.zeros((2, 2), np.float32)},
        {"x": INTS([0, 5])},
    ],
)
def non_zero(x: Array) -> Array:
    return np.stack(np.nonzero(x), -1)


TIES = np.float32([[1, 3, 1, 3, 2], [0, 0, 0, 0, 0], [-np.inf, np.inf, 1, np.inf, -np.inf]])
SORTED = [
    {"x": X},
    {"x": X, "axis": 1, "ascending": True},
    {"x": FIVE, "axis": 2},
    {"x": TIES},
    {"x": TIES, "ascending": True},
    {"x": TIES, "axis": 0},
]


@family.defines("argsort", "x", [*SORTED, {"x": WHOLE, "axis": 0}])
def argsort(x: Array, axis: int = -1, ascending: bool = False) -> Array:
    """Of equal numbers the first comes first."""
    return np.argsort(x if ascending else -x, axis, kind="stable")


TOP = [
    *SORTED,
    *(row | {"k": 2} for row in SORTED if row["x"] is not X),
    {"x": X, "k": 3, "axis": -2},
    {"x": WHOLE, "k": 4, "axis": 2, "ascending": True},
]


@family.defines("topk", "x", [*TOP, {"x": X, "k": 2, "output_indices_dtype": "uint16"}])
@family.defines("topk", "x", [*TOP, {"x": X, "k": 2, "sort": True, "return_indices": False}], target="iOS16")
def topk(
    x: Array, k: int = 1, axis: int = -1, ascending: bool = False, return_indices: bool = True, **more: Any
) -> tuple[Array, ...]:
    order = argsort(x, axis, ascending)
    order = order.take(range(k), axis)
    values = np.take_along_axis(x, order, axis)
    return (values, order) if return_indices else (values,)


@family.defines(
    "sliding_windows",
    "x",
    [
        {"x": X, "axis": 2, "size": 2},
        {"x": X, "axis": -2, "size": 2, "stride": 1},
        {"x": normal(7), "axis": 0, "size": 3, "stride": 2},
        {"x": normal(1, 1, 5, 2), "axis": 2, "size": 5, "stride": 3},
    ],
)
def sliding_windows(x: Array, axis: int, size: int, stride: int = 1) -> Array:
    axis %= x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    return np.moveaxis(windows, -1, axis + 1).take(range(0, x.shape[axis] - size + 1, stride), axis)


@family.each
def test_each_operation_is_numpys(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
