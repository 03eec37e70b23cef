"""Gathers against NumPy: any axis, batches, scalars, negative indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conversion.coreml_to_onnx.lowered import normal
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial

family = Family("gathering")
X = normal(3, 4, 5)


def at(*indices: object, dtype: str = "int32") -> np.ndarray:
    return np.array(indices[0] if len(indices) == 1 else indices, dtype)


@family.defines(
    "gather",
    "x indices",
    [
        {"x": X, "indices": at(1)},
        {"x": X, "indices": at([2, 0, 2]), "axis": -1},
        {"x": X, "indices": at([-1, -3, 0])},
        {"x": X, "indices": at([[-1, 0], [1, 2]]), "axis": 1},
        {"x": normal(4), "indices": at(-4)},
        {"x": normal(2, 1, 2, 3), "indices": at([[1, 0]]), "axis": 3},
        {"x": X, "indices": at([[3, 1], [0, 0], [2, 1]]), "axis": 1, "batch_dims": 1},
        {"x": X, "indices": at([[4], [0], [2]]), "axis": 2, "batch_dims": 1},
        {"x": X, "indices": at([4, 0, 2]), "axis": 2, "batch_dims": 1},
        {"x": normal(2, 3, 4, 5), "indices": at(np.arange(12).reshape(2, 3, 2) % 4), "axis": 2, "batch_dims": 2},
        {"x": normal(2, 3, 4, 5), "indices": at([[1, -1], [0, 3]]), "axis": -1, "batch_dims": 1},
        {"x": np.int32([5, 6, 7]), "indices": at([2, 2]), "validate_indices": True},
        {"x": X, "indices": at([2, 1], dtype="uint16")},
        {"x": np.float32([np.nan, -np.inf, 65520, 1e-9]), "indices": at([3, 2, 1, 0])},
    ],
)
def gather(
    x: np.ndarray, indices: np.ndarray, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> np.ndarray:
    if batch_dims == 0:
        return np.take(x, indices, axis)
    axis %= x.ndim
    return np.stack([gather(part, index, axis - 1, batch_dims - 1) for part, index in zip(x, indices, strict=True)])


@family.each
def test_each_gather_takes_what_numpy_takes(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
