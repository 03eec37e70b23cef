"""Fourier transforms, as products with the matrix of sines and cosines; complex numbers are pairs along the last axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, float_name, is_known
from coreproof.conversion.onnx_to_coreml.ops.indexing import length_of, part
from coreproof.model.budget import afford


@lowering("DFT", since=17, error="linear")
def dft_17(
    ctx: Context, x: Operand, length: Operand | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Result:
    return _dft(ctx, x, length, axis, inverse=bool(inverse), onesided=bool(onesided))


@lowering("DFT", since=20)
def dft_20(
    ctx: Context,
    x: Operand,
    length: Operand | None = None,
    axis: Operand | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Result:
    along = -2 if axis is None else int(ctx.constant(axis, "axis").item())
    return _dft(ctx, x, length, along, inverse=bool(inverse), onesided=bool(onesided))


def _dft(ctx: Context, x: Operand, length: Operand | None, axis: int, *, inverse: bool, onesided: bool) -> Result:
    """Half of a spectrum is asked for (onesided), or given, of which the transform back is real (onesided and inverse)."""
    axis = axis_of(axis, ctx.rank(x))
    back = inverse and onesided
    if not is_known(x.shape[axis]) or (length is not None and not _is_constant(length)):
        return _dft_free(ctx, x, length, axis, inverse=inverse, onesided=onesided)
    given = int(x.shape[axis])
    size = 2 * (given - 1) if back else given
    if length is not None:
        size = int(ctx.constant(length, "dft_length").item())
    taken = min(given, size // 2 + 1 if back else size)
    cosines, sines = _waves(taken, size if back or not onesided else size // 2 + 1, size)
    if inverse:
        sines = -sines
        weights = np.full((taken, 1), 1.0 / size)
        if back:  # all but the first and, of an even length, the last stand for their mirror images too
            weights[1 : (size + 1) // 2] *= 2
        cosines, sines = cosines * weights, sines * weights
    waves = tuple(np.ascontiguousarray(wave.astype(ctx.dtype)) for wave in (cosines, sines))
    return _transformed(ctx, part(ctx, x, axis, 0, taken) if taken < given else x, axis, waves, is_real=back)


def _is_constant(operand: Operand) -> bool:
    return isinstance(operand, np.ndarray) or operand.val is not None


def _dft_free(ctx: Context, x: Operand, length: Operand | None, axis: int, *, inverse: bool, onesided: bool) -> Result:
    """Of an axis of free length, or to one, whose waves are computed while the model runs; products are reduced where exact."""
    mb, back = ctx.mb, inverse and onesided
    given = length_of(ctx, x, axis)
    size: Operand
    if length is not None:
        size = mb.reshape(x=mb.cast(x=length, dtype="int32"), shape=[1])
    else:
        size = mb.mul(x=mb.sub(x=given, y=np.int32(1)), y=np.int32(2)) if back else given
    half = mb.add(x=mb.floor_div(x=size, y=np.int32(2)), y=np.int32(1))
    samples, frequencies = _counted(ctx, given), _counted(ctx, half if onesided and not back else size)
    products = mb.mul(x=mb.expand_dims(x=samples, axes=[1]), y=mb.expand_dims(x=frequencies, axes=[0]))
    turns = mb.real_div(x=mb.cast(x=mb.mod(x=products, y=size), dtype="fp32"), y=mb.cast(x=size, dtype="fp32"))
    angles = mb.mul(x=turns, y=np.float32(2 * np.pi))
    cosines, sines = mb.cos(x=angles), mb.sin(x=angles)
    if inverse:
        sines = mb.mul(x=sines, y=np.float32(-1))
    if inverse or length is not None:
        shares = _shares(ctx, samples, size, half if back else size, inverse=inverse, back=back)
        shares = mb.expand_dims(x=shares, axes=[1])
        cosines, sines = mb.mul(x=cosines, y=shares), mb.mul(x=sines, y=shares)
    narrow = tuple(mb.cast(x=wave, dtype=float_name(ctx)) for wave in (cosines, sines))
    return _transformed(ctx, x, axis, narrow, is_real=back)


def _counted(ctx: Context, count: Operand) -> Operand:
    """0, 1, 2 ... below a count of shape [1]."""
    return ctx.mb.range_1d(start=np.int32(0), end=ctx.mb.squeeze(x=count, axes=[0]), step=np.int32(1))


def _shares(ctx: Context, samples: Operand, size: Operand, taken: Operand, *, inverse: bool, back: bool) -> Operand:
    """What each sample counts: nothing from ``taken`` on, a share of the whole on the way back, twice for its mirror image."""
    mb = ctx.mb
    shares = mb.cast(x=mb.less(x=samples, y=taken), dtype="fp32")
    if back:  # all but the first and, of an even length, the last stand for their mirror images too
        twice = mb.mod(x=mb.mul(x=samples, y=np.int32(2)), y=size)
        mirrored = mb.cast(x=mb.not_equal(x=twice, y=np.int32(0)), dtype="fp32")
        shares = mb.mul(x=shares, y=mb.add(x=mirrored, y=np.float32(1)))
    return mb.real_div(x=shares, y=mb.cast(x=size, dtype="fp32")) if inverse else shares


def _transformed(ctx: Context, x: Operand, axis: int, waves: Sequence[Operand], *, is_real: bool) -> Result:
    """``x`` times cosines and sines [samples, frequencies] along the axis; ``is_real`` leaves out what is imaginary."""
    mb, rank = ctx.mb, ctx.rank(x)
    cosines, sines = waves
    negative = -sines if isinstance(sines, np.ndarray) else mb.mul(x=sines, y=ctx.scalar(-1))
    # the axis last, the pair first: both are sliced and joined there
    order = [rank - 1, *(i for i in range(rank - 1) if i != axis), axis]
    moved = mb.transpose(x=x, perm=order)
    real = part(ctx, moved, 0, 0, 1)
    imaginary = part(ctx, moved, 0, 1, 2) if x.shape[-1] == 2 else None
    out_real, out_imaginary = mb.matmul(x=real, y=cosines), mb.matmul(x=real, y=negative)
    if imaginary is not None:
        out_real = mb.add(x=out_real, y=mb.matmul(x=imaginary, y=sines))
        out_imaginary = mb.add(x=out_imaginary, y=mb.matmul(x=imaginary, y=cosines))
    both = out_real if is_real else mb.concat(values=[out_real, out_imaginary], axis=0)
    return mb.transpose(x=both, perm=[order.index(i) for i in range(rank)])


def _waves(samples: int, frequencies: int, size: int) -> tuple[Array, Array]:
    """cos and sin of 2 pi n k / size, [samples, frequencies]; the product is reduced first, where it is exact."""
    afford("the matrix of a Fourier transform", (samples, frequencies), 16)
    turns = np.outer(np.arange(samples), np.arange(frequencies)) % size
    angles = 2 * np.pi * turns / size
    return np.cos(angles), np.sin(angles)


@lowering("STFT", since=17, error="linear")
def stft(
    ctx: Context,
    signal: Operand,
    step: Operand,
    window: Operand | None = None,
    length: Operand | None = None,
    *,
    onesided: int = 1,
) -> Result:
    """[B, frames, frequencies, 2]: a convolution with the windowed waves, whose stride is the step from frame to frame."""
    mb = ctx.mb
    shape = None if window is None else ctx.constant(window, "window").reshape(-1)
    if length is not None:
        size = int(ctx.constant(length, "frame_length").item())
    elif shape is not None:
        size = len(shape)
    else:
        raise ctx.refuse("neither a window nor a frame_length", "one of them")
    cosines, sines = _waves(size, size // 2 + 1 if onesided else size, size)
    if shape is not None:
        cosines, sines = cosines * shape[:, None], sines * shape[:, None]
    rank = ctx.rank(signal)
    pairs = rank == 3 and signal.shape[-1] == 2
    kernel = np.stack([cosines.T, -sines.T])[:, :, None]  # [2, frequencies, 1, size]
    if pairs:
        kernel = np.concatenate([kernel, np.stack([sines.T, cosines.T])[:, :, None]], axis=2)
    planes = mb.expand_dims(x=signal, axes=[1]) if rank == 2 else mb.transpose(x=signal, perm=[0, 2, 1])
    frequencies = kernel.shape[1]
    waves = mb.conv(
        x=planes,
        weight=kernel.reshape(2 * frequencies, -1, size).astype(ctx.dtype),
        strides=[int(ctx.constant(step, "frame_step").item())],
        pad_type="valid",
    )
    batch = signal.shape[0]
    parted = mb.reshape(x=waves, shape=[batch, 2, frequencies, -1])
    return mb.transpose(x=parted, perm=[0, 3, 2, 1])
