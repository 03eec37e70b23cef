"""MIL's scaled_dot_product_attention."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.ops.linear import transposed


@lowers("scaled_dot_product_attention", since="iOS18", error="linear")
def scaled_dot_product_attention(
    low: Lowering, *, query: Operand, key: Operand, value: Operand, attn_mask: Operand = None
) -> ir.Value:
    """softmax(query @ key.T / sqrt(E) + mask) @ value; False in a boolean mask takes an element out."""
    width = low.shape(query)[-1]
    if width is None:
        raise low.refuse("the width of the query is not known")
    similarity = low.op("MatMul", query, transposed(low, key))
    # products of vectors grow with their length; divided by its root, they keep one size (Vaswani et al., 2017)
    similarity = low.op("Mul", similarity, np.float32(1 / np.sqrt(width)))
    if attn_mask is not None:
        # a score of minus infinity takes no share of the softmax
        mask = low.op("Where", attn_mask, 0.0, float("-inf")) if low.is_bool(attn_mask) else attn_mask
        similarity = low.op("Add", similarity, mask)
    return low.op("MatMul", low.op("Softmax", similarity, axis=-1), value)
