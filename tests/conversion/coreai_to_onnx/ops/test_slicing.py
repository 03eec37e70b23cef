"""Core AI's slices and paddings, against NumPy."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

X = np.arange(1, 25, dtype=np.float32).reshape(4, 6)
LINE = np.array([1, 2, 3], np.float32)


def _i(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def _u(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32)


def _updated(rows: slice, columns: slice, update: np.ndarray) -> np.ndarray:
    made = X.copy()
    made[rows, columns] = update
    return made


_ROW = np.array([[100, 200, 300]], np.float32)
CASES = [
    case("slice", Fed(X), _i(1, 2), _i(4, 5), _i(1, 1), makes=X[1:4, 2:5].copy()),
    case("slice", Fed(X), _i(0, -4), _i(100, -1), _i(2, 1), makes=X[::2, -4:-1].copy(), name="wraps"),
    case("slice", Fed(X), _i(3, 5), _i(0, -1), _i(-1, -2), makes=X[3:0:-1, ::-2].copy(), name="to_the_first"),
    case("slice", Fed(X), _i(0, 5), _i(4, -3), _i(1, -1), makes=X[:, 5:3:-1].copy(), name="back"),
    case("slice", Fed(X), Fed(_i(1, 0)), Fed(_i(3, 6)), _i(1, 3), makes=X[1:3, ::3].copy(), name="at_run_time"),
    case(
        "slice_update",
        Fed(X),
        _i(1, 0),
        _i(2, 6),
        _i(1, 2),
        Fed(_ROW),
        makes=_updated(slice(1, 2), slice(0, 6, 2), _ROW),
    ),
    case(
        "slice_update",
        Fed(X),
        Fed(_i(2, 1)),
        Fed(_i(3, 4)),
        _i(1, 1),
        Fed(_ROW),
        makes=_updated(slice(2, 3), slice(1, 4), _ROW),
        name="at_run_time",
    ),
]
_NUMPY = {
    "constant": "constant",
    "replicate": "edge",
    "reflect": "reflect",
    "symmetric": "symmetric",
    "circular": "wrap",
}
for _mode, _numpy in _NUMPY.items():
    _more = {"constant_values": 7} if _mode == "constant" else {}
    CASES.append(
        case(
            "pad",
            Fed(X),
            _u(1, 2, 0, 2),
            np.array(7, np.float32),
            makes=np.pad(X, ((1, 2), (0, 2)), _numpy, **_more),
            name=_mode,
            padding_mode=f"#coreai.padding_mode<{_mode}>",
        )
    )
CASES += [
    case(
        "pad",
        Fed(X[:2]),
        _u(2, 1, 0, 0),
        np.array(0, np.float32),
        makes=np.pad(X[:2], ((2, 1), (0, 0)), "symmetric"),
        name="symmetric_by_all",
        padding_mode="#coreai.padding_mode<symmetric>",
    ),
    case(
        "pad",
        Fed(np.array([True, False])),
        _u(1, 1),
        np.array(True),
        makes=np.array([True, True, False, True]),
        name="truths",
        padding_mode="#coreai.padding_mode<constant>",
    ),
    case(
        "pad",
        Fed(LINE),
        Fed(_u(1, 2)),
        np.array(0, np.float32),
        makes=np.pad(LINE, (1, 2)),
        name="at_run_time",
        padding_mode="#coreai.padding_mode<constant>",
    ),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_numpy_makes(each: Case) -> None:
    check(each)
