"""Reductions against NumPy: over some axes, all, and none that are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("reduction")
Array = np.ndarray
Axes = tuple[int, ...] | None
EDGES = np.float32([[np.nan, 1, 2], [np.inf, 1, 0], [-np.inf, 0, -1], [0, 0, 0]])


def rows(x: Array) -> list[dict[str, object]]:
    """Over each kind of axes, ranks 1 to 5."""
    return [
        {"x": x}, {"x": x, "axes": [0]}, {"x": x, "axes": [-1], "keep_dims": True}, {"x": x, "axes": [2, 0]},
        {"x": x, "axes": [-2, 1, 0], "keep_dims": True}, {"x": x, "keep_dims": True}, {"x": x[0, 0, 0], "axes": [0]},
        {"x": x[None, :, :1], "axes": [1, 3]}, {"x": x[0, 0], "axes": [1]},
    ]  # fmt: skip


def reducing(function: Callable[[Array, Axes, bool], Array]) -> Callable[..., Array]:
    def definition(x: Array, axes: Sequence[int] | None = None, keep_dims: bool = False) -> Array:
        return function(x, None if axes is None else tuple(axes), keep_dims)

    return definition


X = normal(2, 3, 2, 4)
COUNTS = np.arange(48, dtype=np.int32).reshape(2, 3, 2, 4) % 7 - 3
SUMS: dict[str, Callable[[Array, Axes, bool], Array]] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keepdims=keep),
    "reduce_sum_square": lambda x, axes, keep: (x * x).sum(axes, keepdims=keep),
    "reduce_prod": lambda x, axes, keep: x.prod(axes, keepdims=keep),
    "reduce_l1_norm": lambda x, axes, keep: np.abs(x).sum(axes, keepdims=keep),
}
for operator, function in SUMS.items():
    family.defines(operator, "x", [*rows(X), {"x": EDGES, "axes": [1]}], within=1e-5)(reducing(function))
    family.defines(
        operator, "x", [{"x": COUNTS}, {"x": COUNTS, "axes": [-1, 1]}, {"x": COUNTS, "axes": [0], "keep_dims": True}]
    )(reducing(function))
for operator, function in {
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keepdims=keep),
    "reduce_l2_norm": lambda x, axes, keep: np.sqrt((x * x).sum(axes, keepdims=keep)),
    "reduce_log_sum_exp": lambda x, axes, keep: np.logaddexp.reduce(
        x, tuple(range(x.ndim)) if axes is None else axes, keepdims=keep
    ),
}.items():
    family.defines(operator, "x", [*rows(X), {"x": 30 * X, "axes": [1]}], within=1e-5)(reducing(function))
family.defines("reduce_mean", "x", [{"x": EDGES, "axes": [1]}])(
    reducing(lambda x, axes, keep: x.mean(axes, keepdims=keep))
)
family.defines("reduce_log_sum", "x", rows(np.abs(X) + 0.1), within=1e-5)(
    reducing(lambda x, axes, keep: np.log(x.sum(axes, keepdims=keep)))
)
for operator, function in {
    "reduce_max": lambda x, axes, keep: x.max(axes, keepdims=keep),
    "reduce_min": lambda x, axes, keep: x.min(axes, keepdims=keep),
}.items():
    family.defines(operator, "x", [*rows(X), *rows(COUNTS), {"x": EDGES, "axes": [1]}])(reducing(function))

TIES = np.float32([[3, 1, 3, 1], [0, 0, 0, 0], [-np.inf, -1, np.inf, np.inf]])


def arguments(x: Array) -> list[dict[str, object]]:
    return [
        {"x": x},
        {"x": x, "axis": 0},
        {"x": x, "axis": -3, "keep_dims": True},
        {"x": x[0, 0], "axis": 0},
        {"x": x[0, 0, 0]},
        {"x": x[None], "axis": 2},
    ]


@family.defines(
    "reduce_argmax", "x", [*arguments(X), {"x": TIES, "axis": 1}, {"x": TIES, "axis": 0}, {"x": COUNTS, "axis": 1}]
)
def argmax(x: Array, axis: int = -1, keep_dims: bool = False) -> Array:
    return x.argmax(axis, keepdims=keep_dims)


@family.defines(
    "reduce_argmin", "x", [*arguments(X), {"x": TIES, "axis": 1}, {"x": TIES, "axis": 0}, {"x": COUNTS, "axis": 1}]
)
def argmin(x: Array, axis: int = -1, keep_dims: bool = False) -> Array:
    return x.argmin(axis, keepdims=keep_dims)


@family.each
def test_each_reduction_is_numpys(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
