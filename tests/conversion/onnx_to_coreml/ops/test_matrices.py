"""Unit matrices and determinants, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.errors import ConversionError
from tests.build import node_model
from tests.conversion.onnx_to_coreml.microsoft_node import check_microsoft
from tests.conversion.onnx_to_coreml.one_node import check_node, convert_node

RANDOM = np.random.default_rng(2)


@pytest.mark.parametrize("k", [-2, 0, 1, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_eye_like(k: int, dtype: Any) -> None:
    x = np.ones((3, 5), dtype)
    check_node("EyeLike", {"x": x}, np.eye(3, 5, k=k, dtype=dtype), opset=9, k=k)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (2, 3, 4, 4), (5, 7, 7)])
def test_determinants(shape: tuple[int, ...]) -> None:
    x = RANDOM.normal(size=shape).astype(np.float32)
    check_node("Det", {"x": x}, np.linalg.det(x), opset=11, rtol=1e-4, atol=1e-4, targets=[("mlprogram", "iOS15")])


def test_determinants_that_need_another_row_first_or_are_zero() -> None:
    x = np.array(
        [[[0, 1, 2], [3, 0, 1], [1, 1, 0]], [[0, 0, 0], [1, 2, 3], [4, 5, 6]], [[1, 2, 3], [2, 4, 6], [0, 1, 0]]]
    )
    x = x.astype(np.float32)
    check_node("Det", {"x": x}, np.linalg.det(x), opset=11, targets=[("mlprogram", "iOS15")])


def test_a_determinant_of_many_rows_is_refused() -> None:
    with pytest.raises(ConversionError, match="matrices of 40 x 40"):
        convert_node(node_model("Det", {"x": np.eye(40, dtype=np.float32)}, opset=11), "mlprogram", None)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4, 4), (2, 2, 6, 6)])
def test_inverses_against_onnx_runtime(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32) + np.eye(shape[-1], dtype=np.float32)
    x[..., 0, 0] = 0 if shape[-1] > 1 else 2  # the first pivot is another row's
    check_microsoft("Inverse", {"x": x}, half=0.2)
