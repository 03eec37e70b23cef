"""fp16 as stored: which MIL operations round their results, and the pair of casts that does it in a float32 graph.

ONNX Runtime's CPU provider computes a graph that is typed float16 in float32 and drops the rounding between neighbours. A
graph typed float32 with Cast(FLOAT16), Cast(FLOAT) behind each operation that rounds keeps it, at no measurable cost.
"""

from __future__ import annotations

EXACT = frozenset(
    {
        # they only move values, or choose among values that are float16 already
        "argsort", "band_part", "batch_to_space", "concat", "cond", "constexpr_affine_dequantize",
        "constexpr_blockwise_shift_scale", "constexpr_cast", "constexpr_lut_to_dense", "constexpr_lut_to_sparse",
        "constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense", "crop", "depth_to_space", "expand_dims",
        "fill", "fill_like", "flatten2d", "gather", "gather_along_axis", "gather_nd", "identity", "list_gather",
        "list_read", "list_scatter", "list_write", "make_list", "max_pool", "maximum", "minimum",
        "non_maximum_suppression", "one_hot", "pad", "pixel_shuffle", "pixel_unshuffle", "read_state", "reduce_max",
        "reduce_min", "reshape", "reshape_like", "resize_nearest_neighbor", "reverse", "reverse_sequence", "select",
        "slice_by_index", "slice_by_size", "slice_update", "sliding_windows", "space_to_batch", "space_to_depth", "split",
        "squeeze", "stack", "tile", "topk", "transpose", "upsample_nearest_neighbor", "while_loop", "write_state",
        # the exact result of one float16 value is a float16 value
        "abs", "ceil", "clip", "floor", "relu", "relu6", "round", "sign", "threshold", "thresholded_relu",
    }
)  # fmt: skip
"""MIL operations whose float16 results need no rounding when their float16 inputs are rounded."""

COMMUTES = frozenset({"relu", "relu6", "clip"})
"""Operations that may be done before the rounding of their input instead of after it.

They never turn an order around, and what they cut at is a float16 number itself, so round(f(x)) = f(round(x)). Done
first, they stand right behind the convolution that makes x, where the engine fuses the two.
"""


def rounds(operator: str) -> bool:
    """Whether a float16 result of this MIL operation has to be rounded when its inputs are."""
    return operator not in EXACT
