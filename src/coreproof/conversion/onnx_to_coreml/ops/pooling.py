"""Pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import in_floats
from coreproof.conversion.onnx_to_coreml.ops.sliding_pools import Sliding, largest_of_windows
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads, flat_pads
from coreproof.conversion.windows import Pads, reach_beyond, reaches
from coreproof.model.budget import afford


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
) -> Result | list[Operand]:
    count = len(kernel_shape)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    padding = _pads(ctx, x, auto_pad, pads, kernel_shape, strides, dilations, ceil_mode)
    wants_places = len(ctx.node.outputs) > 1 and (ctx.node.outputs[1].uses() or ctx.node.outputs[1].is_graph_output())
    # MIL's pools have no dilations, and do not say where they found the largest
    if wants_places or any(d != 1 for d in dilations):
        if not all(isinstance(n, int | np.integer) for n in x.shape[2:]) and not storage_order:
            sliding = Sliding(kernel_shape, strides, dilations, padding)
            found = largest_of_windows(ctx, x, sliding, wants_places=bool(wants_places))
            return found if wants_places else found[0]
        windows = _windows(ctx, x, kernel_shape, strides, dilations, padding)
        largest = _largest(ctx, x, windows)
        return [largest, _places(ctx, x, windows, storage_order)] if wants_places else largest
    # a window that lies in the padding alone has no largest element
    if all(begin < k and end < k for (begin, end), k in zip(padding, kernel_shape, strict=True)):
        window = {"kernel_sizes": list(kernel_shape), "strides": strides, "pad_type": "custom"}
        # MIL pools floats; ONNX's MaxPool takes bytes too since version 12
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
    count = len(kernel_shape)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    exact = explicit_pads(ctx, auto_pad, pads, x.shape[2:], reaches(kernel_shape, dilations), strides)
    padding = _pads(ctx, x, auto_pad, pads, kernel_shape, strides, dilations, ceil_mode)
    if any(d != 1 for d in dilations):
        windows = _windows(ctx, x, kernel_shape, strides, dilations, padding, exact)
        return _average(ctx, x, windows, include_padding=bool(count_include_pad))
    if count_include_pad and padding != exact and any(flat_pads(exact)):
        # pad by hand what counts, and let the pool leave out what ceil_mode adds
        x = ctx.mb.pad(x=x, pad=[0, 0, 0, 0, *flat_pads(exact)], mode="constant", constant_val=ctx.scalar(0))
        padding = [(0, p[1] - e[1]) for p, e in zip(padding, exact, strict=True)]
        count_include_pad = 0
    # what ceil_mode adds is all the padding there is, and never counts
    elif padding != exact:
        count_include_pad = 0
    # ONNX says whether padding counts, MIL whether it is left out
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
    dilations: Sequence[int],
    ceil_mode: int,
) -> Pads:
    """The padding with which rounding down gives as many windows as the model has."""
    reach = reaches(kernel, dilations)
    padding = explicit_pads(ctx, auto_pad, pads, x.shape[2:], reach, strides)
    if not ceil_mode:
        return padding
    # a window may not start in the padding at the end, of an axis without padding either: ONNX's definition is PyTorch's
    axes = zip(padding, x.shape[2:], reach, strides, strict=True)
    return [(begin, end + _rounded_up(ctx, x, n, k, s, begin, end)) for (begin, end), n, k, s in axes]


def _rounded_up(ctx: Context, x: Operand, length: object, reach: int, stride: int, begin: int, end: int) -> int:
    """How much more padding at the end of an axis gives as many windows, rounded down, as rounding up does without it."""
    if isinstance(length, int | np.integer):
        return max(reach_beyond(int(length), reach, stride, begin, end, inside=True), 0)
    # a step less one further on, rounding down is what rounding up is; where no last window can begin in the padding
    if stride > reach - end:
        ctx.shape(x)
    return stride - 1


@dataclass(frozen=True)
class _Windows:
    """Where each window looks: [windows, elements] numbers of the elements of a plane, -1 where it looks at padding."""

    elements: Array
    sizes: Array
    """How many elements each window has that lie in the plane or in the padding that was asked for."""
    shape: tuple[int, ...]
    """Of the result's plane."""


def _windows(
    ctx: Context,
    x: Operand,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: Sequence[tuple[int, int]],
    asked: Sequence[tuple[int, int]] | None = None,
) -> _Windows:
    """``padding``: with what rounding up adds; ``asked``: without it."""
    lengths = _plane(ctx, x)
    axes = []
    sizes = np.ones(1, np.int64)
    for axis, (length, k, s, d, (begin, end)) in enumerate(
        zip(lengths, kernel, strides, dilations, padding, strict=True)
    ):
        # ONNX, MaxPool: as many windows as fit whole, each as wide as its dilated kernel
        count = (length + begin + end - (k - 1) * d - 1) // s + 1
        places = (np.arange(count) * s - begin)[:, None] + (np.arange(k) * d)[None, :]
        # what rounding up adds lies beyond the padding that was asked for: it counts for no size
        covered = places < length + (end if asked is None else asked[axis][1])
        sizes = (sizes[:, None] * covered.sum(axis=1)[None, :]).reshape(-1)
        axes.append(places)
    shape = tuple(len(a) for a in axes)
    afford("the windows of a pooling", (math.prod(shape), math.prod(kernel)), 8)
    numbers, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), np.bool_)
    for places, length in zip(axes, lengths, strict=True):
        here = (places >= 0) & (places < length)
        own = np.clip(places, 0, length - 1)
        # windows along the rows of the result, their elements along its columns, both in the order of the axes
        numbers = (numbers[:, None, :, None] * length + own[None, :, None, :]).reshape(len(numbers) * len(own), -1)
        inside = (inside[:, None, :, None] & here[None, :, None, :]).reshape(numbers.shape)
    return _Windows(np.where(inside, numbers, -1), sizes, shape)


def _plane(ctx: Context, x: Operand) -> list[int]:
    """The lengths that windows go along, all of them known."""
    lengths = [int(n) for n in x.shape[2:] if isinstance(n, int | np.integer)]
    return lengths if len(lengths) == ctx.rank(x) - 2 else list(ctx.shape(x)[2:])


def _batch_and_channels(ctx: Context, x: Operand) -> tuple[int, int]:
    """As MIL's reshape takes them: -1 for a free batch."""
    if isinstance(x.shape[0], int | np.integer) or not isinstance(x.shape[1], int | np.integer):
        return ctx.shape(x)[0], ctx.shape(x)[1]
    return -1, int(x.shape[1])


def _looked_at(ctx: Context, x: Operand, windows: _Windows, beyond: float) -> Operand:
    """[N, C, windows, elements], with ``beyond`` in the padding."""
    batch, channels = _batch_and_channels(ctx, x)
    count, each = windows.elements.shape
    plane = ctx.mb.reshape(x=x, shape=[batch, channels, math.prod(_plane(ctx, x))])
    places = np.clip(windows.elements, 0, None).astype(np.int32).reshape(-1)
    seen = ctx.mb.reshape(x=ctx.mb.gather(x=plane, indices=places, axis=2), shape=[batch, channels, count, each])
    if (windows.elements >= 0).all():
        return seen
    # selected, not multiplied by a mask: the padding reads the first element, and infinity times zero is no number
    inside = windows.elements.reshape(1, 1, count, each) >= 0
    return ctx.mb.select(cond=inside, a=seen, b=np.full(inside.shape, beyond, ctx.dtype))


def _largest(ctx: Context, x: Operand, windows: _Windows) -> Operand:
    def largest(v: Operand) -> Operand:
        seen = _looked_at(ctx, v, windows, float(np.finfo(ctx.dtype).min))
        return ctx.mb.reshape(
            x=ctx.mb.reduce_max(x=seen, axes=[3]), shape=[*_batch_and_channels(ctx, x), *windows.shape]
        )

    return in_floats(ctx, x, largest)


def _places(ctx: Context, x: Operand, windows: _Windows, storage_order: int) -> Operand:
    """Where in the whole of ``x`` each window's largest element stands; the planes' elements by rows, or by columns."""
    mb = ctx.mb
    batch, channels, *lengths = ctx.shape(x)
    numbers = windows.elements
    if storage_order:  # the last axis counts first
        numbers = np.ravel_multi_index(np.unravel_index(np.clip(numbers, 0, None), lengths), lengths, order="F")
    floats = x if ctx.is_float(x) else mb.cast(x=x, dtype="fp32")
    first = mb.reduce_argmax(x=_looked_at(ctx, floats, windows, float(np.finfo(ctx.dtype).min)), axis=3, keep_dims=True)
    each = numbers.shape[1]
    hit = mb.cast(x=mb.equal(x=np.arange(each, dtype=np.int32), y=first), dtype="int32")
    own = mb.reduce_sum(x=mb.mul(x=hit, y=np.clip(numbers, 0, None).astype(np.int32)), axes=[3], keep_dims=False)
    # the standard counts through the whole tensor, plane after plane
    planes = np.arange(batch * channels, dtype=np.int32).reshape(batch, channels, 1) * math.prod(lengths)
    return mb.reshape(x=mb.add(x=own, y=planes.astype(np.int32)), shape=[batch, channels, *windows.shape])


def _average(ctx: Context, x: Operand, windows: _Windows, *, include_padding: bool) -> Operand:
    """Of what lies inside, or of the padding that was asked for too."""
    inside = windows.elements >= 0
    sizes = windows.sizes if include_padding else inside.sum(axis=1)
    share = (inside / np.maximum(sizes, 1)[:, None]).astype(ctx.dtype)
    seen = _looked_at(ctx, x, windows, 0.0)
    mean = ctx.mb.reduce_sum(x=ctx.mb.mul(x=seen, y=share), axes=[3])
    return ctx.mb.reshape(x=mean, shape=[*_batch_and_channels(ctx, x), *windows.shape])


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
    if ceil_mode:  # what a window has beyond the end counts nothing
        count = len(kernel_shape)
        steps, apart = list(strides or [1] * count), list(dilations or [1] * count)
        padding = _pads(ctx, x, auto_pad, pads, kernel_shape, steps, apart, ceil_mode)
        auto_pad, pads = "NOTSET", [*(begin for begin, _ in padding), *(end for _, end in padding)]
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
def global_average_pool(ctx: Context, x: Operand, *, keepdims: int = 1) -> Result:
    """``keepdims=0``, which no file says: the Flatten behind it is part of it (``fuse``)."""
    return ctx.mb.reduce_mean(x=x, axes=_spatial(ctx, x), keep_dims=bool(keepdims))


@lowering("GlobalMaxPool", error="move", channelwise=True)
def global_max_pool(ctx: Context, x: Operand) -> Result:
    return ctx.mb.reduce_max(x=x, axes=_spatial(ctx, x), keep_dims=True)


@lowering("GlobalLpPool")
def global_lp_pool(ctx: Context, x: Operand, *, p: int = 2) -> Result:
    powered: object = ctx.mb.pow(x=ctx.mb.abs(x=x), y=ctx.scalar(p))
    total = ctx.mb.reduce_sum(x=powered, axes=_spatial(ctx, x), keep_dims=True)
    return ctx.mb.pow(x=total, y=ctx.scalar(1 / np.float64(p)))
