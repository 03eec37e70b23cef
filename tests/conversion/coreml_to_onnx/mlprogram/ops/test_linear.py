"""Matrix products against NumPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import RNG, normal

family = Family("linear")
Array = np.ndarray
WEIGHT, BIAS = normal(4, 3), normal(4)


def whole(*shape: int) -> Array:
    return RNG.integers(-9, 9, shape).astype(np.int32)


@family.defines(
    "linear", "x",
    [
        *({"x": normal(*shape), "weight": WEIGHT} for shape in ((3,), (2, 3), (2, 2, 3))),
        *({"x": normal(*shape), "weight": WEIGHT, "bias": BIAS} for shape in ((3,), (2, 3), (2, 1, 3))),
        {"x": whole(2, 3), "weight": whole(4, 3), "bias": whole(4)}, {"x": whole(1, 2, 3), "weight": whole(4, 3)},
    ],
    within=1e-5,
)  # fmt: skip
def linear(x: Array, weight: Array, bias: Array | int = 0) -> Array:
    return x @ weight.T + bias


@family.defines(
    "matmul", "x y",
    [
        {"x": normal(2, 3), "y": normal(3, 4)}, {"x": normal(3, 2), "y": normal(4, 3), "transpose_x": True, "transpose_y": True},
        {"x": normal(2, 3, 4), "y": normal(4, 2)}, {"x": normal(3, 4), "y": normal(2, 4, 2)},
        {"x": normal(2, 1, 3, 4), "y": normal(3, 5, 4), "transpose_y": True},
        {"x": normal(2, 1, 2, 4, 3), "y": normal(1, 3, 1, 4, 2), "transpose_x": True},
        {"x": normal(4), "y": normal(4, 2)}, {"x": normal(4), "y": normal(3, 4), "transpose_y": True},
        {"x": whole(2, 3), "y": whole(3, 2)},
        {"x": np.float32([[np.inf, 1], [np.nan, 0]]), "y": np.float32([[1, 2], [3, -4]])},
    ],
    within=1e-5,
)  # fmt: skip
def matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    first, second = (
        v.swapaxes(-2, -1) if turned and v.ndim > 1 else v for v, turned in ((x, transpose_x), (y, transpose_y))
    )
    return first @ second


@family.defines(
    "einsum", "values",
    [
        {"values": [normal(2, 3, 4, 2), normal(2, 2, 4, 3)], "equation": "nchw,nwhu->nchu"},
        {"values": [normal(1, 3, 4, 2), normal(2, 2, 1, 3)], "equation": "nchw,nwhu->nchu"},
        {"values": [normal(3, 4, 2), normal(2, 4, 5)], "equation": "chw,whr->chr"},
        {"values": [normal(3, 1, 2), normal(2, 4, 5)], "equation": "chw,whr->chr"},
    ],
    within=1e-5,
)  # fmt: skip
def einsum(values: list[Array], equation: str) -> Array:
    """[n, c, h, w] and [n, w, h, u] as [n, c, h, u], whatever the letters; n, which may be missing, and h broadcast."""
    first, second = (v.swapaxes(-3, -2) for v in values)
    return (first @ second).swapaxes(-3, -2)


@family.each
def test_each_product_is_numpys(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
