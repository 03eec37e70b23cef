"""What a model makes of inputs a rounding apart: where it is steep, an honest engine may be off by as much.

One engine has an operator that the other computes in many steps (PyTorch's polygamma), and each rounds what it computes with: the
argument times pi, the argument less a whole number. Near a pole that is |f'(x)| times a rounding of x, which shows when the
reference itself is asked at the neighbours of x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray

ROUNDINGS = 3
"""Of an argument within an operator, each less than the step to a neighbour: a constant, its product, what is taken off it."""

_DRAWS = 4


def spread(
    run: Callable[[Mapping[str, object]], Mapping[str, object]], given: Mapping[str, object]
) -> dict[str, Array]:
    """By how much each result of ``run`` moves, element by element, when each float32 number of ``given`` is a neighbour of it.

    Up, down, and each its own way. What is not finite then moves without bound.
    """
    rng = np.random.default_rng(0)
    exact = {name: np.asarray(value) for name, value in run(given).items()}
    moved: dict[str, Array] = {n: np.zeros(v.shape) for n, v in exact.items() if v.dtype.kind == "f"}
    for draw in range(_DRAWS):
        near = {name: _neighbours(value, draw, rng) for name, value in given.items()}
        for name, value in run(near).items():
            if name in moved:
                with np.errstate(invalid="ignore"):
                    off = np.abs(np.asarray(value, np.float64) - exact[name].astype(np.float64))
                moved[name] = np.maximum(moved[name], np.where(np.isnan(off), np.inf, off))
    return moved


def _neighbours(value: object, draw: int, rng: np.random.Generator) -> object:
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        return value
    up = np.full(value.shape, draw == 0) if draw < 2 else rng.integers(0, 2, value.shape) == 1
    return np.nextafter(value, np.where(up, np.float32(np.inf), np.float32(-np.inf)))


def drawn_near(again: Array, candidate: Array, moved: Array) -> Array:
    """``again``, each element as near to the candidate's as ``ROUNDINGS`` such steps bring it.

    What moves by half of its own size says nothing, and excuses nothing.
    """
    a, b = again.astype(np.float64), candidate.astype(np.float64)
    most = ROUNDINGS * moved
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(a) & np.isfinite(b) & (most <= np.abs(a) / 2)
        near = a + np.clip(b - a, -most, most)
    return np.where(usable, near, a).astype(again.dtype)
