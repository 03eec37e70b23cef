"""Constants of Core AI in MLIR's text and in bytes: each against the numbers that NumPy and ml_dtypes make of them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from coreproof.model.coreai.literals import dense_array, stored_array


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("dense<[1.5, -2.0]> : tensor<2xbf16>", "tensor<2xbf16>", np.array([1.5, -2], ml_dtypes.bfloat16)),
        ("dense<[[1, 0], [7, 15]]> : tensor<2x2xui4>", "tensor<2x2xui4>", np.array([[1, 0], [7, 15]], ml_dtypes.uint4)),
        ("dense<-3> : tensor<2xsi4>", "tensor<2xsi4>", np.array([-3, -3], ml_dtypes.int4)),
        ("dense<0.5> : tensor<f8E4M3FN>", "tensor<f8E4M3FN>", np.array(0.5, ml_dtypes.float8_e4m3fn)),
        ("dense<[(1.0,2.0), (0.5,-3.0)]> : tensor<2xf32>", "tensor<2xcomplex<f32>>", np.array([1 + 2j, 0.5 - 3j], "c8")),
        ("dense<(0x7F800000,2.0)> : tensor<3xf32>", "tensor<3xcomplex<f32>>", np.full(3, complex(np.inf, 2), "c8")),
        ("dense<(1.0,0xFF800000)> : tensor<f32>", "tensor<complex<f32>>", np.array(complex(1, -np.inf), "c8")),
        ("dense<> : tensor<0xbf16>", "tensor<0xbf16>", np.zeros(0, ml_dtypes.bfloat16)),
        ('dense<"0x803FC03F"> : tensor<2xbf16>', "tensor<2xbf16>", np.array([1.0, 1.5], ml_dtypes.bfloat16)),
        ("dense<[true, false]> : tensor<2xi1>", "tensor<2xi1>", np.array([True, False])),
        ('dense<"0x05"> : tensor<3xi1>', "tensor<3xi1>", np.array([True, False, True])),
        ("dense<[1.0e+00, 2.5E-3]> : tensor<2xf32>", "tensor<2xf32>", np.array([1, 0.0025], np.float32)),
    ],
)  # fmt: skip
def test_a_literal_is_read_as_the_numbers_it_says(text: str, kind: str, expected: np.ndarray) -> None:
    found = dense_array(f"%0 = coreai.constant {text} loc(unknown)", kind)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.astype(np.complex128), expected.astype(np.complex128))


def test_bits_stand_for_what_has_no_decimal_form() -> None:
    found = dense_array("dense<[0x7FC0, 0xFF80, 1.0]> : tensor<3xbf16>", "tensor<3xbf16>").astype(np.float32)
    np.testing.assert_array_equal(found, [np.nan, -np.inf, 1])


@pytest.mark.parametrize(("element", "bits"), [("ui1", 1), ("ui2", 2), ("ui3", 3), ("ui4", 4), ("ui6", 6)])
def test_elements_of_a_few_bits_share_bytes(element: str, bits: int) -> None:
    numbers = np.arange(11) % (1 << bits)
    packed = sum(int(n) << (i * bits) for i, n in enumerate(numbers))
    data = packed.to_bytes(-(-11 * bits // 8), "little")
    np.testing.assert_array_equal(stored_array(data, f"tensor<11x{element}>").astype(int), numbers)


@pytest.mark.parametrize(("element", "bits"), [("ui3", 3), ("ui6", 6)])
def test_bits_that_do_not_divide_a_byte_may_fill_up_groups_of_three_bytes(element: str, bits: int) -> None:
    """As coreai-torch's palettes of 64 entries do: 30 indices of 6 bits lie in 24 bytes, not in 23."""
    numbers = np.arange(10) % (1 << bits)
    packed = sum(int(n) << (i * bits) for i, n in enumerate(numbers))
    data = packed.to_bytes(-(-10 * bits // 24) * 3, "little")
    assert len(data) > -(-10 * bits // 8)
    np.testing.assert_array_equal(stored_array(data, f"tensor<10x{element}>").astype(int), numbers)
    with pytest.raises(ValueError, match="bytes"):
        stored_array(data + b"\0", f"tensor<10x{element}>")


def test_signed_elements_of_four_bits_keep_their_sign() -> None:
    assert stored_array(b"\x8f\x07", "tensor<3xsi4>").astype(int).tolist() == [-1, -8, 7]


@pytest.mark.parametrize(
    ("data", "kind"), [(b"\0\0", "tensor<1xui4>"), (b"\0", "tensor<2xf32>"), (b"", "tensor<?xf32>"), (b"", "f32")]
)
def test_bytes_that_do_not_fit_are_refused(data: bytes, kind: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        stored_array(data, kind)


def test_truth_values_beside_a_graph_have_a_bit_or_a_byte_each() -> None:
    truths = np.array([[True, False, False], [True, True, False]])
    packed = np.packbits(truths.reshape(-1), bitorder="little").tobytes()
    for data in (packed, truths.astype(np.uint8).tobytes()):
        found = stored_array(data, "tensor<2x3xi1>")
        assert found.dtype == np.bool_
        np.testing.assert_array_equal(found, truths)
    with pytest.raises(ValueError, match="has 3 bytes"):
        stored_array(b"abc", "tensor<2x3xi1>")
