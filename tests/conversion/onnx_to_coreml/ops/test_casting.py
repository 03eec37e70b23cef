"""Casts, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml
from tests.build import onnx_model
from tests.conversion.onnx_to_coreml.one_node import check_node
from tests.drawn import ints


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


def test_floats_wrap_to_bytes_as_pytorch_defines_it() -> None:
    """What C leaves undefined: a float below zero or past the end as a byte. The whole part is an integer first."""
    from onnx import TensorProto

    x = np.array([-3.7, -0.5, 0.9, 2.5, 200.0, 255.9, 256.0, 300.0, -300.0, 127.5, -129.0], np.float32)
    for code, dtype in ((TensorProto.UINT8, np.uint8), (TensorProto.INT8, np.int8)):
        check_node("Cast", {"x": x}, x.astype(np.int64).astype(dtype), to=code)
    wide = np.array([40000.0, -40000.0, 65504.0, -1.5], np.float32)
    for code, dtype in ((TensorProto.UINT16, np.uint16), (TensorProto.INT16, np.int16)):
        check_node("Cast", {"x": wide}, wide.astype(np.int64).astype(dtype), to=code)


def test_what_was_clipped_to_fit_is_not_wrapped_again() -> None:
    source = onnx_model(
        """<ir_version: 8, opset_import: ["": 17]> net (float[4] x) => (float[4] y) {
            low = Constant<value_float = 0.0>()  high = Constant<value_float = 255.0>()
            c = Clip(x, low, high)  r = Round(c)  b = Cast<to = 2>(r)  y = Cast<to = 1>(b)
        }"""
    )
    assert "mod" not in {node.operator for node in onnx_to_coreml(source, "mlprogram").graph.nodes}


def test_cast_like() -> None:
    x = np.array([0.0, 1.5], np.float32)
    check_node("CastLike", {"x": x}, x.astype(np.int64), {"like": ints(0)})
    check_node("CastLike", {"x": x}, x.astype(np.bool_), {"like": np.array([True])})
