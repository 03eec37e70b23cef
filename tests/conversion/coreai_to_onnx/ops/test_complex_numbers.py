"""Core AI operations on complex numbers against NumPy: their parts are moved and nothing is computed, so that all is equal."""

import numpy as np
import pytest

from coreproof.errors import ConversionError
from coreproof.model.coreai.arrays import of_pairs, pairs
from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check
from tests.conversion.coreai_to_onnx.functions import function, model, op, run

REAL = np.array([[1, -2, np.inf], [0, 5.5, -0.25]], np.float32)
IMAGINARY = np.array([[-1, 3, 2], [np.nan, 1e-30, 4]], np.float32)
Z = (REAL + 0j).astype(np.complex64)
Z.imag = IMAGINARY

CASES = [
    case("create_complex", Fed(REAL), Fed(IMAGINARY), makes=Z),
    case("create_complex", Fed(REAL[0, 0]), Fed(IMAGINARY[0, 0]), makes=Z[0, 0], name="single"),
    case("real_part", Fed(Z), makes=REAL),
    case("imaginary_part", Fed(Z), makes=IMAGINARY),
    case("imaginary_part", Fed(Z[:, :0]), makes=IMAGINARY[:, :0].copy(), name="none"),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)


def test_pairs_are_the_numbers_as_they_lie_in_memory() -> None:
    np.testing.assert_array_equal(pairs(Z.T), np.stack([REAL.T, IMAGINARY.T], -1))
    np.testing.assert_array_equal(of_pairs(pairs(Z), Z.dtype), Z)
    assert pairs(Z[0, 0]).shape == (2,)


def test_a_complex_constant_and_an_input_leave_as_pairs_of_any_length() -> None:
    kind = "tensor<?xcomplex<f32>>"
    body = [op("constant", [], ["c"], constant=Z), op("output", ["c", "z"], [])]
    made = model(function("main", ["z"], body, {"c": "tensor<2x3xcomplex<f32>>", "z": kind}))
    for length in (1, 4):
        z = pairs((np.arange(length) * (1 - 2j)).astype(np.complex64))
        found = run(made, z=z)
        np.testing.assert_array_equal(found["z"], z)
        np.testing.assert_array_equal(found["c"], pairs(Z))


@pytest.mark.parametrize("kind", ["add", "mul", "abs", "reshape"])
def test_what_computes_or_moves_by_axes_is_refused_for_complex_numbers_and_not_done_by_parts(kind: str) -> None:
    two = () if kind == "abs" else (np.array([3, 2], np.uint32),) if kind == "reshape" else (Z,)
    with pytest.raises(ConversionError, match="for real numbers only"):
        check(case(kind, Fed(Z), *two, makes=Z))
