"""Core AI operations on places that other tensors name, and sorting, against NumPy."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

X = np.arange(12, dtype=np.float32).reshape(3, 4)
AT = np.array([[0, -1], [2, 1], [3, 0]], np.int32)
ROWS = np.array([[2], [-3]], np.int32)
ONE = np.array(1, np.int32)
NO, YES = np.array(False), np.array(True)
UNSORTED = np.array([[3, 1, 2, 1], [0, -5, 0, 7]], np.float32)


def _scattered(mode: str) -> np.ndarray:
    made = X.copy() + 1
    for i, j in np.ndindex(AT.shape):
        update, place = float(i + j + 2), (i, AT[i, j])
        old = made[place]
        made[place] = {
            "update": update, "add": old + update, "sub": old - update, "mul": old * update, "div": old / update,
            "max": max(old, update), "min": min(old, update),
        }[mode]  # fmt: skip
    return made


_UPDATES = np.array([[i + j + 2 for j in range(2)] for i in range(3)], np.float32)
CASES = [
    case("gather_along_axis", Fed(X), Fed(AT), ONE, makes=np.take_along_axis(X, AT % 4, 1)),
    case("gather_nd", Fed(X), Fed(ROWS), makes=X[[2, 0]], name="rows"),
    case("gather_nd", Fed(X), np.array([[1, 2], [-1, 0]], np.int32), makes=np.array([6, 8], np.float32)),
    case("non_zero", Fed(np.array([[0, 1.5], [-2, 0]], np.float32)), makes=np.array([[0, 1], [1, 0]], np.int32)),
    case("sort", Fed(UNSORTED), ONE, NO, NO, makes=np.sort(UNSORTED, 1)),
    case("sort", Fed(UNSORTED), np.array(-1, np.int32), YES, NO, makes=-np.sort(-UNSORTED, 1), name="descending"),
    case("argsort", Fed(UNSORTED), ONE, NO, YES, makes=np.argsort(UNSORTED, 1, kind="stable").astype(np.int32)),
    case(
        "argsort",
        Fed(UNSORTED),
        ONE,
        YES,
        YES,
        makes=np.argsort(-UNSORTED, 1, kind="stable").astype(np.int32),
        name="descending",
    ),
    *(
        case(
            "scatter_along_axis",
            Fed(X + 1),
            Fed(AT),
            Fed(_UPDATES),
            ONE,
            makes=_scattered(mode),
            name=mode,
            scatter_mode=f"#coreai.scatter_mode<{mode}>",
        )
        for mode in ("update", "add", "sub", "mul", "div", "max", "min")
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)
