"""Compressed weights of an ML Program (MIL's constexpr operations) as the dense arrays that they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from coreproof.model.coreml.weight_file import unpack_bits

Array = np.ndarray


def affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: int = 0) -> Array:
    """(data - zero_point) * scale, one scale and zero point for all or one for each place along ``axis``."""
    along = [-1 if a == int(axis) % quantized_data.ndim else 1 for a in range(quantized_data.ndim)]
    factor, shift = (np.asarray(v).reshape(along) if np.ndim(v) else np.asarray(v) for v in (scale, zero_point))
    dense: Array = ((quantized_data.astype(np.float32) - shift.astype(np.float32)) * factor).astype(factor.dtype)
    return dense


def cast(source_val: Array, output_dtype: object) -> Array:
    """The values in another width, which is a text."""
    return source_val.astype({"fp16": np.float16, "fp32": np.float32}[str(output_dtype)])


def lut_to_dense(indices: Array, lut: Array, shape: Array | None = None, vector_axis: int | None = None) -> Array:
    """A look-up. With a ``shape`` (before iOS18) the indices are packed: log2(length of the table) bits each."""
    if shape is None:
        return look_up(indices, lut, vector_axis)
    lengths = [int(n) for n in shape]
    packed = np.asarray(indices).astype(np.uint8)
    # a table of 2**n entries is indexed with n bits (MIL, constexpr_lut_to_dense before iOS18: 2, 4, 16, 64 or 256 entries)
    unpacked = unpack_bits(packed, int(np.log2(lut.size)), math.prod(lengths), signed=False)
    dense: Array = lut[unpacked].reshape(lengths)
    return dense


def look_up(indices: Array, lut: Array, vector_axis: int | None) -> Array:
    """``lut`` is [tables along each dimension of the indices..., entries, vector]; vectors unfold along ``vector_axis``."""
    # place i of a dimension of n uses table i // (n // t): each table serves a block of the indices
    tables = np.ix_(*(np.arange(n) // (n // t) for n, t in zip(indices.shape, lut.shape[:-2], strict=True)))
    vectors = lut[(*tables, indices)]
    if lut.shape[-1] == 1:
        single: Array = vectors[..., 0]
        return single
    axis = int(vector_axis or 0) % indices.ndim
    # the numbers of a vector become neighbours along the axis, so that reshape joins them
    unfolded = np.moveaxis(vectors, -1, axis + 1)
    lengths = list(indices.shape)
    lengths[axis] *= lut.shape[-1]
    return unfolded.reshape(lengths)


def sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """The values at the places of the mask. With a ``shape`` (before iOS18) the mask is packed: one bit an element."""
    if shape is not None:
        lengths = [int(n) for n in shape]
        packed = np.asarray(mask).astype(np.uint8)
        if math.prod(lengths) > packed.size * 8:
            raise ValueError(f"a mask of {packed.size * 8} bits for {lengths}")
        # eight places a byte, the first in its lowest bit; the rest of the last byte is no place
        mask = np.unpackbits(packed, count=math.prod(lengths), bitorder="little").reshape(lengths)
    return spread(nonzero_data, mask)


def spread(values: Array, mask: Array) -> Array:
    """The values at the places where the mask is set, zeros elsewhere."""
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask != 0] = values
    return dense


def lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: int | None = None
) -> tuple[Array, Array]:
    """The mask and the values of a sparse weight whose values are looked up."""
    dense = look_up(spread(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        # each index stands for a whole vector, whose numbers are all kept or all left out
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis or 0))
    return mask, dense[mask != 0]


def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """scale * (data - offset) in the dtype of ``scale``, each scale and offset for a block of ``data``."""
    scale, offset = np.asarray(scale), None if offset is None else np.asarray(offset)
    # an axis of 64 with 4 scales has blocks of 16; one scale serves the whole axis
    blocks = [n // s for n, s in zip(data.shape, scale.shape, strict=True)]
    for axis, block in enumerate(blocks):
        if block > 1:
            scale = np.repeat(scale, block, axis)
            offset = None if offset is None else np.repeat(offset, block, axis)
    # subtracted in the dtype of the scale: unsigned integers would wrap below zero
    dense = data.astype(scale.dtype)
    if offset is not None:
        dense = dense - offset
    scaled: Array = scale * dense
    return scaled.astype(scale.dtype, copy=False)


def sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> tuple[Array, Array]:
    """The mask and the values of a sparse weight whose values are quantised."""
    dense = blockwise_shift_scale(spread(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


DECOMPRESS: Mapping[str, Callable[..., object]] = {
    "constexpr_affine_dequantize": affine_dequantize,
    "constexpr_cast": cast,
    "constexpr_lut_to_dense": lut_to_dense,
    "constexpr_sparse_to_dense": sparse_to_dense,
    "constexpr_lut_to_sparse": lut_to_sparse,
    "constexpr_blockwise_shift_scale": blockwise_shift_scale,
    "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
}
"""constexpr operation -> what it stands for; called with the operation's own argument names."""


def steps_of(operator: str, arguments: Mapping[str, Array], inner: Mapping[str, Array]) -> Array:
    """How far the numbers that a weight could have held lie apart, at each number that it holds: NaN where it is left out.

    ``arguments`` are those of the operation, as dense arrays; ``inner`` the steps of those that are compressed themselves.
    """
    return _STEPS[operator](arguments, inner)


def grain_of(operator: str, arguments: Mapping[str, Array], inner: Mapping[str, Array]) -> Array | None:
    """The steps to which the entries of a table were rounded, at each number of its weight; None where they are floats."""
    if operator != "constexpr_lut_to_dense" or "lut" not in inner or "shape" in arguments:
        return None
    rest = {k: v for k, v in arguments.items() if k in ("indices", "vector_axis")}
    return lut_to_dense(lut=inner["lut"], **rest)  # type: ignore[arg-type]


def gaps(table: Array) -> Array:
    """How far each entry of a look-up table [..., entries, vector] lies from those around it, a number of its vector.

    Around it are the two next ones a dimension: what was nearer to one of them would have become that one.
    """
    entries = table.astype(np.float64)
    apart = np.sqrt(np.square(entries[..., :, None, :] - entries[..., None, :, :]).sum(-1))
    apart[apart == 0] = np.inf  # itself, and entries that a table holds twice
    # two neighbours a dimension, one on either side, as on a line
    around = np.sort(apart, axis=-1)[..., : 2 * entries.shape[-1]]
    known = np.isfinite(around)
    mean = np.where(known, around, 0.0).sum(-1) / np.maximum(known.sum(-1), 1)
    # a distance between vectors of n numbers is sqrt(n) times that of each, where they are apart alike
    alike: Array = np.repeat((mean / math.sqrt(entries.shape[-1]))[..., None], entries.shape[-1], axis=-1)
    return alike


def _affine_steps(arguments: Mapping[str, Array], _: Mapping[str, Array]) -> Array:
    # scale * (q + 1 - zero) - scale * (q - zero) = scale: the step is the scale wherever the number is
    ones = np.ones(arguments["quantized_data"].shape, np.float32)
    factor = np.abs(arguments["scale"]).astype(np.float32)
    return affine_dequantize(ones, np.zeros((), np.float32), factor, int(arguments.get("axis", 0)))


def _block_steps(arguments: Mapping[str, Array], inner: Mapping[str, Array]) -> Array:
    data = inner.get("data", np.ones(arguments["data"].shape))
    return blockwise_shift_scale(data, np.abs(arguments["scale"]).astype(np.float64))


def _table_steps(arguments: Mapping[str, Array], _: Mapping[str, Array]) -> Array:
    rest = {k: v for k, v in arguments.items() if k in ("indices", "shape", "vector_axis")}
    lut = arguments["lut"]
    apart = gaps(lut.reshape(-1, 1)).reshape(-1) if "shape" in rest else gaps(lut)
    return lut_to_dense(lut=apart, **rest)  # type: ignore[arg-type]


def _sparse_steps(arguments: Mapping[str, Array], inner: Mapping[str, Array]) -> Array:
    """Of what is kept, that of its numbers; those that are floats have none."""
    kept = inner.get("nonzero_data", np.zeros(arguments["nonzero_data"].shape))
    rest = {k: v for k, v in arguments.items() if k in ("mask", "shape")}
    dense = sparse_to_dense(kept, **rest)
    # what is left out is exactly 0 and could have been anything
    dense[sparse_to_dense(np.ones(kept.shape), **rest) == 0] = np.nan
    return dense


def _sparse_table_steps(arguments: Mapping[str, Array], _: Mapping[str, Array]) -> Array:
    vector_axis = arguments.get("vector_axis")
    return lut_to_sparse(
        arguments["indices_mask"],
        arguments["indices_nonzero_data"],
        gaps(arguments["lut"]),
        None if vector_axis is None else int(vector_axis),
    )[1]


def _sparse_block_steps(arguments: Mapping[str, Array], inner: Mapping[str, Array]) -> Array:
    kept = inner.get("nonzero_data", np.ones(arguments["nonzero_data"].shape))
    scale = np.abs(arguments["scale"]).astype(np.float64)
    return sparse_blockwise_shift_scale(arguments["data_mask"], kept, scale)[1]


_STEPS: Mapping[str, Callable[[Mapping[str, Array], Mapping[str, Array]], Array]] = {
    "constexpr_affine_dequantize": _affine_steps,
    "constexpr_cast": lambda arguments, _: np.zeros(np.shape(arguments["source_val"])),
    "constexpr_lut_to_dense": _table_steps,
    "constexpr_sparse_to_dense": _sparse_steps,
    "constexpr_lut_to_sparse": _sparse_table_steps,
    "constexpr_blockwise_shift_scale": _block_steps,
    "constexpr_sparse_blockwise_shift_scale": _sparse_block_steps,
}
