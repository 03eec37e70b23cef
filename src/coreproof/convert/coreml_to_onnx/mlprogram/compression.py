"""MIL's constexpr operations: compressed weights, decompressed once when the program is lowered."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.convert.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.model.weights import unpack_bits

Array = npt.NDArray[Any]


@lowers("constexpr_affine_dequantize", since="iOS16")
def affine_dequantize(
    low: Lowering, *, quantized_data: Operand, zero_point: Operand, scale: Operand, axis: int
) -> Array:
    data = low.constant(quantized_data, "quantized_data")
    along = [-1 if a == int(axis) % data.ndim else 1 for a in range(data.ndim)]
    factor, shift = (np.asarray(v).reshape(along) if np.ndim(v) else np.asarray(v) for v in (scale, zero_point))
    dense: Array = ((data.astype(np.float32) - shift.astype(np.float32)) * factor).astype(factor.dtype)
    return dense


@lowers("constexpr_cast", since="iOS16")
def constexpr_cast(low: Lowering, *, source_val: Operand, output_dtype: str) -> Array:
    return low.constant(source_val, "source_val").astype({"fp16": np.float16, "fp32": np.float32}[output_dtype])


@lowers("constexpr_lut_to_dense", since="iOS16")
def lut_to_dense(low: Lowering, *, indices: Operand, lut: Operand, shape: Operand) -> Array:
    """The indices are packed: log2(length of the table) bits each."""
    table = low.constant(lut, "lut")
    lengths = [int(n) for n in shape]
    packed = low.constant(indices, "indices").astype(np.uint8)
    unpacked = unpack_bits(packed, int(np.log2(table.size)), int(np.prod(lengths)), signed=False)
    dense: Array = table[unpacked].reshape(lengths)
    return dense


@lowers("constexpr_lut_to_dense", since="iOS18")
def lut_to_dense_ios18(low: Lowering, *, indices: Operand, lut: Operand, vector_axis: int | None = None) -> Array:
    return look_up(low.constant(indices, "indices"), low.constant(lut, "lut"), vector_axis)


def look_up(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """``lut`` is [tables along each dimension of the indices..., entries, vector]; vectors unfold along ``vector_axis``."""
    tables = np.ix_(*(np.arange(n) // (n // t) for n, t in zip(indices.shape, lut.shape[:-2], strict=True)))
    vectors = lut[(*tables, indices)]
    if lut.shape[-1] == 1:
        single: Array = vectors[..., 0]
        return single
    axis = int(vector_axis or 0) % indices.ndim
    unfolded = np.moveaxis(vectors, -1, axis + 1)
    lengths = list(indices.shape)
    lengths[axis] *= lut.shape[-1]
    return unfolded.reshape(lengths)


@lowers("constexpr_sparse_to_dense", since="iOS16")
def sparse_to_dense(low: Lowering, *, nonzero_data: Operand, mask: Operand, shape: Operand) -> Array:
    """The mask is packed: one bit an element."""
    lengths = [int(n) for n in shape]
    packed = low.constant(mask, "mask").astype(np.uint8)
    present = np.unpackbits(packed, count=int(np.prod(lengths)), bitorder="little")
    return spread(low.constant(nonzero_data, "nonzero_data"), present.reshape(lengths))


@lowers("constexpr_sparse_to_dense", since="iOS18")
def sparse_to_dense_ios18(low: Lowering, *, nonzero_data: Operand, mask: Operand) -> Array:
    return spread(low.constant(nonzero_data, "nonzero_data"), low.constant(mask, "mask"))


def spread(values: Array, mask: Array) -> Array:
    """The values at the places where the mask is set, zeros elsewhere."""
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


@lowers("constexpr_lut_to_sparse", since="iOS18")
def lut_to_sparse(
    low: Lowering,
    *,
    indices_mask: Operand,
    indices_nonzero_data: Operand,
    lut: Operand,
    vector_axis: int | None = None,
) -> tuple[Array, Array]:
    mask = low.constant(indices_mask, "indices_mask")
    table = low.constant(lut, "lut")
    dense = look_up(spread(low.constant(indices_nonzero_data, "indices_nonzero_data"), mask), table, vector_axis)
    if table.shape[-1] > 1:
        mask = np.repeat(mask, table.shape[-1], axis=int(vector_axis or 0))
    return mask, dense[mask != 0]


@lowers("constexpr_blockwise_shift_scale", since="iOS18")
def blockwise_shift_scale(low: Lowering, *, data: Operand, scale: Operand, offset: Operand = None) -> Array:
    return shift_scale(low.constant(data, "data"), np.asarray(scale), None if offset is None else np.asarray(offset))


def shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    """scale * (data - offset) in the dtype of ``scale``, each scale and offset for a block of ``data``."""
    blocks = [n // s for n, s in zip(data.shape, scale.shape, strict=True)]
    for axis, block in enumerate(blocks):
        if block > 1:
            scale = np.repeat(scale, block, axis)
            offset = None if offset is None else np.repeat(offset, block, axis)
    dense = data.astype(scale.dtype)
    if offset is not None:
        dense = dense - offset
    scaled: Array = scale * dense
    return scaled.astype(scale.dtype, copy=False)


@lowers("constexpr_sparse_blockwise_shift_scale", since="iOS18")
def sparse_blockwise_shift_scale(
    low: Lowering, *, data_mask: Operand, nonzero_data: Operand, scale: Operand, offset: Operand = None
) -> tuple[Array, Array]:
    mask = low.constant(data_mask, "data_mask")
    data = spread(low.constant(nonzero_data, "nonzero_data"), mask)
    dense = shift_scale(data, np.asarray(scale), None if offset is None else np.asarray(offset))
    return mask, dense[mask != 0]
