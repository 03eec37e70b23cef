"""Core AI's operations on the elements of two tensors, against NumPy, with and without broadcasting."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

A = np.array([[1.5, -2.0, 3.25], [7.0, -8.5, 0.5]], np.float32)
B = np.array([[0.5, 2.0, -1.5], [2.0, 3.0, -0.25]], np.float32)
ROW = np.array([2.0, -3.0, 0.5], np.float32)
WHOLE = np.array([10, -10, 10, -10, 0, 7], np.int32)
BY = np.array([3, 3, -3, -3, 5, 7], np.int32)
P = np.array([True, True, False, False])
Q = np.array([True, False, True, False])

_FLOATS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "divide": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal, "greater": np.greater,
    "floor_divide": np.floor_divide, "modulo": np.fmod,
}  # fmt: skip
_OF_WHOLE = {
    **_FLOATS, "divide": lambda a, b: np.trunc(a / b).astype(a.dtype), "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
}  # fmt: skip
_TRUTHS = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "add": np.logical_or,
    "mul": np.logical_and,
}

CASES = [case(kind, Fed(A), Fed(B), makes=f(A, B)) for kind, f in _FLOATS.items()]
CASES += [case(kind, Fed(WHOLE), Fed(BY), makes=f(WHOLE, BY), name="whole") for kind, f in _OF_WHOLE.items()]
CASES += [case(kind, Fed(P), Fed(Q), makes=f(P, Q), name="truths") for kind, f in _TRUTHS.items()]
CASES += [case(f"decomposable.broadcasting_{kind}", Fed(A), ROW, makes=f(A, ROW)) for kind, f in _FLOATS.items()]
CASES += [
    case(f"decomposable.broadcasting_{kind}", Fed(P.reshape(4, 1)), Fed(Q), makes=_TRUTHS[kind](P.reshape(4, 1), Q))
    for kind in ("and", "or", "xor")
]
CASES += [
    case(
        f"decomposable.broadcasting_{kind}",
        Fed(WHOLE.reshape(6, 1)),
        BY,
        makes=_OF_WHOLE[kind](WHOLE.reshape(6, 1), BY),
    )
    for kind in ("bitwise_and", "bitwise_or", "bitwise_xor")
]
CASES += [
    case("pow", Fed(np.abs(A)), Fed(B), makes=(np.abs(A).astype(np.float64) ** B).astype(np.float32)),
    case("decomposable.broadcasting_pow", Fed(A), np.array(2, np.float32), makes=A**2),
    case(
        "add",
        Fed(np.array([100, -100], np.int8)),
        Fed(np.array([100, -100], np.int8)),
        makes=np.array([-56, 56], np.int8),
        name="wraps",
    ),
    case(
        "sub",
        Fed(np.array([1], np.uint32)),
        Fed(np.array([2], np.uint32)),
        makes=np.array([2**32 - 1], np.uint32),
        name="wraps",
    ),
    case(
        "mul",
        Fed(np.array([200], np.uint8)),
        Fed(np.array([3], np.uint8)),
        makes=np.array([88], np.uint8),
        name="wraps",
    ),
    case(
        "add",
        Fed(A.astype(np.float16)),
        Fed(B.astype(np.float16)),
        makes=A.astype(np.float16) + B.astype(np.float16),
        name="half",
    ),
    case(
        "where",
        Fed(np.array([[True, False, True], [False, True, False]])),
        Fed(A),
        Fed(B),
        makes=np.array([[1.5, 2, 3.25], [2, -8.5, -0.25]], np.float32),
    ),
    case("where", Fed(P), Fed(Q), Fed(~Q), makes=np.where(P, Q, ~Q), name="truths"),
    case(
        "decomposable.broadcasting_where",
        Fed(np.array([True, False, True])),
        Fed(A),
        np.array(0, np.float32),
        makes=np.where([True, False, True], A, 0).astype(np.float32),
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)


@pytest.mark.parametrize("kind", ["divide", "modulo", "floor_divide"])
def test_a_whole_number_divided_by_0_does_not_end_the_process(kind: str) -> None:
    # the dialect does not say what it makes: where nothing is 0 it has to be right
    each = case(kind, Fed(np.array([7, 7], np.int32)), Fed(np.array([2, 0], np.int32)), makes=np.zeros(2, np.int32))
    import coreproof as cp
    from coreproof.model.coreai.model import CoreAIModel
    from tests.conversion.coreai_to_onnx.cases import feeds, program_of

    found = cp.session(CoreAIModel(program_of(each), name="zero")).run(feeds(each))
    assert found["y0"][0] == {"divide": 3, "modulo": 1, "floor_divide": 3}[kind]
