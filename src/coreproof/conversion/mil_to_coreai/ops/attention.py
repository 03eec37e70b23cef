"""MIL's scaled_dot_product_attention in Core AI's operations."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.mil_to_coreai.ops.linear import swapped
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates


@translates("scaled_dot_product_attention", since="iOS18", in_float32=True)
def scaled_dot_product_attention(
    t: Translation, *, query: Operand, key: Operand, value: Operand, attn_mask: Operand = None
) -> Tensor:
    """softmax(query @ key.T / sqrt(E) + mask) @ value; False in a boolean mask takes an element out."""
    (width,) = t.fixed(t.shape(query)[-1:], "the width of the query is not known")
    scores = t.matmul(t.binary("mul", query, float(1 / np.sqrt(width))), swapped(t, key))
    if attn_mask is not None:
        mask: Operand = attn_mask
        if t.is_bool(attn_mask):
            mask = t.where(attn_mask, t.like(0, scores), t.like(-np.inf, scores))
        scores = t.binary("add", scores, mask)
    shares = t.op("softmax", scores, si(len(scores.shape) - 1), shape=scores.shape)
    return t.matmul(shares, value)
