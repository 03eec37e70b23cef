"""Bitwise operators against numpy, over the whole width of each integer type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from coreproof.errors import ConversionError
from tests.build import node_model
from tests.conversion.onnx_to_coreml.one_node import TARGETS, check_node, convert_node

PROGRAMS = [t for t in TARGETS if t[0] == "mlprogram"]
DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.int32]


def _numbers(dtype: type, seed: int, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    drawn = np.random.default_rng(seed).integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)
    drawn.reshape(-1)[:4] = [limits.min, limits.max, 0, 1]
    return drawn


@pytest.mark.sweep(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("operator", "judge"),
    [("BitwiseAnd", np.bitwise_and), ("BitwiseOr", np.bitwise_or), ("BitwiseXor", np.bitwise_xor)],
)
def test_two_operands(operator: str, judge: np.ufunc, dtype: type) -> None:
    a, b = _numbers(dtype, 1, 3, 4), _numbers(dtype, 2, 4)
    check_node(operator, {"a": a, "b": b}, judge(a, b), targets=PROGRAMS, opset=18)


def test_five_dimensions_leave_no_room_for_the_bits() -> None:
    a, b = _numbers(np.int32, 1, 2, 1, 2, 1, 3), _numbers(np.int32, 2, 2, 1, 1, 3)
    check_node("BitwiseXor", {"a": a, "b": b}, a ^ b, targets=PROGRAMS, opset=18)


@pytest.mark.parametrize("dtype", DTYPES)
def test_not(dtype: type) -> None:
    a = _numbers(dtype, 3, 3, 4)
    check_node("BitwiseNot", {"a": a}, np.bitwise_not(a), targets=PROGRAMS, opset=18)


@pytest.mark.sweep(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts(direction: str, dtype: type) -> None:
    width = np.iinfo(dtype).bits
    a = np.repeat(_numbers(dtype, 4, 6)[:, None], width, axis=1)
    by = np.repeat(np.arange(width, dtype=dtype)[None], 6, axis=0)
    wanted = np.left_shift(a, by) if direction == "LEFT" else np.right_shift(a, by)
    check_node("BitShift", {"a": a, "by": by}, wanted, targets=PROGRAMS, opset=28, direction=direction)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_a_shift_beyond_the_width_leaves_the_sign(direction: str) -> None:
    a, by = np.array([5, -5, 7, -7], np.int32), np.array([32, 40, -1, -3], np.int32)
    wanted = np.zeros(4, np.int32) if direction == "LEFT" else np.array([0, -1, 0, -1], np.int32)
    check_node("BitShift", {"a": a, "by": by}, wanted, targets=PROGRAMS, opset=28, direction=direction)


@pytest.mark.parametrize(
    ("operator", "judge"),
    [("BitwiseAnd", np.bitwise_and), ("BitwiseOr", np.bitwise_or), ("BitwiseXor", np.bitwise_xor)],
)
def test_a_neural_network_keeps_small_negative_numbers_exact(operator: str, judge: np.ufunc) -> None:
    a = np.array([-9, -1, -200, 5, 0, -(2**20) - 1, 2**20 + 3, -7], np.int32)
    b = np.array([-3, -1, 77, -2, -5, -12345, 77, 7], np.int32)
    check_node(operator, {"a": a, "b": b}, judge(a, b), targets=[("neuralnetwork", None)], opset=18)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(np.int8, np.uint8), (np.uint8, np.int8), (np.uint16, np.int16), (np.int16, np.uint16), (np.int32, np.uint32)],
)
def test_bits_with_a_sign_and_without(given: Any, wanted: Any) -> None:
    limits = np.iinfo(given)
    x = np.array([0, 1, limits.max, limits.min, limits.max - 5, limits.max // 2], given)
    want = x.view(wanted).astype(np.int64)
    want = want.astype(np.int32).astype(np.int64)  # Core ML has the number with a sign alone
    to = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(wanted)))
    check_node("BitCast", {"x": x}, want, opset=26, to=to, targets=PROGRAMS if limits.bits == 32 else TARGETS)


def test_bits_of_floats_are_refused_by_name() -> None:
    model = node_model("BitCast", {"x": np.zeros(2, np.float32)}, opset=26, to=6, outputs=[np.int32])
    with pytest.raises(ConversionError, match="bits of FLOAT as INT32"):
        convert_node(model, "mlprogram", "iOS17")
