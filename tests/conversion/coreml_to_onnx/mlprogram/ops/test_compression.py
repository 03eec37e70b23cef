"""Compressed weights, against what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreproof.runtime.open import session
from tests.build import program
from tests.conversion.coreml_to_onnx.lowered import only
from tests.conversion.coreml_to_onnx.mlprogram.family import Family
from tests.drawn import RNG, normal

family = Family("compression")
Array = np.ndarray


def narrow(array: Array, dtype: str) -> Array:
    """Whole numbers in a dtype of less than a byte, as coremltools holds them."""
    from coremltools.converters.mil.mil import types

    return array.astype(types.nptype_from_builtin(types.string_to_builtin(dtype)))


def dense(folder: Path, target: str, weight: Any, shape: tuple[int, ...], *, half: bool = False) -> Array:
    """What ``weight(mb)`` stands for: the program adds it to zeros."""
    dtype = "float16" if half else "float32"
    model = program(folder, lambda mb, a: mb.add(x=a, y=weight(mb)), [(shape, dtype)], target=target, half=half)
    with session(model) as running:
        return only(running.run({"a": np.zeros(shape, dtype)}))


BYTES = RNG.integers(-128, 128, (4, 3, 2)).astype(np.int8)


@family.exercises("constexpr_affine_dequantize", target="iOS16")
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_each_place_of_an_axis_has_its_scale_and_zero_point(tmp_path: Path, dtype: str, axis: int) -> None:
    data = BYTES.view(dtype)
    scale = 2.0 ** np.arange(-3, data.shape[axis] - 3, dtype=np.float32)
    zero = np.arange(3, data.shape[axis] + 3).astype(dtype)
    found = dense(
        tmp_path, "iOS16",
        lambda mb: mb.constexpr_affine_dequantize(quantized_data=data, zero_point=zero, scale=scale, axis=axis),
        data.shape
    )  # fmt: skip
    moved = (np.moveaxis(data, axis, -1).astype(float) - zero) * scale
    np.testing.assert_array_equal(found, np.moveaxis(moved, -1, axis))


@family.exercises("constexpr_affine_dequantize", target="iOS16")
def test_one_scale_and_zero_point_may_serve_all(tmp_path: Path) -> None:
    numbers = {"zero_point": np.int8(-7), "scale": np.float32(0.25), "axis": 0}
    found = dense(
        tmp_path, "iOS16", lambda mb: mb.constexpr_affine_dequantize(quantized_data=BYTES, **numbers), BYTES.shape
    )
    np.testing.assert_array_equal(found, (BYTES + 7.0) * 0.25)


@family.exercises("constexpr_cast", target="iOS16")
def test_float16_weights_are_widened(tmp_path: Path) -> None:
    stored = np.float16([[0.1, -65504], [6e-8, 3]])
    found = dense(tmp_path, "iOS16", lambda mb: mb.constexpr_cast(source_val=stored, output_dtype="fp32"), (2, 2))
    np.testing.assert_array_equal(found, stored.astype(np.float32))


def packed(numbers: Array, bits: int) -> Array:
    """The lowest bits of each number, one behind the other from the lowest bit of the first byte on."""
    each = (numbers.ravel()[:, None] >> np.arange(bits)) & 1
    return np.packbits(each.astype(np.uint8).ravel(), bitorder="little")


@family.exercises("constexpr_lut_to_dense", target="iOS16")
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_indices_look_up_a_table(tmp_path: Path, bits: int) -> None:
    indices, table = RNG.integers(0, 2**bits, (3, 5)), normal(2**bits)
    given = {"indices": packed(indices, bits), "lut": table, "shape": np.uint32([3, 5])}
    found = dense(tmp_path, "iOS16", lambda mb: mb.constexpr_lut_to_dense(**given), (3, 5))
    np.testing.assert_array_equal(found, table[indices])


@family.exercises("constexpr_lut_to_dense", target="iOS18")
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_each_block_of_indices_has_its_table(tmp_path: Path, bits: int) -> None:
    indices, tables = RNG.integers(0, 2**bits, (4, 6)), normal(2, 3, 2**bits, 1)
    stored = narrow(indices, f"uint{bits}")
    found = dense(tmp_path, "iOS18", lambda mb: mb.constexpr_lut_to_dense(indices=stored, lut=tables), (4, 6))
    expected = [[tables[i // 2, j // 2, indices[i, j], 0] for j in range(6)] for i in range(4)]
    np.testing.assert_array_equal(found, expected)


@family.exercises("constexpr_lut_to_dense", target="iOS18")
@pytest.mark.parametrize(("axis", "shape"), [(0, (6, 4)), (1, (2, 12)), (-1, (2, 12))])
def test_the_vectors_of_a_table_unfold_along_an_axis(tmp_path: Path, axis: int, shape: tuple[int, int]) -> None:
    indices, tables = RNG.integers(0, 4, (2, 4)), normal(1, 2, 4, 3)
    given = {"indices": narrow(indices, "uint2"), "lut": tables, "vector_axis": np.int32(axis)}
    found = dense(tmp_path, "iOS18", lambda mb: mb.constexpr_lut_to_dense(**given), shape)
    for i, j in np.ndindex(2, 4):
        vector = tables[0, j // 2, indices[i, j]]
        place = (slice(3 * i, 3 * i + 3), j) if axis == 0 else (i, slice(3 * j, 3 * j + 3))
        np.testing.assert_array_equal(found[place], vector)


MASK = np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1]])
VALUES = normal(5)


def spread(values: Array) -> Array:
    whole = np.zeros(MASK.shape)
    whole[MASK == 1] = values
    return whole


@family.exercises("constexpr_sparse_to_dense", target="iOS16")
def test_a_packed_mask_says_where_the_values_stand(tmp_path: Path) -> None:
    given = {"nonzero_data": VALUES, "mask": packed(MASK, 1), "shape": np.uint32(MASK.shape)}
    found = dense(tmp_path, "iOS16", lambda mb: mb.constexpr_sparse_to_dense(**given), MASK.shape)
    np.testing.assert_array_equal(found, spread(VALUES))


@family.exercises("constexpr_sparse_to_dense", target="iOS18")
@pytest.mark.parametrize("half", [False, True])
def test_a_mask_of_bits_says_where_the_values_stand(tmp_path: Path, half: bool) -> None:
    values = VALUES.astype(np.float16 if half else np.float32)
    found = dense(
        tmp_path, "iOS18", lambda mb: mb.constexpr_sparse_to_dense(nonzero_data=values, mask=narrow(MASK, "uint1")),
        MASK.shape, half=half
    )  # fmt: skip
    np.testing.assert_array_equal(found, spread(values))


@family.exercises("constexpr_lut_to_sparse", "constexpr_sparse_to_dense", target="iOS18")
def test_the_values_of_a_mask_may_be_looked_up(tmp_path: Path) -> None:
    indices, table = np.array([3, 0, 1, 1, 2]), normal(4)

    def weight(mb: Any) -> Any:
        mask, values = mb.constexpr_lut_to_sparse(
            indices_mask=narrow(MASK, "uint1"),
            indices_nonzero_data=narrow(indices, "uint2"),
            lut=table.reshape(1, 1, 4, 1),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    np.testing.assert_array_equal(dense(tmp_path, "iOS18", weight, MASK.shape), spread(table[indices]))


@pytest.mark.sweep(3)
@family.exercises("constexpr_blockwise_shift_scale", target="iOS18")
@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8", "uint8"])
@pytest.mark.parametrize("shifted", [False, True])
def test_each_block_has_its_scale_and_offset(tmp_path: Path, dtype: str, shifted: bool) -> None:
    low, high = (-8, 8) if dtype == "int4" else (0, 16)
    data, offset = RNG.integers(low, high, (4, 6)), RNG.integers(0, 8, (2, 3))
    scale = 2.0 ** RNG.integers(-3, 3, (2, 3)).astype(np.float32)
    more = {"offset": narrow(offset, dtype)} if shifted else {}
    found = dense(
        tmp_path,
        "iOS18",
        lambda mb: mb.constexpr_blockwise_shift_scale(data=narrow(data, dtype), scale=scale, **more),
        (4, 6),
    )
    blocks = np.ones((2, 2))
    expected = np.kron(scale, blocks) * (data - (np.kron(offset, blocks) if shifted else 0))
    np.testing.assert_array_equal(found, expected)


@family.exercises("constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense", target="iOS18")
def test_the_values_of_a_mask_may_be_scaled_by_block(tmp_path: Path) -> None:
    data, scale, offset = np.array([3, -8, 7, 0, 1]), np.float32([[0.5], [2], [4]]), np.array([[1], [-2], [0]])

    def weight(mb: Any) -> Any:
        mask, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=narrow(MASK, "uint1"),
            nonzero_data=narrow(data, "int4"),
            scale=scale,
            offset=narrow(offset, "int4"),
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)

    expected = np.where(MASK, scale * (spread(data) - offset), 0)
    np.testing.assert_array_equal(dense(tmp_path, "iOS18", weight, MASK.shape), expected)


@family.exercises("constexpr_lut_to_dense", target="iOS18")
def test_a_product_reads_compressed_weights(tmp_path: Path) -> None:
    indices, table, x = RNG.integers(0, 8, (8, 16)), normal(8), normal(2, 16)

    def build(mb: Any, a: Any) -> Any:
        weight = mb.constexpr_lut_to_dense(indices=narrow(indices, "uint3"), lut=table.reshape(1, 1, 8, 1))
        return mb.linear(x=a, weight=weight)

    with session(program(tmp_path, build, [(x.shape, "float32")], target="iOS18")) as running:
        np.testing.assert_allclose(only(running.run({"a": x})), x @ table[indices].T, rtol=1e-5, atol=1e-5)
