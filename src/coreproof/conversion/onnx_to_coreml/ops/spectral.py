"""Fourier transforms, as products with the matrix of sines and cosines; complex numbers are pairs along the last axis."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of
from coreproof.conversion.onnx_to_coreml.ops.indexing import part
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
    mb, rank = ctx.mb, ctx.rank(x)
    axis = axis_of(axis, rank)
    given = ctx.shape(x)[axis]
    back = inverse and onesided
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
    # the axis last, the pair first: both are sliced and joined there
    order = [rank - 1, *(i for i in range(rank - 1) if i != axis), axis]
    moved = mb.transpose(x=part(ctx, x, axis, 0, taken) if taken < given else x, perm=order)
    real = part(ctx, moved, 0, 0, 1)
    imaginary = part(ctx, moved, 0, 1, 2) if ctx.shape(x)[-1] == 2 else None

    def product(of: Operand, matrix: Array) -> Operand:
        return mb.matmul(x=of, y=matrix.astype(ctx.dtype))

    out_real, out_imaginary = product(real, cosines), product(real, -sines)
    if imaginary is not None:
        out_real = mb.add(x=out_real, y=product(imaginary, sines))
        out_imaginary = mb.add(x=out_imaginary, y=product(imaginary, cosines))
    both = out_real if back else mb.concat(values=[out_real, out_imaginary], axis=0)
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
