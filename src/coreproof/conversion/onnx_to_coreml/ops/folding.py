"""Col2Im: blocks put back where they were cut from, and added where they overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads


@lowering("Col2Im", error="linear")
def col2im(
    ctx: Context,
    x: Operand,
    image_shape: Operand,
    block_shape: Operand,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """[N, C * taps, blocks] as the picture [N, C, ...]: a transposed convolution whose taps each have a one at their place."""
    mb = ctx.mb
    size = ctx.constant(image_shape, "image shape").reshape(-1).tolist()
    block = ctx.constant(block_shape, "block shape").reshape(-1).tolist()
    count = len(block)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    padding = explicit_pads(ctx, "NOTSET", pads, size, block, strides)
    around = [n + p[0] + p[1] for n, p in zip(size, padding, strict=True)]
    grid = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(around, block, strides, dilations, strict=True)]
    batch, rows, _ = x.shape
    if not is_known(rows):
        raise ctx.refuse("its channels are free", "fixed channels", "fix the input's shape")
    taps = math.prod(block)
    channels = rows // taps
    if count > 3:
        raise ctx.refuse(f"{count} spatial dimensions", "at most three")
    flat = count == 1  # a convolution along one axis is one over a picture of one row
    if flat:
        size, block, strides, dilations, grid = [1, *size], [1, *block], [1, *strides], [1, *dilations], [1, *grid]
        around, padding = [1, *around], [(0, 0), *padding]
    kernel = np.tile(np.eye(taps, dtype=ctx.dtype).reshape(taps, 1, *block), (channels, 1, *[1] * len(block)))
    whole = mb.conv_transpose(
        x=mb.reshape(x=x, shape=[batch if is_known(batch) else -1, rows, *grid]),
        weight=kernel,
        strides=strides,
        dilations=dilations,
        groups=channels,
        pad_type="valid",
    )
    made = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(grid, block, strides, dilations, strict=True)]
    short = [n - m for n, m in zip(around, made, strict=True)]
    if any(short):  # what no block reaches
        extra = [0, 0, 0, 0, *(p for s in short for p in (0, s))]
        whole = mb.pad(x=whole, pad=extra, mode="constant", constant_val=ctx.scalar(0))
    begin = [0, 0, *(p[0] for p in padding)]
    end = [0, 0, *(p[0] + n for p, n in zip(padding, size, strict=True))]
    masks = [True, True, *[False] * len(size)]
    image = mb.slice_by_index(x=whole, begin=begin, end=end, begin_mask=masks, end_mask=masks)
    return mb.squeeze(x=image, axes=[2]) if flat else image
