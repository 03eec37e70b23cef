"""Operations that move elements and compute nothing, against NumPy and PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal, t

family = Family("shaping")
Array = np.ndarray
X = normal(2, 3, 4)
WHOLE = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
ODD = np.float32([[np.nan, np.inf], [-np.inf, 1e-9]])


@family.defines("identity", "x", [{"x": X}, {"x": WHOLE}, {"x": ODD}, {"x": np.float32(3)}, {"x": X > 0}])
def identity(x: Array) -> Array:
    return x


RESHAPED = [
    *({"x": x, "shape": np.int32(shape)} for x in (X, WHOLE) for shape in ([24], [4, 6], [-1, 2], [1, 2, 3, 2, 2], [0, -1, 2])),
    {"x": np.float32(5), "shape": np.int32([1, 1])}, {"x": ODD, "shape": np.int32([4])},
]  # fmt: skip


@family.defines("reshape", "x", RESHAPED, target="iOS16")
@family.defines(
    "reshape",
    "x",
    [
        *RESHAPED,
        {"x": normal(2, 5), "shape": [1, 0, -1, 0]},
        {"x": normal(1, 2, 6), "shape": [0, 0]},
        {"x": X, "shape": [2, -1, 0]},
    ],
)
@family.defines("reshape", "x shape", [row for row in RESHAPED if 0 not in row["shape"]])
def reshape(x: Array, shape: Sequence[int]) -> Array:
    """A 0 is the length at the same place, counted from the right; 1 where there is none."""
    places = [x.ndim - len(shape) + i for i in range(len(shape))]
    return x.reshape([n or (x.shape[j] if j >= 0 else 1) for n, j in zip(shape, places, strict=True)])


@family.defines(
    "reshape_like", "x ref_tensors",
    [
        {"x": normal(4, 15), "ref_tensors": [normal(2, 3, 4), normal(2, 2, 5)], "begins": [1, 2], "ends": [3, 0],
          "end_masks": [False, True]},
        {"x": X, "ref_tensors": [WHOLE.reshape(4, 6)], "begins": [0], "ends": [2], "end_masks": [False]},
    ],
)  # fmt: skip
def reshape_like(
    x: Array, ref_tensors: list[Array], begins: list[int], ends: list[int], end_masks: list[bool]
) -> Array:
    parts = (
        r.shape[b:] if m else r.shape[b:e] for r, b, e, m in zip(ref_tensors, begins, ends, end_masks, strict=True)
    )
    return x.reshape(sum(parts, ()))


@family.defines(
    "expand_dims",
    "x",
    [{"x": X, "axes": [0]}, {"x": X, "axes": [-1, 1]}, {"x": WHOLE, "axes": [4, 0]}, {"x": np.float32(2), "axes": [0]}],
)
def expand_dims(x: Array, axes: list[int]) -> Array:
    return np.expand_dims(x, axes)


ONES = normal(1, 3, 1, 2, 1)


@family.defines(
    "squeeze",
    "x",
    [
        {"x": ONES},
        {"x": ONES, "axes": [0]},
        {"x": ONES, "axes": [-1, 2]},
        {"x": ONES, "axes": [1, 2]},
        {"x": normal(1)},
        {"x": X},
    ],
)
def squeeze(x: Array, axes: list[int] | None = None) -> Array:
    """A length that is not 1 stays, as in PyTorch."""
    return np.squeeze(x, None if axes is None else tuple(a % x.ndim for a in axes if x.shape[a] == 1))


@family.defines(
    "transpose",
    "x",
    [
        {"x": X, "perm": [2, 0, 1]},
        {"x": WHOLE, "perm": [-1, -3, -2]},
        {"x": ONES, "perm": [4, 3, 2, 1, 0]},
        {"x": normal(3), "perm": [0]},
    ],
)
def transpose(x: Array, perm: list[int]) -> Array:
    return np.transpose(x, [p % x.ndim for p in perm])


@family.defines(
    "flatten2d",
    "x",
    [{"x": normal(2, 3, 2, 2), "axis": axis} for axis in (0, 1, 3, -1, -4)] + [{"x": X}, {"x": normal(5)}],
)
def flatten2d(x: Array, axis: int = 1) -> Array:
    return x.reshape(int(np.prod(x.shape[:axis])) if axis else 1, -1)


BLOCKS = normal(2, 8, 2, 3)


@family.defines("depth_to_space", "x", [{"x": BLOCKS, "block_size": 2}, {"x": normal(1, 9, 1, 2), "block_size": 3}])
def depth_to_space(x: Array, block_size: int) -> Array:
    """The place within a block comes before the channel."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, block_size, block_size, c // block_size**2, h, w)
    return blocks.transpose(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block_size, w * block_size)


@family.defines(
    "space_to_depth", "x", [{"x": normal(2, 3, 4, 6), "block_size": 2}, {"x": normal(1, 1, 3, 6), "block_size": 3}]
)
def space_to_depth(x: Array, block_size: int) -> Array:
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // block_size, block_size, w // block_size, block_size)
    return blocks.transpose(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block_size, w // block_size)


@family.defines(
    "pixel_shuffle", "x", [{"x": BLOCKS, "upscale_factor": 2}, {"x": normal(1, 9, 1, 2), "upscale_factor": 3}]
)
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    return torch.nn.functional.pixel_shuffle(t(x), upscale_factor).numpy()


@family.defines(
    "pixel_unshuffle",
    "x",
    [
        {"x": normal(2, 3, 4, 6), "downscale_factor": np.uint32(2)},
        {"x": normal(1, 1, 3, 6), "downscale_factor": np.uint32(3)},
    ],
)
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    return torch.nn.functional.pixel_unshuffle(t(x), int(downscale_factor)).numpy()


@family.defines(
    "space_to_batch", "x",
    [
        {"x": normal(2, 3, 4, 6), "block_shape": [2, 3], "paddings": [[0, 0], [0, 0]]},
        {"x": normal(1, 2, 3, 4), "block_shape": [2, 2], "paddings": [[1, 0], [1, 3]]},
    ],
)  # fmt: skip
def space_to_batch(x: Array, block_shape: list[int], paddings: list[list[int]]) -> Array:
    """TensorFlow's: the place within a block comes before the batch."""
    x = np.pad(x, [(0, 0), (0, 0), *(tuple(p) for p in paddings)])
    (n, c, h, w), (rows, columns) = x.shape, block_shape
    blocks = x.reshape(n, c, h // rows, rows, w // columns, columns)
    return blocks.transpose(3, 5, 0, 1, 2, 4).reshape(-1, c, h // rows, w // columns)


@family.defines(
    "batch_to_space", "x",
    [
        {"x": normal(12, 2, 2, 3), "block_shape": [2, 3], "crops": [[0, 0], [0, 0]]},
        {"x": normal(4, 3, 2, 3), "block_shape": [2, 2], "crops": [[1, 0], [1, 3]]},
    ],
)  # fmt: skip
def batch_to_space(x: Array, block_shape: list[int], crops: list[list[int]]) -> Array:
    (n, c, h, w), (rows, columns) = x.shape, block_shape
    blocks = x.reshape(rows, columns, n // (rows * columns), c, h, w)
    whole = blocks.transpose(2, 3, 4, 0, 5, 1).reshape(-1, c, h * rows, w * columns)
    (top, bottom), (left, right) = crops
    return whole[:, :, top : h * rows - bottom, left : w * columns - right]


@family.each
def test_each_moves_elements_where_they_belong(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
