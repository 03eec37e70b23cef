"""Sampling at places that the model computes: GridSample, DeformConv and RoiAlign."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import float_name
from coreproof.conversion.onnx_to_coreml.ops.indexing import part
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads

_CUBIC = -0.75
"""The coefficient of the cubic convolution, which the standard takes from PyTorch."""


@lowering("GridSample", since=16, interpolates=True)
def grid_sample(
    ctx: Context,
    x: Operand,
    grid: Operand,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Result:
    """Core ML's resample for pictures; volumes and cubic sampling by gathering each neighbour.

    A border that reflects does so at the centres of the outer elements where corners are aligned, else at their edges.
    """
    how = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    if ctx.rank(x) == 4 and how != "cubic" and not ctx.is_network:
        reflected = "reflection" if align_corners else "symmetric"
        # resample takes float16 coordinates from iOS 16 on
        coordinates = ctx.mb.cast(x=grid, dtype="fp32") if ctx.target < 16 and ctx.dtype == np.float16 else grid
        return ctx.mb.resample(
            x=x,
            coordinates=coordinates,
            sampling_mode="bilinear" if how == "linear" else "nearest",
            padding_mode={"zeros": "constant", "border": "border", "reflection": reflected}[padding_mode],
            padding_value=ctx.scalar(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=bool(align_corners),
        )
    lengths = ctx.shape(x)[2:]
    # float16 tells no place from the next beyond 2048, and halves none beyond 1024
    wide = ctx.mb.cast(x=grid, dtype="fp32")
    count = len(lengths)
    places = []
    for axis, length in enumerate(lengths):
        own = ctx.mb.squeeze(
            x=part(ctx, wide, -1, count - 1 - axis, count - axis), axes=[-1]
        )  # the last axis comes first
        # -1 and 1 are the centres of the outer elements, or their outer edges: (g + 1) (n - 1) / 2, or ((g + 1) n - 1) / 2
        span, shift = (length - 1, (length - 1) / 2) if align_corners else (length, (length - 1) / 2)
        places.append(ctx.mb.add(x=ctx.mb.mul(x=own, y=np.float32(span / 2)), y=np.float32(shift)))
    return _sampled(ctx, x, places, how, padding_mode, bool(align_corners))


def _sampled(ctx: Context, x: Operand, places: Sequence[Operand], how: str, border: str, aligned: bool) -> Result:
    """[N, C, ...] at float32 places [N, P...] of each axis, in elements: [N, C, P...]."""
    mb = ctx.mb
    batch, channels, *lengths = ctx.shape(x)
    shape = ctx.shape(places[0])
    flat: list[Operand] = [mb.reshape(x=p, shape=[batch, -1]) for p in places]
    # a cubic share hangs on the place itself: there each of the four neighbours is brought back by itself
    if how != "cubic":
        flat = [_within(ctx, p, n, border, aligned) for p, n in zip(flat, lengths, strict=True)]
    neighbours = [_neighbours(ctx, p, how) for p in flat]
    source = mb.reshape(x=x, shape=[batch, channels, -1])
    total: Operand | None = None
    for corner in itertools.product(*neighbours):
        index: Operand | None = None
        weight: Operand | None = None
        for (place, share), length, stride in zip(corner, lengths, _strides(lengths), strict=True):
            at: Operand = place
            if border == "zeros":
                inside = mb.logical_and(
                    x=mb.greater_equal(x=at, y=np.float32(0)), y=mb.less_equal(x=at, y=np.float32(length - 1))
                )
                there = mb.cast(x=inside, dtype="fp32")
                share = there if share is None else mb.mul(x=share, y=there)
            elif how == "cubic":
                at = _within(ctx, at, length, border, aligned)
            # what lies outside has no share, and an index all the same, which must be one that exists
            number = mb.cast(x=mb.clip(x=at, alpha=np.float32(0), beta=np.float32(length - 1)), dtype="int32")
            step = number if stride == 1 else mb.mul(x=number, y=np.int32(stride))
            index = step if index is None else mb.add(x=index, y=step)
            if share is not None:
                weight = share if weight is None else mb.mul(x=weight, y=share)
        assert index is not None
        each = mb.tile(x=mb.expand_dims(x=index, axes=[1]), reps=[1, channels, 1])
        value = mb.gather_along_axis(x=source, indices=each, axis=2)
        if weight is not None:
            value = mb.mul(x=value, y=mb.cast(x=mb.expand_dims(x=weight, axes=[1]), dtype=float_name(ctx)))
        total = value if total is None else mb.add(x=total, y=value)
    assert total is not None
    return mb.reshape(x=total, shape=[batch, channels, *shape[1:]])


def _strides(lengths: Sequence[int]) -> list[int]:
    return [math.prod(lengths[i + 1 :]) for i in range(len(lengths))]


def _within(ctx: Context, at: Operand, length: int, border: str, aligned: bool) -> Operand:
    """Places beyond the border brought back: held at it, or reflected, as often as it takes."""
    mb = ctx.mb
    if border == "zeros":
        return at
    if border == "reflection":
        # about the centres of the outer elements, or about their outer edges
        low, high = (0.0, length - 1.0) if aligned else (-0.5, length - 0.5)
        span = high - low
        if span:
            away = mb.abs(x=mb.sub(x=at, y=np.float32(low)))
            # there and back is a period; on the way back the place is as far from the end as it went beyond
            turn = mb.mod(x=away, y=np.float32(2 * span))
            at = mb.add(x=mb.minimum(x=turn, y=mb.sub(x=np.float32(2 * span), y=turn)), y=np.float32(low))
    return mb.clip(x=at, alpha=np.float32(0), beta=np.float32(length - 1))


def _neighbours(ctx: Context, at: Operand, how: str) -> list[tuple[Operand, Operand | None]]:
    """The elements around each place along one axis, and what share each has; None: all."""
    mb = ctx.mb
    if how == "nearest":
        # halves to even, as in PyTorch, whose operator the standard took over
        return [(mb.round(x=at), None)]
    first = mb.floor(x=at)
    away = mb.sub(x=at, y=first)
    if how == "linear":
        return [(first, mb.sub(x=np.float32(1), y=away)), (mb.add(x=first, y=np.float32(1)), away)]

    def polynomial(t: Operand, coefficients: Sequence[float]) -> Operand:
        value: Operand = np.float32(coefficients[0])  # type: ignore[assignment]
        for coefficient in coefficients[1:]:
            value = mb.add(x=mb.mul(x=value, y=t), y=np.float32(coefficient))
        return value

    # Keys (1981): (a + 2) t^3 - (a + 3) t^2 + 1 up to 1, and a t^3 - 5 a t^2 + 8 a t - 4 a up to 2; highest power first
    near = (_CUBIC + 2, -(_CUBIC + 3), 0.0, 1.0)
    far = (_CUBIC, -5 * _CUBIC, 8 * _CUBIC, -4 * _CUBIC)
    rest = mb.sub(x=np.float32(1), y=away)
    shares = (
        polynomial(mb.add(x=away, y=np.float32(1)), far),
        polynomial(away, near),
        polynomial(rest, near),
        polynomial(mb.add(x=rest, y=np.float32(1)), far),
    )
    return [(mb.add(x=first, y=np.float32(k - 1)), share) for k, share in enumerate(shares)]


@lowering("DeformConv", error="linear")
def deform_conv(
    ctx: Context,
    x: Operand,
    weights: Operand,
    offset: Operand,
    bias: Operand | None = None,
    mask: Operand | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """Each tap of the kernel samples its own computed place; then a matrix product (Dai et al., 2017, and with a mask 2018)."""
    mb = ctx.mb
    batch, channels, *lengths = ctx.shape(x)
    kernel = list(kernel_shape or ctx.shape(weights)[2:])
    if len(kernel) != 2:
        raise ctx.refuse(f"{len(kernel)} spatial dimensions", "two")
    strides, dilations = list(strides or [1, 1]), list(dilations or [1, 1])
    # DeformConv has no auto_pad
    padding = explicit_pads(ctx, "NOTSET", pads, lengths, kernel, strides)
    out = list(ctx.shape(offset)[2:])
    taps, points = math.prod(kernel), math.prod(out)
    # where each tap lies without its offset: [1, 1, taps, rows, columns]
    reach = np.meshgrid(*(np.arange(k) * d for k, d in zip(kernel, dilations, strict=True)), indexing="ij")
    starts = np.meshgrid(
        *(np.arange(n) * s - p[0] for n, s, p in zip(out, strides, padding, strict=True)), indexing="ij"
    )
    base = [
        (r.reshape(taps, 1) + s.reshape(1, points)).reshape(1, 1, taps, points).astype(np.float32)
        for r, s in zip(reach, starts, strict=True)
    ]
    # the offsets of a tap stand as (rows, columns) behind each other, tap by tap (ONNX, DeformConv)
    moved = mb.cast(x=mb.reshape(x=offset, shape=[batch, offset_group, taps, 2, points]), dtype="fp32")
    groups = []
    for number, image in enumerate(_split(ctx, x, offset_group)):
        own = part(ctx, moved, 1, number, number + 1)
        places = [
            mb.reshape(
                x=mb.add(x=mb.squeeze(x=part(ctx, own, 3, axis, axis + 1), axes=[3]), y=base[axis]),
                shape=[batch, taps, points],
            )
            for axis in range(2)
        ]
        sampled = _sampled(ctx, image, places, "linear", "zeros", True)  # [N, C / offset groups, taps, points]
        if mask is not None:
            held = mb.reshape(x=mask, shape=[batch, offset_group, taps, points])
            sampled = mb.mul(x=sampled, y=part(ctx, held, 1, number, number + 1))
        groups.append(sampled)
    columns = groups[0] if offset_group == 1 else mb.concat(values=groups, axis=1)
    rows = ctx.shape(weights)[0]
    gathered = mb.reshape(x=columns, shape=[batch, group, channels // group * taps, points])
    matrix = mb.reshape(x=weights, shape=[1, group, rows // group, channels // group * taps])
    result = mb.reshape(x=mb.matmul(x=matrix, y=gathered), shape=[batch, rows, *out])
    if bias is None:
        return result
    return mb.add(x=result, y=mb.reshape(x=bias, shape=[1, rows, 1, 1]))


def _split(ctx: Context, x: Operand, count: int) -> list[Operand]:
    return [x] if count == 1 else [*several(ctx.mb.split(x=x, num_splits=count, axis=1))]


@lowering("RoiAlign", since=10, error="average", interpolates=True)
def roi_align(
    ctx: Context,
    x: Operand,
    rois: Operand,
    batch_indices: Operand,
    *,
    coordinate_transformation_mode: str | None = None,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Result:
    """[R, C, h, w]: each region's samples by their shares of the rows and of the columns, two matrix products a region.

    Before opset 16 the regions' corners are not moved by half an element. The largest sample is, as in ONNX Runtime, of which
    the standard's tests are, the largest of its four neighbours' parts, not of their sums.
    """
    if sampling_ratio <= 0 and mode != "avg":
        raise ctx.refuse(
            "sampling_ratio 0: as many samples as the region is large, which is known while the model runs",
            "a fixed sampling_ratio where the largest sample is asked for",
            "export with sampling_ratio=2, say",
        )
    # the attribute came with opset 16, and its default is not what was before
    how = coordinate_transformation_mode or ("half_pixel" if ctx.opset >= 16 else "output_half_pixel")
    shift = 0.5 if how == "half_pixel" else 0.0
    mb = ctx.mb
    corners = mb.mul(x=mb.cast(x=rois, dtype="fp32"), y=np.float32(spatial_scale))
    lengths = ctx.shape(x)[2:]
    reduce_first = mode == "avg"
    shares = []
    for axis, (length, count) in enumerate(zip(lengths, (output_height, output_width), strict=True)):
        low, high = (
            # a region is [x1, y1, x2, y2], and the rows come first here
            mb.sub(x=part(ctx, corners, 1, place, place + 1), y=np.float32(shift))
            for place in (1 - axis, 3 - axis)
        )
        span = mb.sub(x=high, y=low)
        if not shift:
            span = mb.maximum(x=span, y=np.float32(1))  # without the half element a region has at least one
        if sampling_ratio <= 0:
            shares.append(_adaptive_shares(ctx, low, span, length, count))
            continue
        samples = count * sampling_ratio
        # samples stand in the middle of equal parts of a bin
        steps = ((np.arange(samples) + 0.5) / samples).astype(np.float32)[None, :]
        places = mb.add(x=low, y=mb.mul(x=span, y=steps))
        shares.append(_shares(ctx, places, length, count if reduce_first else None))
    images = mb.gather(x=x, indices=batch_indices, axis=0)
    parts = [
        mb.matmul(x=mb.matmul(x=rows, y=images), y=columns, transpose_y=True)
        for rows, columns in itertools.product(*shares)
    ]
    if reduce_first:
        return parts[0]
    result: Operand = parts[0]
    for other in parts[1:]:
        result = mb.maximum(x=result, y=other)
    regions, channels = ctx.shape(rois)[0], ctx.shape(x)[1]
    flat = mb.reshape(
        x=result, shape=[regions * channels, 1, output_height * sampling_ratio, output_width * sampling_ratio]
    )
    size = [sampling_ratio, sampling_ratio]
    pooled = mb.max_pool(x=flat, kernel_sizes=size, strides=size, pad_type="valid")
    return mb.reshape(x=pooled, shape=[regions, channels, output_height, output_width])


def _adaptive_shares(ctx: Context, low: Operand, span: Operand, length: int, count: int) -> list[Operand]:
    """The same for as many samples as a bin of the region has elements, up to those of a region twice as long as the picture."""
    mb = ctx.mb
    most = -(-2 * length // count)
    size = mb.minimum(x=mb.ceil(x=mb.mul(x=span, y=np.float32(1 / count))), y=np.float32(most))
    size = mb.maximum(x=size, y=np.float32(0))
    divisor = mb.maximum(x=size, y=np.float32(1))
    bins, numbers = (np.ascontiguousarray(v.reshape(1, -1)) for v in np.indices((count, most)).astype(np.float32))
    steps = mb.add(x=mb.real_div(x=numbers + np.float32(0.5), y=divisor), y=bins)
    places = mb.add(x=low, y=mb.mul(x=span, y=mb.mul(x=steps, y=np.float32(1 / count))))
    # the mean over all that there is room for becomes that over those that are taken
    taken = mb.cast(x=mb.less(x=numbers, y=size), dtype="fp32")
    weights = mb.real_div(x=mb.mul(x=taken, y=np.float32(most)), y=divisor)
    ctx.notes.append(
        f"{ctx.node.outputs[0].name!r} samples regions of up to twice the picture's size as densely as the source does"
    )
    return _shares(ctx, places, length, count, weights)


def _shares(
    ctx: Context, places: Operand, length: int, count: int | None, weights: Operand | None = None
) -> list[Operand]:
    """[R, 1, samples, length]: what each sample takes of each element, times its own ``weights`` [R, samples].

    Averaged to [R, 1, count, length] where ``count`` is said, else of the element before it and of the one behind it apart.
    """
    mb = ctx.mb
    inside = mb.logical_and(
        # ONNX Runtime and the reference implementation let places count up to one element outside, and nothing beyond
        x=mb.greater_equal(x=places, y=np.float32(-1)),
        y=mb.less_equal(x=places, y=np.float32(length)),
    )
    held = mb.expand_dims(x=mb.clip(x=places, alpha=np.float32(0), beta=np.float32(length - 1)), axes=[2])
    ahead = mb.sub(x=np.arange(length, dtype=np.float32), y=held)
    # linear interpolation as a weight of every element: 1 - distance, for the two nearest alone
    hat = mb.maximum(x=mb.sub(x=np.float32(1), y=mb.abs(x=ahead)), y=np.float32(0))
    share = mb.mul(x=hat, y=mb.expand_dims(x=mb.cast(x=inside, dtype="fp32"), axes=[2]))
    if weights is not None:
        share = mb.mul(x=share, y=mb.expand_dims(x=weights, axes=[2]))
    if count is not None:
        regions, samples, _ = ctx.shape(share)
        grouped = mb.reshape(x=share, shape=[regions, count, samples // count, length])
        shares: list[Operand] = [mb.reduce_mean(x=grouped, axes=[2])]
    else:
        behind = mb.cast(x=mb.greater(x=ahead, y=np.float32(0)), dtype="fp32")
        shares = [mb.mul(x=share, y=mb.sub(x=np.float32(1), y=behind)), mb.mul(x=share, y=behind)]
    return [mb.expand_dims(x=mb.cast(x=s, dtype=float_name(ctx)), axes=[1]) for s in shares]
