"""Products of 64-bit integers that the 32 bits of Core ML may not hold: a run in which one leaves them fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.onnx_to_coreml.mil import Operand

BEYOND_32_BITS = "a_product_beyond_32_bits"
"""What a value is called that cannot be made where a product leaves 32 bits."""

_MOST = np.float32(2147483000)
"""Below 2^31 by more than what float32 rounds a product by."""


def checked(ctx: Context, product: Operand, wide: Callable[[], Operand]) -> Operand:
    """The product, to which a zero is added that only exists where ``wide``, the same in float32, stays within 32 bits.

    It is one element, given the shape of one, or of two where something is too large: that is an error of the run, in Core ML as
    here, and no number comes out.
    """
    mb = ctx.mb
    dtype, ctx.dtype = ctx.dtype, np.float32
    try:
        size = mb.abs(x=wide())
    finally:
        ctx.dtype = dtype
    largest = mb.reduce_max(x=size, axes=list(range(ctx.rank(size))), keep_dims=False) if ctx.rank(size) else size
    beyond = mb.cast(x=mb.greater(x=largest, y=_MOST), dtype="int32")
    shape = mb.expand_dims(x=mb.add(x=beyond, y=np.int32(1)), axes=[0])
    zero = mb.reshape(x=mb.mul(x=np.zeros(1, np.int32), y=shape), shape=shape, name=BEYOND_32_BITS)
    ctx.notes.append(
        f"{ctx.node.outputs[0].name!r} is a product of 64-bit integers, which Core ML computes in 32 bits: "
        "a run in which it does not fit them fails"
    )
    return mb.add(x=product, y=mb.reduce_sum(x=zero, axes=[0], keep_dims=False))
