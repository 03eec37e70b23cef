"""Core AI's pooling against PyTorch."""

import numpy as np
import pytest

from tests.conversion.coreai_to_onnx.cases import Case, Fed, case, check

torch = pytest.importorskip("torch")
X = np.random.default_rng(2).standard_normal((1, 2, 7, 9)).astype(np.float32)
X3 = np.random.default_rng(3).standard_normal((1, 2, 5, 6, 4)).astype(np.float32)
WHOLE = (X * 100).astype(np.int32)


def _u(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32)


def _max(x: np.ndarray, kernel: tuple[int, ...], stride: tuple[int, ...], **more: object) -> np.ndarray:
    pool = torch.nn.functional.max_pool2d if x.ndim == 4 else torch.nn.functional.max_pool3d
    return pool(torch.from_numpy(x).double(), kernel, stride, **more).numpy().astype(x.dtype)


def _sum(x: np.ndarray, kernel: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    pool = torch.nn.functional.avg_pool2d if x.ndim == 4 else torch.nn.functional.avg_pool3d
    return (pool(torch.from_numpy(x).double(), kernel, stride) * np.prod(kernel)).float().numpy()


NO, YES = np.array(False), np.array(True)
CASES = [
    case("max_pool_2d", Fed(X), _u(3, 2), _u(2, 1), _u(1, 2), NO, makes=_max(X, (3, 2), (2, 1), dilation=(1, 2))),
    case(
        "max_pool_2d",
        Fed(X),
        _u(2, 2),
        _u(2, 2),
        _u(1, 1),
        YES,
        makes=_max(X, (2, 2), (2, 2), ceil_mode=True),
        name="ceil",
    ),
    case("max_pool_2d", Fed(WHOLE), _u(2, 2), _u(2, 2), _u(1, 1), NO, makes=_max(WHOLE, (2, 2), (2, 2)), name="whole"),
    case("max_pool_3d", Fed(X3), _u(2, 3, 2), _u(1, 2, 2), _u(1, 1, 1), NO, makes=_max(X3, (2, 3, 2), (1, 2, 2))),
    case("sum_pool_2d", Fed(X), _u(3, 2), _u(2, 2), _u(1, 1), makes=_sum(X, (3, 2), (2, 2))),
    case("sum_pool_3d", Fed(X3), _u(2, 3, 2), _u(1, 2, 2), _u(1, 1, 1), makes=_sum(X3, (2, 3, 2), (1, 2, 2))),
]


@pytest.mark.parametrize("each", CASES, ids=lambda c: c.name)
def test_it_makes_what_pytorch_makes(each: Case) -> None:
    check(each)
