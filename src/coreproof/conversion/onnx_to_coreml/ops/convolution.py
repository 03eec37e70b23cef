"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.padding import padded
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads, flat_pads
from coreproof.conversion.windows import halves, reaches


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
    padding = explicit_pads(ctx, auto_pad, pads, x.shape[2:], reaches(kernel, dilations), strides)
    known = isinstance(b, np.ndarray)
    if not isinstance(w, np.ndarray) and any(d > 1 for d in dilations):  # MIL spreads constant weights alone
        w, dilations = _spread(ctx, w, dilations), [1] * count
    made = ctx.mb.conv(
        x=x, weight=w, bias=b if known else None,
        strides=strides, dilations=dilations, groups=group, pad_type="custom", pad=flat_pads(padding),
    )  # fmt: skip
    # MIL's conv takes a bias that is known alone
    return made if b is None or known else ctx.mb.add(x=made, y=ctx.mb.reshape(x=b, shape=[1, -1, *[1] * count]))


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
    kernel = [int(d) for d in w.shape[2:]]
    count = len(kernel)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    extra = list(output_padding or [0] * count)
    reach = reaches(kernel, dilations)
    if output_shape is not None or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        spatial = ctx.shape(x)[2:]
        wanted = list(output_shape)[-count:] if output_shape else [n * s for n, s in zip(spatial, strides, strict=True)]
        total = [s * (n - 1) + e + r - o for s, n, e, r, o in zip(strides, spatial, extra, reach, wanted, strict=True)]
        padding = [halves(t, lower=auto_pad != "SAME_UPPER") for t in total]
    else:
        padding = explicit_pads(ctx, auto_pad, pads, x.shape[2:], reach, strides)
    # a result that is longer by e at its end is one that is cropped less there
    crop = [(begin, end - e) for (begin, end), e in zip(padding, extra, strict=True)]
    if not isinstance(w, np.ndarray):
        made = _spread_and_convolved(
            ctx,
            x,
            w,
            strides,
            dilations,
            group,
            [(r - 1 - p, r - 1 - q) for r, (p, q) in zip(reach, crop, strict=True)],
        )
        return made if b is None else ctx.mb.add(x=made, y=_per_channel(ctx, b, count))
    weights = w
    inside = [(max(begin, 0), max(end, 0)) for begin, end in crop]
    outside = [(max(-begin, 0), max(-end, 0)) for begin, end in crop]
    widened = any(flat_pads(outside))
    bias = b if isinstance(b, np.ndarray) else None
    made = ctx.mb.conv_transpose(
        x=x, weight=weights, bias=None if widened else bias,
        strides=strides, dilations=dilations, groups=group, pad_type="custom", pad=flat_pads(inside),
    )  # fmt: skip
    if not widened:
        return made if b is None or bias is not None else ctx.mb.add(x=made, y=_per_channel(ctx, b, count))
    pad = [0, 0, 0, 0, *flat_pads(outside)]
    made = ctx.mb.pad(x=made, pad=pad, mode="constant", constant_val=ctx.scalar(0))
    return made if b is None else ctx.mb.add(x=made, y=_per_channel(ctx, b, count))


def _per_channel(ctx: Context, b: Operand, count: int) -> Operand:
    shape = [1, -1, *[1] * count]
    return b.reshape(shape) if isinstance(b, np.ndarray) else ctx.mb.reshape(x=b, shape=shape)


def _spread_and_convolved(
    ctx: Context,
    x: Operand,
    w: Operand,
    strides: Sequence[int],
    dilations: Sequence[int],
    group: int,
    around: Sequence[tuple[int, int]],
) -> Operand:
    """A transposed convolution whose weights are computed while the model runs.

    MIL's takes constants alone. It is the convolution of the operand, spread with zeros by the strides and surrounded, with the
    weights turned about, whose two first axes change places within each group.
    """
    mb, count = ctx.mb, len(strides)
    channels, each, *kernel = ctx.shape(w)
    x = padded(ctx, _spread(ctx, x, strides), np.array([(0, 0), (0, 0), *around]))
    taps = mb.reshape(x=w, shape=[group, channels // group, each, -1])
    turned = mb.reshape(x=mb.transpose(x=taps, perm=[0, 2, 1, 3]), shape=[group * each, channels // group, *kernel])
    turned = mb.reverse(x=turned, axes=list(range(2, 2 + count)))
    return mb.conv(x=x, weight=_spread(ctx, turned, dilations), groups=group, pad_type="valid")


def _spread(ctx: Context, x: Operand, steps: Sequence[int]) -> Operand:
    """[N, C, ...] with so many places from one element to the next, zeros in between: a transposed convolution with ones."""
    if all(step == 1 for step in steps):
        return x
    channels = ctx.shape(x)[1]
    ones = np.ones([channels, 1, *[1] * len(steps)], ctx.dtype)
    return ctx.mb.conv_transpose(x=x, weight=ones, strides=list(steps), groups=channels, pad_type="valid")
