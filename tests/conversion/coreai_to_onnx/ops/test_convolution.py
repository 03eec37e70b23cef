"""Core AI's convolutions against PyTorch, its products of matrices against NumPy."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

torch = pytest.importorskip("torch")
RNG = np.random.default_rng(1)


def _n(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def _u(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32)


ONE = np.array(1, np.uint32)
TWO = np.array(2, np.uint32)


def _torch(name: str, *arrays: np.ndarray, **settings: object) -> np.ndarray:
    wide = [torch.from_numpy(a).double() for a in arrays]
    return getattr(torch.nn.functional, name)(*wide, **settings).float().numpy()


X2, W2, X3, W3 = _n(1, 4, 7, 8), _n(6, 2, 3, 2), _n(1, 2, 5, 6, 4), _n(3, 2, 2, 3, 2)
V2, V3 = _n(4, 3, 3, 2), _n(2, 3, 2, 3, 2)
CASES = [
    case(
        "conv2d",
        Fed(X2),
        W2,
        _u(2, 1),
        _u(1, 2),
        TWO,
        makes=_torch("conv2d", X2, W2, stride=(2, 1), dilation=(1, 2), groups=2),
    ),
    case(
        "conv2d",
        Fed(X2),
        Fed(W2),
        _u(1, 1),
        _u(1, 1),
        TWO,
        makes=_torch("conv2d", X2, W2, groups=2),
        name="weight_at_run_time",
    ),
    case(
        "conv3d",
        Fed(X3),
        W3,
        _u(1, 2, 1),
        _u(2, 1, 1),
        ONE,
        makes=_torch("conv3d", X3, W3, stride=(1, 2, 1), dilation=(2, 1, 1)),
    ),
    case(
        "batch_matmul",
        Fed(_a := _n(2, 3, 4)),
        Fed(_b := _n(2, 4, 5)),
        makes=(_a.astype(np.float64) @ _b).astype(np.float32),
    ),
    case(
        "decomposable.broadcasting_batch_matmul",
        Fed(_c := _n(2, 1, 3, 4)),
        Fed(_d := _n(3, 4, 5)),
        makes=(_c.astype(np.float64) @ _d).astype(np.float32),
    ),
]


TRANSPOSED = [
    case(
        "conv_transpose2d",
        Fed(X2),
        V2,
        _u(2, 1),
        _u(1, 0),
        _u(1, 2),
        _u(1, 0),
        TWO,
        makes=_torch(
            "conv_transpose2d", X2, V2, stride=(2, 1), padding=(1, 0), dilation=(1, 2), output_padding=(1, 0), groups=2
        ),
    ),
    case(
        "conv_transpose3d",
        Fed(X3),
        V3,
        _u(1, 2, 1),
        _u(0, 1, 0),
        _u(1, 1, 1),
        _u(0, 1, 0),
        ONE,
        makes=_torch("conv_transpose3d", X3, V3, stride=(1, 2, 1), padding=(0, 1, 0), output_padding=(0, 1, 0)),
    ),
]
CASES += TRANSPOSED


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_the_other_library_makes(each: Case) -> None:
    check(each)
