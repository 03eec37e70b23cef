"""Tables that follow from a few numbers, which may be fed: the grid of an affine transform, and the weights of mel bands."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name
from coreproof.conversion.onnx_to_coreml.ops.indexing import picked_one


@lowering("AffineGrid", since=20, error="linear")
def affine_grid(ctx: Context, theta: Operand, size: Operand, *, align_corners: int = 0) -> Result:
    """[N, (D,) H, W, 2 or 3]: where each place of a picture comes from, by the matrix ``theta`` on (x, y, (z,) 1).

    Places run from -1 to 1, to the edges of the outer elements or, with ``align_corners``, to their centres; an axis of one
    element then lies at 0, as in PyTorch.
    """
    mb = ctx.mb
    count = int(theta.shape[1])
    lengths = [picked_one(ctx, size, 2 + i) for i in range(count)]
    # an axis of the grid for each of the picture's, the last of which is x
    places = [_places(ctx, n, bool(align_corners)) for n in lengths]
    columns: list[Operand] = []
    # x, the picture's last axis, is the first coordinate
    for which in range(count - 1, -1, -1):
        column: Operand | None = None
        for axis, own in enumerate(places):
            # times zero: MIL broadcasts within arithmetic alone, and this gives the other axes their lengths
            spread = own if axis == which else mb.mul(x=own, y=ctx.scalar(0))
            placed = mb.reshape(x=spread, shape=[-1 if i == axis else 1 for i in range(count)])
            column = placed if column is None else mb.add(x=column, y=placed)
        columns.append(mb.reshape(x=column, shape=[-1]))
    ones = mb.add(x=mb.mul(x=columns[0], y=ctx.scalar(0)), y=ctx.scalar(1))
    points = mb.expand_dims(x=mb.stack(values=[*columns, ones], axis=1), axes=[0])
    grid = mb.matmul(x=points, y=theta, transpose_y=True)
    known = [n for n in lengths if isinstance(n, np.ndarray)]
    if len(known) == count:
        return mb.reshape(x=grid, shape=np.array([-1, *np.concatenate(known), count], np.int32))
    ends = np.array([-1], np.int32), np.array([count], np.int32)
    return mb.reshape(x=grid, shape=mb.concat(values=[ends[0], *lengths, ends[1]], axis=0))


def _places(ctx: Context, length: Operand, aligned: bool) -> Operand:
    mb = ctx.mb
    if isinstance(length, np.ndarray):
        n = int(length.item())
        steps = np.arange(n) * 2.0
        spread = steps / max(n - 1, 1) - (1.0 if n > 1 else 0.0) if aligned else (steps + 1) / n - 1
        return ctx.floats(spread)
    count = mb.squeeze(x=length, axes=[0])
    twice = mb.mul(x=mb.range_1d(start=np.int32(0), end=count, step=np.int32(1)), y=np.int32(2))
    if not aligned:
        share = mb.real_div(x=_wide(ctx, mb.add(x=twice, y=np.int32(1))), y=_wide(ctx, length))
        return mb.cast(x=mb.sub(x=share, y=np.float32(1)), dtype=float_name(ctx))
    last = mb.sub(x=length, y=np.int32(1))
    share = mb.real_div(x=_wide(ctx, twice), y=_wide(ctx, mb.maximum(x=last, y=np.int32(1))))
    return mb.cast(x=mb.sub(x=share, y=_wide(ctx, mb.minimum(x=last, y=np.int32(1)))), dtype=float_name(ctx))


def _wide(ctx: Context, x: Operand) -> Operand:
    """In float32, in whatever the program computes: float16 counts to 2048 only."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else ctx.mb.cast(x=x, dtype="fp32")


@lowering("MelWeightMatrix", since=17)
def mel_weight_matrix(
    ctx: Context, bands: Operand, dft_length: Operand, sample_rate: Operand, lowest: Operand, highest: Operand
) -> Result:
    """[dft_length / 2 + 1, bands]: triangles, each from the centre of the band before to that of the band behind, in mels."""
    mb = ctx.mb

    def single(v: Operand) -> Operand:
        return v.reshape(1) if isinstance(v, np.ndarray) else mb.reshape(x=v, shape=[1])

    def counted(end: Operand) -> Operand:
        number = mb.squeeze(x=end, axes=[0])
        return mb.range_1d(start=np.int32(0), end=number, step=np.int32(1))

    count, length, rate = (single(cast(ctx, v, "int32")) for v in (bands, dft_length, sample_rate))
    low, high = (_mels(ctx, _wide(ctx, single(v))) for v in (lowest, highest))
    # a band reaches from the centre before to the one behind: two more than there are bands
    edges = mb.add(x=count, y=np.int32(2))
    step = mb.real_div(x=mb.sub(x=high, y=low), y=_wide(ctx, edges))
    mels = mb.add(x=mb.mul(x=_wide(ctx, counted(edges)), y=step), y=low)
    power = mb.exp(x=mb.mul(x=mels, y=np.float32(np.log(10) / 2595)))
    hertz = mb.mul(x=mb.sub(x=power, y=np.float32(1)), y=np.float32(700))
    scaled = mb.mul(x=hertz, y=_wide(ctx, mb.add(x=length, y=np.int32(1))))
    places = mb.floor(x=mb.real_div(x=scaled, y=_wide(ctx, rate)))

    def edge(at: int) -> Operand:
        """[1, bands]: of each band where it begins, is highest, and ends."""
        own = mb.slice_by_index(x=places, begin=[at], end=[at - 2], end_mask=[at == 2])
        return mb.expand_dims(x=own, axes=[0])

    begin, centre, end = edge(0), edge(1), edge(2)
    bins = mb.add(x=mb.floor_div(x=length, y=np.int32(2)), y=np.int32(1))
    number = mb.expand_dims(x=_wide(ctx, counted(bins)), axes=[1])
    rises, falls = mb.sub(x=centre, y=begin), mb.sub(x=end, y=centre)
    one = np.float32(1)
    up = mb.real_div(x=mb.sub(x=number, y=begin), y=mb.maximum(x=rises, y=one))
    # a band that begins at its centre has its full weight there (ONNX, MelWeightMatrix)
    up = mb.select(cond=mb.equal(x=rises, y=np.float32(0)), a=one, b=up)
    down = mb.real_div(x=mb.sub(x=end, y=number), y=mb.maximum(x=falls, y=one))
    rising = mb.logical_and(x=mb.greater_equal(x=number, y=begin), y=mb.less_equal(x=number, y=centre))
    falling = mb.logical_and(x=mb.greater_equal(x=number, y=centre), y=mb.less(x=number, y=end))
    weights = mb.select(cond=falling, a=down, b=mb.select(cond=rising, a=up, b=np.float32(0)))
    return mb.cast(x=weights, dtype=float_name(ctx))


def _mels(ctx: Context, hertz: Operand) -> Operand:
    """2595 * log10(1 + hertz / 700)"""
    inside = ctx.mb.add(x=ctx.mb.mul(x=hertz, y=np.float32(1 / 700)), y=np.float32(1))
    return ctx.mb.mul(x=ctx.mb.log(x=inside), y=np.float32(2595 / np.log(10)))
