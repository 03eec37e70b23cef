"""MIL operations that rearrange a tensor's elements without computing: reshape, transpose, blocks of space and depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("identity", exact=True, error="move", keeps_order=True, passes_on=True, hands_on="whole")
def identity(low: Lowering, *, x: Operand) -> Operand:
    return x


@lowers("reshape", exact=True, error="move", keeps_order=True, hands_on="reshaped")
def reshape(low: Lowering, *, x: Operand, shape: Operand) -> ir.Value:
    """0 takes over the length of the same dimension."""
    return low.op("Reshape", x, low.i64(shape), allowzero=0)


@lowers("reshape", since="iOS17")
def reshape_ios17(low: Lowering, *, x: Operand, shape: Sequence[int] | ir.Value) -> ir.Value:
    """0 takes over the length of the same dimension counted from the right; 1 where there is none."""
    if isinstance(shape, ir.Value) or 0 not in shape or len(shape) == low.rank(x):
        return reshape(low, x=x, shape=shape)
    lengths = low.shape(x)
    target: list[int | None] = [int(n) for n in shape]
    for i, n in enumerate(target):
        if n == 0:
            j = len(lengths) - (len(target) - i)
            target[i] = lengths[j] if j >= 0 else 1
    known = [n for n in target if n is not None]
    if len(known) == len(target):
        return low.reshape(x, known)  # a length of 0 that was taken over is one
    dims = low.dims(x)
    parts = [
        low.op("Slice", dims, [j], [j + 1]) if n is None else [n]
        for n, j in zip(target, range(len(lengths) - len(target), len(lengths)), strict=True)
    ]
    return low.op("Reshape", x, low.op("Concat", *parts, axis=0))


@lowers(
    "reshape_like",
    since="iOS16",
    exact=True,
    error="move",
    variadic="ref_tensors",
    tuples=("begins", "ends", "end_masks"),
)
def reshape_like(
    low: Lowering,
    *,
    x: Operand,
    ref_tensors: Sequence[Operand],
    begins: Sequence[int],
    ends: Sequence[int],
    end_masks: Sequence[bool],
) -> ir.Value:
    parts = []
    for tensor, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        stop = low.rank(tensor) if to_the_end else int(end)
        parts.append(low.op("Slice", low.dims(tensor), [begin], [stop]))
    return low.op("Reshape", x, low.op("Concat", *parts, axis=0))


@lowers("expand_dims", exact=True, error="move", keeps_order=True)
def expand_dims(low: Lowering, *, x: Operand, axes: Operand) -> ir.Value:
    return low.op("Unsqueeze", x, np.asarray(axes, np.int64))


@lowers("squeeze", exact=True, error="move", keeps_order=True, hands_on="reshaped")
def squeeze(low: Lowering, *, x: Operand, axes: Sequence[int] | None = None) -> ir.Value:
    shape = low.shape(x)
    chosen = range(len(shape)) if axes is None else [int(a) % len(shape) for a in axes]
    # A length that is not 1 stays, as in PyTorch; one that is not known is asked for by name only.
    gone = [a for a in chosen if shape[a] == 1 or (shape[a] is None and axes is not None)]
    return low.op("Squeeze", x, np.array(gone, np.int64)) if gone else low.op("Identity", x)


@lowers("transpose", exact=True, error="move", hands_on="reshaped")
def transpose(low: Lowering, *, x: Operand, perm: Sequence[int]) -> ir.Value:
    rank = low.rank(x)
    return low.op("Transpose", x, perm=[int(p) % rank for p in perm]) if rank else low.value(x)


@lowers("flatten2d", exact=True, error="move")
def flatten2d(low: Lowering, *, x: Operand, axis: int = 1) -> ir.Value:
    return low.op("Flatten", x, axis=int(axis))


@lowers("depth_to_space", exact=True, error="move")
def depth_to_space(low: Lowering, *, x: Operand, block_size: int) -> ir.Value:
    return low.op("DepthToSpace", x, blocksize=int(block_size), mode="DCR")


@lowers("pixel_shuffle", exact=True, error="move")
def pixel_shuffle(low: Lowering, *, x: Operand, upscale_factor: int) -> ir.Value:
    return low.op("DepthToSpace", x, blocksize=int(upscale_factor), mode="CRD")


@lowers("space_to_depth", exact=True, error="move")
def space_to_depth(low: Lowering, *, x: Operand, block_size: int) -> ir.Value:
    return low.op("SpaceToDepth", x, blocksize=int(block_size))


@lowers("pixel_unshuffle", since="iOS16", exact=True, error="move")
def pixel_unshuffle(low: Lowering, *, x: Operand, downscale_factor: int) -> ir.Value:
    # SpaceToDepth puts the block before the channel; PyTorch's order has the channel first.
    f = int(downscale_factor)
    channels, height, width = _known(low, x)[1:]
    blocks = low.reshape(x, [-1, channels, height // f, f, width // f, f])
    moved = low.op("Transpose", blocks, perm=[0, 1, 3, 5, 2, 4])
    return low.reshape(moved, [-1, channels * f * f, height // f, width // f])


@lowers("space_to_batch", exact=True)
def space_to_batch(low: Lowering, *, x: Operand, block_shape: Sequence[int], paddings: Operand) -> ir.Value:
    (top, bottom), (left, right) = np.asarray(paddings, np.int64).tolist()
    padded = low.op("Pad", x, [0, 0, top, left, 0, 0, bottom, right])
    n, c, h, w = _known(low, x)
    bh, bw = (int(b) for b in block_shape)
    h, w = (h + top + bottom) // bh, (w + left + right) // bw
    # the place within a block comes before the batch, as in TensorFlow's operation of this name
    moved = low.op("Transpose", low.reshape(padded, [n, c, h, bh, w, bw]), perm=[3, 5, 0, 1, 2, 4])
    return low.reshape(moved, [n * bh * bw, c, h, w])


@lowers("batch_to_space", exact=True)
def batch_to_space(low: Lowering, *, x: Operand, block_shape: Sequence[int], crops: Operand) -> ir.Value:
    (top, bottom), (left, right) = np.asarray(crops, np.int64).tolist()
    n, c, h, w = _known(low, x)
    bh, bw = (int(b) for b in block_shape)
    blocks = low.reshape(x, [bh, bw, n // (bh * bw), c, h, w])
    whole = low.reshape(low.op("Transpose", blocks, perm=[2, 3, 4, 0, 5, 1]), [n // (bh * bw), c, h * bh, w * bw])
    begin, end = [top, left], [h * bh - bottom, w * bw - right]
    return low.op("Slice", whole, begin, end, [2, 3])


def _known(low: Lowering, x: Operand) -> list[int]:
    shape = low.shape(x)
    if any(n is None for n in shape[1:]):
        raise low.refuse("it needs an input of known size", found=shape)
    return [-1 if n is None else n for n in shape]
