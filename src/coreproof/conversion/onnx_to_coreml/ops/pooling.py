"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import in_floats
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads, flat_pads
from coreproof.conversion.windows import Pads, reach_beyond


@lowering("MaxPool", channelwise=True)
def max_pool(
    ctx: Context,
    x: Operand,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Result:
    if len(ctx.node.outputs) > 1 and (ctx.node.outputs[1].uses() or ctx.node.outputs[1].is_graph_output()):
        raise ctx.refuse("the output Indices is used", "values only")
    if any(d != 1 for d in dilations or ()):
        raise ctx.refuse(f"dilations {list(dilations or ())}", "dilations of 1")
    count = len(kernel_shape)
    strides = list(strides or [1] * count)
    padding = _pads(ctx, x, auto_pad, pads, kernel_shape, strides, ceil_mode)
    if all(begin < k and end < k for (begin, end), k in zip(padding, kernel_shape, strict=True)):
        window = {"kernel_sizes": list(kernel_shape), "strides": strides, "pad_type": "custom"}
        return in_floats(ctx, x, lambda v: ctx.mb.max_pool(x=v, **window, pad=flat_pads(padding)))
    raise ctx.refuse(f"padding {padding} is as large as the window {list(kernel_shape)}", "less padding")


@lowering("AveragePool", error="average", word="avgpool", channelwise=True)
def average_pool(
    ctx: Context,
    x: Operand,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """Padding that only ceil_mode adds never counts, given padding counts where ``count_include_pad`` says so."""
    if any(d != 1 for d in dilations or ()):
        raise ctx.refuse(f"dilations {list(dilations or ())}", "dilations of 1")
    count = len(kernel_shape)
    strides = list(strides or [1] * count)
    exact = explicit_pads(ctx, auto_pad, pads, x.shape[2:], kernel_shape, strides)
    padding = _pads(ctx, x, auto_pad, pads, kernel_shape, strides, ceil_mode)
    if count_include_pad and padding != exact and any(flat_pads(exact)):
        # pad by hand what counts, and let the pool leave out what ceil_mode adds
        x = ctx.mb.pad(x=x, pad=[0, 0, 0, 0, *flat_pads(exact)], mode="constant", constant_val=ctx.scalar(0))
        padding = [(0, p[1] - e[1]) for p, e in zip(padding, exact, strict=True)]
        count_include_pad = 0
    # what ceil_mode adds is all the padding there is, and never counts
    elif padding != exact:
        count_include_pad = 0
    return ctx.mb.avg_pool(
        x=x,
        kernel_sizes=list(kernel_shape),
        strides=strides,
        pad_type="custom",
        pad=flat_pads(padding),
        exclude_padding_from_average=not count_include_pad,
    )


def _pads(
    ctx: Context,
    x: Operand,
    auto_pad: str,
    pads: Sequence[int] | None,
    kernel: Sequence[int],
    strides: Sequence[int],
    ceil_mode: int,
) -> Pads:
    """The padding with which rounding down gives as many windows as the model has."""
    padding = explicit_pads(ctx, auto_pad, pads, x.shape[2:], kernel, strides)
    if not ceil_mode:
        return padding
    # a window may not start in the padding at the end, of an axis without padding either: ONNX's definition is PyTorch's
    axes = zip(padding, ctx.shape(x)[2:], kernel, strides, strict=True)
    return [(begin, end + max(reach_beyond(n, k, s, begin, end, inside=True), 0)) for (begin, end), n, k, s in axes]


@lowering("LpPool")
def lp_pool(
    ctx: Context,
    x: Operand,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """(sum of |x|^p over the window)^(1/p), through the average of the window times its size."""
    if ceil_mode:
        raise ctx.refuse("ceil_mode 1", "ceil_mode 0")
    powered = ctx.mb.pow(x=ctx.mb.abs(x=x), y=ctx.scalar(p))
    mean = average_pool(
        ctx,
        powered,
        kernel_shape=kernel_shape,
        auto_pad=auto_pad,
        count_include_pad=1,
        dilations=dilations,
        pads=pads,
        strides=strides,
    )
    # padding counts with its zeros, so that the mean times the size is the sum
    total = ctx.mb.mul(x=mean, y=ctx.scalar(math.prod(kernel_shape)))
    return ctx.mb.pow(x=total, y=ctx.scalar(1 / p))


def _spatial(ctx: Context, x: Operand) -> list[int]:
    return list(range(2, ctx.rank(x)))


@lowering("GlobalAveragePool", error="average", word="mean", channelwise=True)
def global_average_pool(ctx: Context, x: Operand) -> Result:
    return ctx.mb.reduce_mean(x=x, axes=_spatial(ctx, x), keep_dims=True)


@lowering("GlobalMaxPool", error="move", channelwise=True)
def global_max_pool(ctx: Context, x: Operand) -> Result:
    return ctx.mb.reduce_max(x=x, axes=_spatial(ctx, x), keep_dims=True)


@lowering("GlobalLpPool")
def global_lp_pool(ctx: Context, x: Operand, *, p: int = 2) -> Result:
    powered: object = ctx.mb.pow(x=ctx.mb.abs(x=x), y=ctx.scalar(p))
    total = ctx.mb.reduce_sum(x=powered, axes=_spatial(ctx, x), keep_dims=True)
    return ctx.mb.pow(x=total, y=ctx.scalar(1 / np.float64(p)))
