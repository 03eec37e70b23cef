"""Scatters against a plain loop over the updates: each mode, indices that repeat, negative ones, any axis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.errors import RunError
from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("scattering")
Array = np.ndarray
MODES: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def whole(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape) % 5 + 1


def scattered(data: Array, places: Array, updates: Array, mode: str, counted: bool) -> Array:
    """``places`` [count, depth] are indices of ``data``, each with its update; one outside goes nowhere.

    Negative ones are ``counted`` from the end, as they were before iOS17, or lie outside.
    """
    result = data.copy()
    lengths = np.array(data.shape[: places.shape[1]])
    for place, update in zip(places, updates, strict=True):
        if np.any((place < (-lengths if counted else 0)) | (place >= lengths)):
            continue
        result[tuple(place)] = MODES[mode](result[tuple(place)], update)
    return result


EVERY = [{"data": normal(4, 3), "indices": np.int32([2, 0]), "updates": normal(2, 3), "mode": mode} for mode in MODES]


@family.defines(
    "scatter",
    "data indices updates",
    [
        *EVERY,
        {"data": normal(4, 3), "indices": np.int32([1, 1, 3]), "updates": normal(3, 3)},
        {"data": normal(2, 4, 3), "indices": np.int32([3, 0]), "updates": normal(2, 2, 3), "axis": 1, "mode": "update"},
        {
            "data": normal(2, 1, 2, 1, 3),
            "indices": np.int32([2, 0]),
            "updates": normal(2, 1, 2, 1, 2),
            "axis": -1,
            "mode": "max",
        },
        {"data": normal(5), "indices": np.int32([4, 4]), "updates": normal(2), "mode": "sub"},
        {"data": whole(3, 2), "indices": np.int32([0, 2]), "updates": whole(2, 2), "mode": "mul"},
        {"data": normal(4, 2), "indices": np.int32([3]), "updates": normal(1, 2), "validate_indices": True},
        *(
            {"data": normal(3, 2), "indices": np.int32([-1, 1, 3, 100]), "updates": normal(4, 2), "mode": mode}
            for mode in MODES
        ),
        {"data": normal(2, 3), "indices": np.int32([2, 3, -4]), "updates": normal(2, 3), "axis": -1},
    ],
    within=1e-6,
)
def scatter(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    counted: bool = False,
) -> Array:
    moved = scattered(np.moveaxis(data, axis, 0), indices[:, None], np.moveaxis(updates, axis, 0), mode, counted)
    return np.moveaxis(moved, 0, axis)


@family.defines(
    "scatter_along_axis",
    "data indices updates",
    [
        *(
            {
                "data": normal(3, 4),
                "indices": np.int32([[2, 0, 1, 1], [0, 1, 2, 2]]),
                "updates": normal(2, 4),
                "mode": mode,
            }
            for mode in MODES
        ),
        {"data": normal(2, 4), "indices": np.int32([[3, 3, 0], [1, 1, 1]]), "updates": normal(2, 3), "axis": 1},
        {
            "data": normal(1, 2, 1, 2, 3),
            "indices": np.int32([0, 2, 1, 1]).reshape(1, 2, 1, 2, 1),
            "updates": normal(1, 2, 1, 2, 1),
            "axis": -1,
            "mode": "update",
        },
        {"data": whole(4), "indices": np.int32([0, 0, 3]), "updates": whole(3)},
        {"data": normal(4), "indices": np.int32([0, 3]), "updates": normal(2), "validate_indices": True},
        {
            "data": normal(2, 3),
            "indices": np.int32([[0, -1, 3], [5, 1, 2]]),
            "updates": normal(2, 3),
            "axis": 1,
            "mode": "update",
        },
    ],
    within=1e-6,
)
def scatter_along_axis(
    data: Array,
    indices: Array,
    updates: Array,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    counted: bool = False,
) -> Array:
    places = np.stack(np.indices(indices.shape), -1)
    places[..., axis] = indices
    return scattered(data, places.reshape(-1, data.ndim), updates.ravel(), mode, counted)


@family.defines(
    "scatter_nd",
    "data indices updates",
    [
        *(
            {"data": normal(3, 4), "indices": np.int32([[2, 0], [0, 3]]), "updates": normal(2), "mode": mode}
            for mode in MODES
        ),
        {"data": normal(3, 4), "indices": np.int32([[1], [1]]), "updates": normal(2, 4)},
        {
            "data": normal(2, 3, 2, 2),
            "indices": np.int32([[[1, 2]], [[0, 0]]]),
            "updates": normal(2, 1, 2, 2),
            "mode": "min",
        },
        {"data": whole(4), "indices": np.int32([[3], [3]]), "updates": whole(2)},
        {"data": normal(4), "indices": np.int32([[3]]), "updates": normal(1), "validate_indices": True},
        {"data": normal(2, 3), "indices": np.int32([[0, -1], [1, 3], [-1, 0], [2, 0], [1, 2]]), "updates": normal(5)},
        {"data": normal(2, 3), "indices": np.int32([[2], [1]]), "updates": normal(2, 3), "mode": "mul"},
    ],
    within=1e-6,
)
def scatter_nd(
    data: Array,
    indices: Array,
    updates: Array,
    mode: str = "add",
    validate_indices: bool = False,
    counted: bool = False,
) -> Array:
    depth = indices.shape[-1]
    return scattered(data, indices.reshape(-1, depth), updates.reshape(-1, *data.shape[depth:]), mode, counted)


family.defines(
    "scatter", "data indices updates",
    [{"data": normal(4, 3), "indices": np.int32([-1, -4]), "updates": normal(2, 3), "mode": mode}
      for mode in ("update", "add")], target="iOS16", within=1e-6,
)(partial(scatter, counted=True))  # fmt: skip


family.defines(
    "scatter_along_axis",
    "data indices updates",
    [{"data": normal(4), "indices": np.int32([-1, 0]), "updates": normal(2)}],
    target="iOS16",
    within=1e-6,
)(partial(scatter_along_axis, counted=True))


family.defines(
    "scatter_nd",
    "data indices updates",
    [{"data": normal(4, 2), "indices": np.int32([[-1, -2]]), "updates": normal(1)}],
    target="iOS16",
    within=1e-6,
)(partial(scatter_nd, counted=True))


@family.each
def test_each_scatter_does_what_a_loop_does(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)


UPDATES = {"scatter": (2,), "scatter_along_axis": (2,), "scatter_nd": (2, 1)}
"""The shapes of two indices into a vector."""


@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("operator", UPDATES)
def test_an_index_outside_is_refused_where_indices_are_validated(tmp_path: Path, operator: str, wrong: int) -> None:
    def build(mb: Any, a: Any, b: Any) -> Any:
        return getattr(mb, operator)(data=a, indices=b, updates=np.float32([1, 2]), validate_indices=True)

    model = program(tmp_path, build, [((3,), "float32"), (UPDATES[operator], "int32")])
    with session(model) as running, pytest.raises(RunError):
        running.run({"a": normal(3), "b": np.int32([0, wrong]).reshape(UPDATES[operator])})
