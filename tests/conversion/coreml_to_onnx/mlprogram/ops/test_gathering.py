"""Gathers against NumPy: any axis, batches, scalars, negative indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coreproof.errors import RunError
from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

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


@family.defines(
    "gather_along_axis",
    "x indices",
    [
        {"x": X, "indices": at(np.arange(24).reshape(2, 3, 4)[:, :, [0, 0, 0, 0, 0]] % 3)[:2, [0, 1, 2, 0]]},
        {"x": X, "indices": at(np.arange(36).reshape(3, 4, 3) % 5), "axis": 2},
        {"x": X, "indices": at(np.arange(30).reshape(3, 2, 5) % 4 - 4), "axis": -2},
        {"x": normal(4), "indices": at([3, -4, 0, 0, 1])},
        {"x": normal(1, 2, 1, 2, 3), "indices": at(np.zeros((1, 2, 1, 2, 1))), "axis": 4},
        {"x": np.int32([5, 6, 7]), "indices": at([2, 2]), "validate_indices": True},
        {"x": normal(4), "indices": at([2, 1], dtype="uint16")},
    ],
)
def gather_along_axis(x: np.ndarray, indices: np.ndarray, axis: int = 0, validate_indices: bool = False) -> np.ndarray:
    return np.take_along_axis(x, indices, axis)


@family.defines(
    "gather_nd",
    "x indices",
    [
        {"x": X, "indices": at([[0, 1], [2, -1]])},
        {"x": X, "indices": at([[[2]], [[-3]]])},
        {"x": X, "indices": at([[0, 3, 4], [-1, -4, -5]])},
        {"x": normal(2, 3, 4), "indices": at([[[0, 1]], [[2, -1]]]), "batch_dims": 1},
        {"x": normal(2, 3, 2, 2), "indices": at(np.arange(6).reshape(2, 3, 1) % 2), "batch_dims": 2},
        {"x": np.int32([5, 6, 7]), "indices": at([[2], [0]]), "validate_indices": True},
        {"x": X, "indices": at([[0, 1], [2, 3]], dtype="int16")},
    ],
)
def gather_nd(x: np.ndarray, indices: np.ndarray, batch_dims: int = 0, validate_indices: bool = False) -> np.ndarray:
    if batch_dims:
        return np.stack([gather_nd(part, index, batch_dims - 1) for part, index in zip(x, indices, strict=True)])
    return x[tuple(np.moveaxis(indices, -1, 0))]


@family.each
def test_each_gather_takes_what_numpy_takes(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)


@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("operator", ["gather", "gather_along_axis", "gather_nd"])
def test_an_index_outside_is_refused_where_indices_are_validated(tmp_path: Path, operator: str, wrong: int) -> None:
    shape = (2, 1) if operator == "gather_nd" else (2,)
    inputs = [((3,), "float32"), (shape, "int32")]
    model = program(tmp_path, lambda mb, a, b: getattr(mb, operator)(x=a, indices=b, validate_indices=True), inputs)
    with session(model) as running, pytest.raises(RunError):
        running.run({"a": normal(3), "b": np.int32([0, wrong]).reshape(shape)})
