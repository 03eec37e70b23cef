"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads, flat_pads


@lowering("Conv")
def conv(
    ctx: Context,
    x: Operand,
    w: Operand,
    b: Operand | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """1, 2 or 3 spatial dimensions; the bias goes into the same operation where it is constant."""
    kernel = [int(d) for d in w.shape[2:]]
    count = len(kernel)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    padding = explicit_pads(ctx, auto_pad, pads, x.shape[2:], kernel, strides, dilations)
    arguments: dict[str, Any] = {
        "x": x,
        "weight": w,
        "strides": strides,
        "dilations": dilations,
        "groups": group,
        "pad_type": "custom",
        "pad": flat_pads(padding),
    }
    if isinstance(b, np.ndarray):
        arguments["bias"] = b
    elif b is not None:
        made = ctx.mb.conv(**arguments)
        return ctx.mb.add(x=made, y=ctx.mb.reshape(x=b, shape=[1, -1, *[1] * count]))
    return ctx.mb.conv(**arguments)


@lowering("ConvTranspose")
def conv_transpose(
    ctx: Context,
    x: Operand,
    w: Operand,
    b: Operand | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """The whole transposed convolution is computed, then cropped by the pads: MIL has no output padding.

    ``output_padding`` widens the end, which equals cropping less there, or padding with bias where nothing is left to
    crop. ``output_shape`` and auto_pad SAME_* choose the pads, as the ONNX definition says.
    """
    weights = ctx.constant(w, "weight")
    kernel = [int(d) for d in weights.shape[2:]]
    count = len(kernel)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    extra = list(output_padding or [0] * count)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    mode = auto_pad.decode() if isinstance(auto_pad, bytes) else auto_pad
    if output_shape is not None or mode in ("SAME_UPPER", "SAME_LOWER"):
        spatial = ctx.shape(x)[2:]
        wanted = list(output_shape)[-count:] if output_shape else [n * s for n, s in zip(spatial, strides, strict=True)]
        total = [s * (n - 1) + e + r - o for s, n, e, r, o in zip(strides, spatial, extra, reach, wanted, strict=True)]
        halves = [(t // 2, t - t // 2) for t in total]
        padding = halves if mode == "SAME_UPPER" else [(large, small) for small, large in halves]
    else:
        flat = list(pads or [0] * 2 * count)
        padding = [(0, 0)] * count if mode == "VALID" else list(zip(flat[:count], flat[count:], strict=True))
    crop = [(begin, end - e) for (begin, end), e in zip(padding, extra, strict=True)]
    inside = [(max(begin, 0), max(end, 0)) for begin, end in crop]
    arguments: dict[str, Any] = {
        "x": x,
        "weight": weights,
        "strides": strides,
        "dilations": dilations,
        "groups": group,
        "pad_type": "custom",
        "pad": flat_pads(inside),
    }
    outside = [(max(-begin, 0), max(-end, 0)) for begin, end in crop]
    if not any(flat_pads(outside)):
        if b is not None:
            arguments["bias"] = ctx.constant(b, "bias")
        return ctx.mb.conv_transpose(**arguments)
    made = ctx.mb.pad(
        x=ctx.mb.conv_transpose(**arguments),
        pad=[0, 0, 0, 0, *flat_pads(outside)],
        mode="constant",
        constant_val=ctx.scalar(0),
    )
    if b is None:
        return made
    return ctx.mb.add(x=made, y=ctx.constant(b, "bias").reshape(1, -1, *[1] * count))
