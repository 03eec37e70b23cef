"""Casts, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conversion.onnx_to_coreml.one_node import check_node


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize("to", [np.float32, np.float64, np.int32, np.int64, np.bool_])
def test_cast(to: Any) -> None:
    from onnx import helper

    x = np.array([-2.7, -0.5, 0.0, 0.4, 3.9], np.float32)
    code = helper.np_dtype_to_tensor_dtype(np.dtype(to))
    check_node("Cast", {"x": x}, x.astype(to), opset=13, to=code)


def test_cast_rounds_to_float16_and_wraps_to_bytes() -> None:
    from onnx import TensorProto

    x = np.array([0.1, 1 / 3, 2049.0], np.float32)
    targets = [("mlprogram", "iOS15"), ("mlprogram", "iOS17")]
    check_node("Cast", {"x": x}, x.astype(np.float16), targets=targets, to=TensorProto.FLOAT16, rtol=0, atol=0)
    n = ints(-300, -129, -1, 0, 127, 128, 255, 256)
    check_node("Cast", {"x": n}, n.astype(np.int8), to=TensorProto.INT8)
    check_node("Cast", {"x": n}, n.astype(np.uint8), to=TensorProto.UINT8)


def test_cast_like() -> None:
    x = np.array([0.0, 1.5], np.float32)
    check_node("CastLike", {"x": x}, x.astype(np.int64), {"like": ints(0)})
    check_node("CastLike", {"x": x}, x.astype(np.bool_), {"like": np.array([True])})
