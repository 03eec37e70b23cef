"""Core AI's numbers in fewer bits against their formulas, in NumPy."""

import ml_dtypes
import numpy as np
import pytest

from coreproof.errors import ConversionError
from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

DATA = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
SCALE = np.array([[0.5, 2.0], [1.0, 0.25]], np.float32)
ZERO = np.array([[1, -2], [0, 3]], np.int8)
BIAS = np.array([[0.0, 1.0], [-1.0, 0.5]], np.float32)


def _blocks(array: np.ndarray) -> np.ndarray:
    return array.repeat(2, 0).repeat(2, 1)


SMALL = np.array([[8, 4, 7], [13, 18, 5]], np.int8)
AXIS, ALL = np.array(1, np.int32), np.array([0, 1], np.int32)
BY = np.array([0.1, 0.2, 0.15], np.float32)
FROM = np.array([-128, 0, 3], np.int8)
TO = np.array([1, 2, 3], np.float32)
X = np.array([[0.24, -1.05, 3.9], [1000, 0.05, -0.6]], np.float32)
CODES = np.array([[0, 1], [2, 3], [3, 0], [1, 1], [0, 2], [2, 2]], ml_dtypes.uint2)
LUT = np.random.default_rng(6).standard_normal((2, 1, 4, 1)).astype(np.float32)
VECTORS = np.random.default_rng(7).standard_normal((1, 1, 4, 3)).astype(np.float16)
MASK = np.array([[False, True, False], [True, False, True]])
HELD = np.array([10, 20, 30], np.float32)

CASES = [
    case(
        "blockwise_shift_scale",
        DATA,
        SCALE,
        ZERO,
        BIAS,
        makes=(_blocks(SCALE) * (DATA - _blocks(ZERO).astype(np.float32)) + _blocks(BIAS)).astype(np.float32),
    ),
    case(
        "dequantize",
        Fed(SMALL),
        BY,
        FROM,
        TO,
        AXIS,
        makes=((SMALL - FROM.astype(np.float32)) * BY + TO).astype(np.float32),
    ),
    case(
        "dequantize",
        Fed(SMALL),
        np.array(0.1245, np.float32),
        np.array(2, np.int8),
        np.array(0, np.float32),
        ALL,
        makes=((SMALL - np.float32(2)) * np.float32(0.1245)).astype(np.float32),
        name="whole_tensor",
    ),
    case(
        "quantize", Fed(X), BY, FROM, TO, AXIS, makes=np.clip(np.rint((X - TO) / BY) + FROM, -128, 127).astype(np.int8)
    ),
    case(
        "quantize",
        Fed(X),
        np.array(0.1, np.float32),
        np.array(5, np.uint8),
        np.array(0, np.float32),
        ALL,
        makes=np.clip(np.rint(X / np.float32(0.1)) + 5, 0, 255).astype(np.uint8),
        name="whole_tensor",
    ),
    case(
        "lut_to_dense",
        CODES,
        LUT,
        np.array(0, np.int16),
        makes=LUT[np.arange(6)[:, None] // 3, 0, CODES.astype(int), 0],
    ),
    case(
        "lut_to_dense",
        CODES,
        VECTORS,
        np.array(1, np.int16),
        makes=VECTORS[0, 0][CODES.astype(int)].reshape(6, 6),
        name="vectors",
    ),
    case(
        "lut_to_dense",
        CODES,
        VECTORS,
        np.array(0, np.int16),
        makes=VECTORS[0, 0][CODES.astype(int)].transpose(0, 2, 1).reshape(18, 2),
        name="vectors_down",
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_the_formula_says(each: Case) -> None:
    check(each)


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConversionError, match="table does not fit"):
        check(case("lut_to_dense", CODES, LUT[0], np.array(0, np.int16), makes=np.zeros((6, 2), np.float32)))
