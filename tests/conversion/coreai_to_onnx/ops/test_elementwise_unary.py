"""Core AI's operations on the elements of one tensor, against NumPy."""

import math

import ml_dtypes
import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

X = np.array([[-0.9, -0.25, 0.0], [0.3, 0.75, 0.99]], np.float32)
ABOVE_ONE = np.array([1.0, 1.5, 4.0], np.float32)
POSITIVE = np.array([0.25, 1.0, 9.0], np.float32)
NUMBERS = np.array([-128, -3, 0, 5, 127], np.int8)
ERF = np.vectorize(math.erf)

_NUMPY = {
    "abs": (np.abs, X), "acos": (np.arccos, X), "acosh": (np.arccosh, ABOVE_ONE), "asin": (np.arcsin, X),
    "asinh": (np.arcsinh, X), "atan": (np.arctan, X), "atanh": (np.arctanh, X), "cos": (np.cos, X), "cosh": (np.cosh, X),
    "erf": (ERF, X), "exp": (np.exp, X), "log": (np.log, POSITIVE), "sin": (np.sin, X), "sinh": (np.sinh, X),
    "sqrt": (np.sqrt, POSITIVE), "tan": (np.tan, X), "tanh": (np.tanh, X),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), X), "relu": (lambda x: np.maximum(x, 0), X),
    "rsqrt": (lambda x: 1 / np.sqrt(x), POSITIVE), "silu": (lambda x: x / (1 + np.exp(-x)), X),
    "round": (np.rint, np.array([-2.5, -0.5, 0.5, 1.5, 2.7], np.float32)),
}  # fmt: skip


def _wide(function, x: np.ndarray) -> np.ndarray:
    return np.asarray(function(x.astype(np.float64))).astype(x.dtype)


CASES = [case(kind, Fed(x), makes=_wide(function, x)) for kind, (function, x) in _NUMPY.items()]
CASES += [
    case("exp", Fed(X.astype(np.float16)), makes=_wide(np.exp, X.astype(np.float16)), name="half"),
    case("abs", Fed(NUMBERS), makes=np.abs(NUMBERS), name="whole"),
    case("relu", Fed(NUMBERS), makes=np.maximum(NUMBERS, 0), name="whole"),
    case("not", Fed(np.array([True, False])), makes=np.array([False, True])),
    case("gelu", Fed(X), makes=_wide(lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))), X)),
    case(
        "gelu",
        Fed(X),
        makes=_wide(lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), X),
        name="tanh",
        approximate="#coreai.approximate<tanh>",
    ),
    case(
        "gelu",
        Fed(X),
        makes=_wide(lambda x: x / (1 + np.exp(-1.702 * x)), X),
        name="sigmoid",
        approximate="#coreai.approximate<sigmoid>",
    ),
]
FLOATS = np.array([-2.7, -0.5, 0.0, 1.9, 300.5], np.float32)
CASES += [
    case("cast", Fed(FLOATS), makes=FLOATS.astype(np.int32), name="to_whole"),
    case("cast", Fed(FLOATS), makes=FLOATS != 0, name="to_bool"),
    case("cast", Fed(FLOATS), makes=FLOATS.astype(np.float16), name="to_half"),
    case("cast", Fed(FLOATS), makes=FLOATS.astype(np.float64), name="to_double"),
    case("cast", Fed(np.array([1, 300, -1], np.int32)), makes=np.array([1, 255, 0], np.uint8), name="saturates"),
    case("cast", Fed(np.array([1, 2**31 + 5], np.uint32)), makes=np.array([1, 2**31 + 5], np.int64), name="large"),
    case("cast", Fed(np.array([True, False])), makes=np.array([1, 0], np.float32), name="of_bool"),
    case("cast", Fed(np.array([3, 0], np.int16)), makes=np.array([True, False]), name="whole_to_bool"),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)


def test_a_result_of_half_width_is_rounded_as_the_program_stores_it() -> None:
    x = np.array([1.0], np.float32)
    exact = np.exp(np.float64(1)).astype(ml_dtypes.bfloat16)
    # bfloat16 leaves as float32, with the numbers that bfloat16 has
    check(case("exp", np.asarray(x, ml_dtypes.bfloat16), makes=np.array([exact])))
