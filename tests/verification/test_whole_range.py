"""Whole numbers beyond 32 bits: harmless inside where all that is made of them agrees, a fault where an output shows it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

import coreproof as cp
from tests.build import onnx_model

HEAD = '<ir_version: 10, opset_import: ["": 21]> net'
SHIFTED = """(int64[6] x) => (float[6] y)
<uint64[6] bits, uint64[6] right, uint64[6] filled, int64[6] signed, int64[6] plain, int64[6] place> {
    below = Less(x, zero)
    bits = Cast<to=13>(x)
    right = BitShift<direction="RIGHT">(bits, four)
    filled = BitwiseOr(right, top)
    signed = Cast<to=7>(filled)
    plain = Cast<to=7>(right)
    place = Where(below, signed, plain)
    y = Gather(table, place)
}"""
"""As PyTorch's exporter writes table[x >> 4]."""
LEFT = """(int64[6] x) => (int64[6] y) <uint64[6] bits, uint64[6] moved> {
    bits = Cast<to=13>(x)
    moved = BitShift<direction="LEFT">(bits, places)
    y = Cast<to=7>(moved)
}"""
NUMBERS = {
    "zero": np.array(0, np.int64),
    "four": np.array(4, np.uint64),
    "top": np.array(0xF << 60, np.uint64),
    "table": np.arange(16, dtype=np.float32) / 8,
}
FED = np.array([-1, -5, -16, -100, 37, 2], np.int64)
Format = Literal["mlprogram", "neuralnetwork"]


def built(text: str, **weights: Any) -> Any:
    return onnx_model(f"{HEAD} {text}", **{k: v for k, v in weights.items() if f"{k})" in text or f"({k}," in text})


@pytest.mark.parametrize("form", ["mlprogram", "neuralnetwork"])
def test_what_an_exporter_writes_for_negative_numbers_is_no_fault(form: Format) -> None:
    source = built(SHIFTED, **NUMBERS)
    made = cp.convert(source, form, check=False)
    found = cp.verify(source, made, {"x": FED})
    assert found, found.summary()
    assert {row.reference for row in found.rows if row.harmless} >= {"right", "filled"}
    assert "leave 32 bits without harm" in found.summary()


@pytest.mark.parametrize("form", ["mlprogram", "neuralnetwork"])
def test_a_wrong_shift_is_a_fault_though_its_bits_leave_the_range(form: Format) -> None:
    source = built(SHIFTED, **NUMBERS)
    wrong = built(SHIFTED, **{**NUMBERS, "four": np.array(3, np.uint64), "top": np.array(0x7 << 61, np.uint64)})
    assert not cp.verify(source, cp.convert(wrong, form, check=False), {"x": FED})


def test_a_shift_to_the_left_fails_where_it_leaves_32_bits_and_is_right_within_them() -> None:
    source = built(LEFT, places=np.array(20, np.uint64))
    made = cp.convert(source, "mlprogram", check=False)
    assert any("'moved' is a product of 64-bit integers" in note for note in made.notes)
    with cp.session(made) as running:
        np.testing.assert_array_equal(running.run({"x": FED * 20})["y"], np.left_shift(FED * 20, 20))
        for beyond in (2048, -2049, 1 << 14):
            with pytest.raises(cp.CoreproofError, match="32 bits"):
                running.run({"x": np.array([0, 1, 2, 3, 4, beyond], np.int64)})
    with pytest.raises(cp.CoreproofError, match="BitShift of integers may not fit"):
        cp.convert(source, "neuralnetwork", check=False)


def test_shifts_of_32_bits_lose_theirs_as_the_source_does() -> None:
    text = LEFT.replace("int64", "int32").replace("to=13", "to=12").replace("to=7", "to=6")
    source = built(text, places=np.array(20, np.uint32))
    x = np.array([1, -1, 4097, -5000, 2047, 2048], np.int32)
    made = cp.convert(source, "mlprogram", check=False)
    assert not any("product" in note for note in made.notes)
    with cp.session(made) as running:
        np.testing.assert_array_equal(running.run({"x": x})["y"], np.left_shift(x, 20))


@pytest.mark.parametrize("form", ["mlprogram", "neuralnetwork"])
def test_an_infinite_float_that_is_cast_is_no_fault_where_what_is_made_of_it_agrees(form: Format) -> None:
    """A NeuralNetwork keeps whole numbers in float32, and what is infinite infinite; elsewhere it becomes an end of the range."""
    text = """(float[4] x) => (int32[4] y) <float[4] q, int32[4] whole> {
        r = Round(x)
        q = Div(x, r)
        whole = Cast<to=6>(q)
        y = Neg(whole)
    }"""
    source = built(text)
    made = cp.convert(source, form, check=False)
    found = cp.verify(source, made, {"x": np.float32([0.25, -0.25, 3.2, 7])})
    assert found, found.summary()
    # a finite one that becomes another number is a fault still
    other = built(text.replace("Neg(whole)", "Abs(whole)"))
    assert not cp.verify(other, made, {"x": np.float32([0.25, -0.25, 3.2, 7])})
