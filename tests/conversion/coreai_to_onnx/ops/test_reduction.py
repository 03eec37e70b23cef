"""Core AI's reductions, which keep their axes, and its scans, against NumPy."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

X = np.array([[[1.5, -2, 3], [4, 0.5, -6]], [[7, 8, -9], [0.25, 11, 2]]], np.float32)
WHOLE = np.array([[3, 1, 4], [1, 5, 9]], np.int32)
AXES = np.array([0, -1], np.int32)
P = np.array([[True, False, True], [True, True, True]])
ONE = np.array([1], np.int32)

_NUMPY = {
    "reduce_max": np.max, "reduce_min": np.min, "reduce_sum": np.sum, "reduce_mean": np.mean, "reduce_product": np.prod,
}  # fmt: skip

CASES = [
    case(kind, Fed(X), AXES, makes=f(X.astype(np.float64), axis=(0, 2), keepdims=True).astype(np.float32))
    for kind, f in _NUMPY.items()
]
CASES += [
    case(kind, Fed(WHOLE), ONE, makes=_NUMPY[kind](WHOLE, axis=1, keepdims=True).astype(np.int32), name="whole")
    for kind in ("reduce_max", "reduce_min", "reduce_sum")
]
CASES += [
    case("reduce_sum", Fed(X), np.zeros(0, np.int32), makes=X, name="nothing"),
    case("all", Fed(P), ONE, makes=np.array([[False], [True]])),
    case("any", Fed(~P), ONE, makes=np.array([[True], [False]])),
    case(
        "argmax",
        Fed(np.array([[1, 3, 3], [5, 2, 5]], np.float32)),
        np.array(1, np.int32),
        makes=np.array([[1], [0]], np.uint32),
    ),
    case(
        "softmax",
        Fed(X),
        np.array(-2, np.int32),
        makes=(np.exp(X.astype(np.float64)) / np.exp(X.astype(np.float64)).sum(1, keepdims=True)).astype(np.float32),
    ),
    case(
        "softmax",
        Fed(np.array([1000.0, 1001.0], np.float32)),
        np.array(0, np.int32),
        makes=np.array([1 / (1 + np.e), np.e / (1 + np.e)], np.float32),
        name="large",
    ),
]
NOT, BACK = np.array(False), np.array(True)
SCANNED = np.array([[3, 1, 4, 1, 5], [2, 6, -5, 3, 5]], np.float32)
_SCANS = {"sum": np.add, "product": np.multiply, "min": np.minimum, "max": np.maximum}
for _number, (_how, _f) in enumerate(_SCANS.items()):
    _said = f"{_number} : i32"
    CASES += [
        case(
            "scan",
            Fed(SCANNED),
            np.array(1, np.uint32),
            NOT,
            makes=_f.accumulate(SCANNED, axis=1),
            name=_how,
            scan_op=_said,
        ),
        case(
            "scan",
            Fed(SCANNED),
            np.array(1, np.uint32),
            BACK,
            makes=np.ascontiguousarray(_f.accumulate(SCANNED[:, ::-1], axis=1)[:, ::-1]),
            name=f"{_how}_back",
            scan_op=_said,
        ),
    ]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)
