"""Arithmetic, comparison, logic and selection with broadcasting, against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import RNG, normal

family = Family("elementwise_binary")
Array = np.ndarray
EDGES = np.float32([np.nan, np.inf, -np.inf, 0, 1, -1, 0.5, -2.5, 1e-3, 300])
WHOLE = np.int32([-7, -6, -1, 0, 1, 6, 7, 1000])
SHAPES = (
    ((), (3,)),
    ((4,), (1,)),
    ((3, 1), (4,)),
    ((2, 3, 1), (1, 1, 4)),
    ((2, 1, 3, 1, 2), (4, 1, 5, 1)),
    ((1, 2, 1, 2, 1), ()),
)
FLOATS = [*({"x": 3 * normal(*x), "y": 3 * normal(*y)} for x, y in SHAPES), {"x": EDGES[:, None], "y": EDGES}]
INTS = [{"x": WHOLE[:, None], "y": WHOLE}, {"x": np.int32(3), "y": np.int32([[2], [3]])}]
DIVIDED = [{"x": WHOLE[:, None], "y": WHOLE[WHOLE != 0]}]
TRUTHS = [
    {"x": np.array([[True], [False]]), "y": np.array([True, False])},
    {"x": np.array(True), "y": RNG.integers(0, 2, (1, 2, 1, 3, 2)) > 0},
]


@family.defines("add", "x y", [*FLOATS, *INTS])
def add(x: Array, y: Array) -> Array:
    return x + y


@family.defines("sub", "x y", [*FLOATS, *INTS])
def sub(x: Array, y: Array) -> Array:
    return x - y


@family.defines("mul", "x y", [*FLOATS, *INTS])
def mul(x: Array, y: Array) -> Array:
    return x * y


@family.defines("maximum", "x y", [*FLOATS, *INTS])
def maximum(x: Array, y: Array) -> Array:
    return np.maximum(x, y)


@family.defines("minimum", "x y", [*FLOATS, *INTS])
def minimum(x: Array, y: Array) -> Array:
    return np.minimum(x, y)


@family.defines("real_div", "x y", FLOATS)
@family.defines("real_div", "x y", DIVIDED)
def real_div(x: Array, y: Array) -> Array:
    return x / y if x.dtype.kind == "f" else np.trunc(x / y).astype(np.int32)


@family.defines(
    "floor_div",
    "x y",
    [*FLOATS[:-1], {"x": np.float32([7, -7, 7, -7, 0.5]), "y": np.float32([2, 2, -2, -2, 3])}, *DIVIDED],
)
def floor_div(x: Array, y: Array) -> Array:
    return np.floor(x / y) if x.dtype.kind == "f" else x // y


SMALL = {"x": np.float32([3e-30, -3e-30, 3e-4]), "y": np.float32([-2e-30, 2e-30, -2e-4])}
"""Whose products with their remainders are too small for float32, or for float16."""


@family.defines("mod", "x y",
  [*DIVIDED, {"x": np.float32([5.5, -5.5, 5.5, -5.5, 6, -6, 0]), "y": np.float32([2, 2, -2, -2, 3, 3, 4])},
                               {"x": np.float32([1, -1, 1, np.inf, np.nan]),
                                 "y": np.float32([np.inf, np.inf, -np.inf, 2, 2])}])  # fmt: skip
@family.defines("mod", "x y", [SMALL], half=False, within=1e-36)
def mod(x: Array, y: Array) -> Array:
    return np.mod(x, y)


@family.defines("pow", "x y",
  [{"x": np.abs(normal(3, 1)), "y": normal(4)},
  {"x": np.float32([-2, -2, 0, 0, 4, 2, -8, np.nan, 1]),
  "y": np.float32([3, -2, 0, 2, 0.5, -np.inf, 1 / 3, 0, np.nan])},
                               {"x": np.int32([2, -3, 0]), "y": np.int32([10, 3, 0])}], within=2e-6)  # fmt: skip
def power(x: Array, y: Array) -> Array:
    return np.power(x, y)


@family.defines("equal", "x y", [*FLOATS, *INTS])
def equal(x: Array, y: Array) -> Array:
    return x == y


@family.defines("not_equal", "x y", [*FLOATS, *INTS])
def not_equal(x: Array, y: Array) -> Array:
    return x != y


@family.defines("greater", "x y", [*FLOATS, *INTS])
def greater(x: Array, y: Array) -> Array:
    return x > y


@family.defines("greater_equal", "x y", [*FLOATS, *INTS])
def greater_equal(x: Array, y: Array) -> Array:
    return x >= y


@family.defines("less", "x y", [*FLOATS, *INTS])
def less(x: Array, y: Array) -> Array:
    return x < y


@family.defines("less_equal", "x y", [*FLOATS, *INTS])
def less_equal(x: Array, y: Array) -> Array:
    return x <= y


@family.defines("logical_and", "x y", TRUTHS)
def logical_and(x: Array, y: Array) -> Array:
    return x & y


@family.defines("logical_or", "x y", TRUTHS)
def logical_or(x: Array, y: Array) -> Array:
    return x | y


@family.defines("logical_xor", "x y", TRUTHS)
def logical_xor(x: Array, y: Array) -> Array:
    return x ^ y


TURNS = np.array([[True], [False], [True]])


def chosen(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"cond": TURNS, "a": a, "b": b} for a, b in pairs]


@family.defines(
    "select", "cond a b",
    [
        *chosen(
            (normal(3, 4), normal(3, 4)), (np.full((3, 1), np.nan, np.float32), np.full((3, 1), np.inf, np.float32)),
            (np.int32([[1], [2], [3]]), np.int32([[-1], [-2], [-3]])), (TURNS, ~TURNS),
        ),
        {"cond": np.array(False), "a": normal(2, 1, 1, 1, 2), "b": normal(2, 1, 1, 1, 2)},
        {"cond": np.array([True, False]), "a": np.float32(3), "b": normal(2)},
    ],
)  # fmt: skip
def select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


@family.each
def test_each_operation_follows_numpy(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
