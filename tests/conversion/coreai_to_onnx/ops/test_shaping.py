"""Core AI operations that move numbers, against NumPy: nothing is computed, so that all has to be equal."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check
from tests.conversion.coreai_to_onnx.functions import function, model, op, run

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
S = np.int32
U = np.uint32

CASES = [
    case("reshape", Fed(X), np.array([4, 6], U), makes=X.reshape(4, 6)),
    case("reshape", Fed(X), np.array([-1, 4], S), makes=X.reshape(-1, 4), name="open"),
    case("reshape", Fed(X[:1, :1, :1]), np.zeros(0, S), makes=X[0, 0, 0].reshape(()), name="single"),
    case("transpose", Fed(X), np.array([2, 0, 1], U), makes=np.ascontiguousarray(X.transpose(2, 0, 1))),
    case("expand_dims", Fed(X), np.array([3, -4], S), makes=X.reshape(2, 1, 3, 1, 4)),
    case("shrink_dims", Fed(X.reshape(1, 2, 12, 1)), np.array([0, -1], S), makes=X.reshape(2, 12)),
    case("concat", np.array(-1, S), Fed(X), Fed(X + 1), makes=np.concatenate([X, X + 1], -1)),
    case("concat", np.array(0, S), np.array(2, U), Fed(np.array([3], U)), makes=np.array([2, 3], U), name="a_single"),
    case("split", Fed(X), np.array([1, 2], U), np.array(1, S), makes=[X[:, :1].copy(), X[:, 1:].copy()]),
    case("split", Fed(X), np.array(3, U), np.array(2, S), makes=[X[..., :3].copy(), X[..., 3:].copy()], name="by_size"),
    case("split", Fed(X), np.array(5, U), np.array(0, S), makes=[X], name="into_one"),
    case("tile", Fed(X), np.array([2, 3], U), makes=np.tile(X, (1, 2, 3))),
    case("tile", Fed(X), Fed(np.array([2, 3], U)), makes=np.tile(X, (1, 2, 3)), name="at_run_time"),
    case(
        "broadcast_to", Fed(X[:, :1]), np.array([5, 2, 3, 4], U), makes=np.broadcast_to(X[:, :1], (5, 2, 3, 4)).copy()
    ),
    case("broadcast_in_dims", Fed(X[:, :1]), np.array([3], U), np.array([-2], S), makes=np.repeat(X[:, :1], 3, 1)),
    case("get_shape", Fed(X), makes=np.array([2, 3, 4], U)),
    case("broadcast_shapes", Fed(np.array([3, 1, 5], U)), Fed(np.array([4, 1], U)), makes=np.array([3, 4, 5], U)),
    case("reverse", Fed(X), np.array([0, -1], S), makes=np.ascontiguousarray(X[::-1, :, ::-1])),
    case("range", np.array(10, S), np.array(0, S), np.array(-3, S), makes=np.arange(10, 0, -3, dtype=S)),
    case(
        "range",
        Fed(np.array(0.5, np.float32)),
        np.array(3, np.float32),
        np.array(1, np.float32),
        makes=np.arange(0.5, 3, 1, dtype=np.float32),
        name="floats",
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)


def test_a_split_by_size_leaves_what_remains_of_a_free_length_to_the_last() -> None:
    kinds = {"x": "tensor<?x2xf32>", "s": "tensor<ui32>", "d": "tensor<si32>"} | dict.fromkeys("abc", "tensor<?x2xf32>")
    body = [
        op("constant", [], ["s"], constant=np.array(3, U)),
        op("constant", [], ["d"], constant=np.array(0, S)),
        op("split", ["x", "s", "d"], ["a", "b", "c"]),
        op("output", ["a", "b", "c"], []),
    ]
    made = model(function("main", ["x"], body, kinds))
    for rows in (7, 9):
        x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        found = run(made, x=x)
        for name, expected in zip("abc", (x[:3], x[3:6], x[6:]), strict=True):
            np.testing.assert_array_equal(found[name], expected)
