"""MIL's constexpr operations: compressed weights, decompressed once when the program is lowered."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.model.coreml import compressed

Array = np.ndarray


@lowers("constexpr_affine_dequantize", since="iOS16", exact=True, passes_on=True)
def affine_dequantize(
    low: Lowering, *, quantized_data: Operand, zero_point: np.ndarray, scale: np.ndarray, axis: int
) -> Array:
    return compressed.affine_dequantize(low.constant(quantized_data, "quantized_data"), zero_point, scale, axis)


@lowers("constexpr_cast", since="iOS16", exact=True, passes_on=True)
def constexpr_cast(low: Lowering, *, source_val: Operand, output_dtype: str) -> Array:
    return compressed.cast(low.constant(source_val, "source_val"), output_dtype)


@lowers("constexpr_lut_to_dense", since="iOS16", exact=True, passes_on=True)
def lut_to_dense(low: Lowering, *, indices: Operand, lut: Operand, shape: np.ndarray) -> Array:
    return compressed.lut_to_dense(low.constant(indices, "indices"), low.constant(lut, "lut"), shape)


@lowers("constexpr_lut_to_dense", since="iOS18")
def lut_to_dense_ios18(low: Lowering, *, indices: Operand, lut: Operand, vector_axis: int | None = None) -> Array:
    return compressed.look_up(low.constant(indices, "indices"), low.constant(lut, "lut"), vector_axis)


@lowers("constexpr_sparse_to_dense", since="iOS16", exact=True, passes_on=True)
def sparse_to_dense(low: Lowering, *, nonzero_data: Operand, mask: Operand, shape: np.ndarray) -> Array:
    return compressed.sparse_to_dense(low.constant(nonzero_data, "nonzero_data"), low.constant(mask, "mask"), shape)


@lowers("constexpr_sparse_to_dense", since="iOS18")
def sparse_to_dense_ios18(low: Lowering, *, nonzero_data: Operand, mask: Operand) -> Array:
    return compressed.spread(low.constant(nonzero_data, "nonzero_data"), low.constant(mask, "mask"))


@lowers("constexpr_lut_to_sparse", since="iOS18", exact=True, passes_on=True)
def lut_to_sparse(
    low: Lowering,
    *,
    indices_mask: Operand,
    indices_nonzero_data: Operand,
    lut: Operand,
    vector_axis: int | None = None,
) -> tuple[Array, Array]:
    mask = low.constant(indices_mask, "indices_mask")
    data = low.constant(indices_nonzero_data, "indices_nonzero_data")
    return compressed.lut_to_sparse(mask, data, low.constant(lut, "lut"), vector_axis)


@lowers("constexpr_blockwise_shift_scale", since="iOS18", exact=True, passes_on=True)
def blockwise_shift_scale(
    low: Lowering, *, data: Operand, scale: np.ndarray, offset: np.ndarray | None = None
) -> Array:
    return compressed.blockwise_shift_scale(low.constant(data, "data"), np.asarray(scale), offset)


@lowers("constexpr_sparse_blockwise_shift_scale", since="iOS18", exact=True, passes_on=True)
def sparse_blockwise_shift_scale(
    low: Lowering, *, data_mask: Operand, nonzero_data: Operand, scale: np.ndarray, offset: np.ndarray | None = None
) -> tuple[Array, Array]:
    mask = low.constant(data_mask, "data_mask")
    data = low.constant(nonzero_data, "nonzero_data")
    return compressed.sparse_blockwise_shift_scale(mask, data, np.asarray(scale), offset)
