"""Functions of single elements against NumPy: signs of zero aside, every edge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import special

from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.drawn import normal

family = Family("elementwise_unary")
Array = np.ndarray
EDGES = np.float32([np.nan, np.inf, -np.inf, -0.0, 0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1e-3, -7.25, 11])
SHAPES = ((), (3,), (2, 3), (2, 1, 2, 1, 3))
ANY = [{"x": EDGES}, *({"x": 2 * normal(*shape)} for shape in SHAPES)]
UNIT = [{"x": np.float32([np.nan, -1, -0.999, -0.5, -1e-3, 0, 1e-3, 0.5, 0.999, 1, 1.5, -np.inf])}]
POSITIVE = [
    {"x": np.float32([np.nan, np.inf, 0, 1e-3, 0.25, 1, 2, 1000, 65504])},
    {"x": np.abs(normal(2, 3, 1, 2, 2)) + 0.1},
]


def plain(function: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda x: function(x)


for operator, function in {
    "abs": np.abs,
    "sign": np.sign,
    "ceil": np.ceil,
    "floor": np.floor,
    "round": np.round,
}.items():
    family.defines(operator, "x", ANY)(plain(function))
family.defines("abs", "x", [{"x": np.int32([-(2**31) + 1, -1, 0, 7])}])(plain(np.abs))
family.defines("sqrt", "x", [*POSITIVE, {"x": np.float32([-1, -0.0, -np.inf])}])(plain(np.sqrt))
for operator, function in {
    "exp": np.exp, "cosh": np.cosh, "sinh": np.sinh, "cos": np.cos, "sin": np.sin, "tan": np.tan, "tanh": np.tanh,
    "atan": np.arctan, "erf": special.erf,
}.items():  # fmt: skip
    family.defines(operator, "x", ANY, within=2e-6)(plain(function))
for operator, function in {"acos": np.arccos, "asin": np.arcsin, "atanh": np.arctanh}.items():
    family.defines(operator, "x", UNIT, within=2e-6)(plain(function))


@family.defines("exp2", "x", [*ANY, {"x": np.float32([-126, 15, 16, 127])}], within=2e-6)
def exp2(x: Array) -> Array:
    return np.exp2(x)


@family.defines("square", "x", [*ANY, {"x": np.float32([-256, 300, 1e-4])}])
def square(x: Array) -> Array:
    return x * x


@family.defines(
    "inverse",
    "x",
    [*POSITIVE, {"x": np.float32([2, -4, 0]), "epsilon": 0.0}, {"x": np.float32([-1, 3]), "epsilon": 0.5}],
    within=1e-6,
)
def inverse(x: Array, epsilon: float = 1e-4) -> Array:
    return 1 / (x + epsilon)


@family.defines(
    "log",
    "x",
    [*POSITIVE[1:], {"x": np.float32([1, 2, np.inf, np.nan, -1])}, {"x": np.float32([0, 3]), "epsilon": 0.5}],
    within=2e-6,
)
def log(x: Array, epsilon: float = 1e-45) -> Array:
    return np.log(x + epsilon)


@family.defines("rsqrt", "x", [*POSITIVE, {"x": np.float32([0, 3]), "epsilon": 0.25}], within=1e-6)
def rsqrt(x: Array, epsilon: float = 1e-12) -> Array:
    return 1 / np.sqrt(x + epsilon)


@family.defines("clip", "x", [row | {"alpha": np.float32(-1), "beta": np.float32(1.5)} for row in ANY])
def clip(x: Array, alpha: float, beta: float) -> Array:
    return np.minimum(np.maximum(x, alpha), beta)


@family.defines("threshold", "x", [row | {"alpha": np.float32(0.5)} for row in ANY])
def threshold(x: Array, alpha: float) -> Array:
    return np.maximum(x, alpha)


@family.defines(
    "logical_not", "x", [{"x": np.array([True, False])}, {"x": np.array(True)}, {"x": np.ones((1, 2, 1, 1, 2), bool)}]
)
def logical_not(x: Array) -> Array:
    return ~x


NUMPY = {"fp16": np.float16, "fp32": np.float32}
NUMBERS = np.float32([-7.9, -1.5, -0.5, 0, 0.5, 1.5, 127.7])


@family.defines(
    "cast", "x",
    [
        *({"x": NUMBERS, "dtype": dtype} for dtype in ("fp16", "fp32", "int32", "bool", "int8", "int16")),
        *({"x": np.int32([0, 3, 200, 255]), "dtype": dtype}
          for dtype in ("fp16", "fp32", "int32", "bool", "uint8", "int16", "uint16")),
        *({"x": np.array([True, False]), "dtype": dtype} for dtype in ("fp16", "fp32", "int32", "bool", "uint8")),
        {"x": np.float32([np.nan, np.inf, -np.inf, 1e5, 0.1, -1e-8]), "dtype": "fp16"},
        {"x": np.float32([np.nan, np.inf, 0, -0.0, 1e-8]), "dtype": "bool"}, {"x": np.float32(2.5), "dtype": "int32"},
    ],
)  # fmt: skip
def cast(x: Array, dtype: str) -> Array:
    return x.astype(NUMPY.get(dtype, dtype))


@family.each
def test_each_function_follows_numpy(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
