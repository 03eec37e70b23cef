"""MIL operations that rearrange a tensor's elements without computing, in Core AI's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates


@translates("identity")
def identity(t: Translation, *, x: Operand) -> Operand:
    return x


@translates("reshape")
def reshape(t: Translation, *, x: Operand, shape: Operand) -> Tensor:
    """0 takes over the length of the same dimension."""
    return _reshaped(t, x, shape, 0)


@translates("reshape", since="iOS17")
def reshape_ios17(t: Translation, *, x: Operand, shape: Operand) -> Tensor:
    """0 takes over the length of the same dimension counted from the right; 1 where there is none."""
    return _reshaped(t, x, shape, 0 if isinstance(shape, Tensor) else t.rank(x) - len(t.integers(shape, "shape")))


def _reshaped(t: Translation, x: Operand, shape: Operand, shift: int) -> Tensor:
    value = t.value(x)
    if isinstance(shape, Tensor):
        declared = t.outputs[0].shape
        rank = t.fixed(shape.shape, "the rank of the result is not known")[0]
        lengths = declared if declared is not None else (None,) * rank
        return t.op("reshape", value, t.cast(shape, "si32"), shape=lengths)
    wanted: list[int | None] = list(t.integers(shape, "shape"))
    for i, n in enumerate(wanted):
        if n == 0:
            place = i + shift
            wanted[i] = value.shape[place] if 0 <= place < len(value.shape) else 1
    unknown = [i for i, n in enumerate(wanted) if n is None]
    # one length that is known at run time only is what is left
    if len(unknown) == 1 and -1 not in wanted:
        wanted[unknown[0]] = -1
    return t.reshape(value, t.fixed(wanted, "lengths that are taken over have to be known"))


@translates("expand_dims")
def expand_dims(t: Translation, *, x: Operand, axes: Operand) -> Tensor:
    given = t.integers(axes, "axes")
    rank = t.rank(x) + len(given)
    return t.expand_dims(x, [a % rank for a in given])


@translates("squeeze")
def squeeze(t: Translation, *, x: Operand, axes: Sequence[int] | None = None) -> Tensor:
    shape = t.shape(x)
    chosen = range(len(shape)) if axes is None else [int(a) % len(shape) for a in axes]
    # a length that is not 1 stays; one that is not known is asked for by name only
    gone = [a for a in chosen if shape[a] == 1 or (shape[a] is None and axes is not None)]
    return t.shrink_dims(x, gone)


@translates("transpose")
def transpose(t: Translation, *, x: Operand, perm: Sequence[int]) -> Tensor:
    rank = t.rank(x)
    return t.transpose(x, [int(p) % rank for p in perm]) if rank else t.value(x)


@translates("flatten2d")
def flatten2d(t: Translation, *, x: Operand, axis: int = 1) -> Tensor:
    shape = t.shape(x)
    at = int(axis) + len(shape) if axis < 0 else int(axis)
    front = shape[:at]
    if None not in front:
        return t.reshape(x, [int(np.prod(t.fixed(front), dtype=np.int64)), -1])
    return t.reshape(x, [-1, int(np.prod(t.fixed(shape[at:]), dtype=np.int64))])


def _known(t: Translation, x: Operand) -> list[int]:
    """[N, C, H, W], of which the first may be free: -1."""
    shape = t.shape(x)
    return [-1 if shape[0] is None else shape[0], *t.fixed(shape[1:])]


def _moved(t: Translation, x: Operand, split: Sequence[int], order: Sequence[int], merged: Sequence[int]) -> Tensor:
    return t.reshape(t.transpose(t.reshape(x, split), order), merged)


@translates("depth_to_space")
def depth_to_space(t: Translation, *, x: Operand, block_size: int) -> Tensor:
    (n, c, h, w), b = _known(t, x), int(block_size)
    k = c // (b * b)
    return _moved(t, x, [n, b, b, k, h, w], [0, 3, 4, 1, 5, 2], [n, k, h * b, w * b])


@translates("space_to_depth")
def space_to_depth(t: Translation, *, x: Operand, block_size: int) -> Tensor:
    (n, c, h, w), b = _known(t, x), int(block_size)
    return _moved(t, x, [n, c, h // b, b, w // b, b], [0, 3, 5, 1, 2, 4], [n, c * b * b, h // b, w // b])


@translates("pixel_shuffle")
def pixel_shuffle(t: Translation, *, x: Operand, upscale_factor: int) -> Tensor:
    (n, c, h, w), f = _known(t, x), int(upscale_factor)
    k = c // (f * f)
    return _moved(t, x, [n, k, f, f, h, w], [0, 1, 4, 2, 5, 3], [n, k, h * f, w * f])


@translates("pixel_unshuffle", since="iOS16")
def pixel_unshuffle(t: Translation, *, x: Operand, downscale_factor: int) -> Tensor:
    (n, c, h, w), f = _known(t, x), int(downscale_factor)
    return _moved(t, x, [n, c, h // f, f, w // f, f], [0, 1, 3, 5, 2, 4], [n, c * f * f, h // f, w // f])


@translates("space_to_batch")
def space_to_batch(t: Translation, *, x: Operand, block_shape: Sequence[int], paddings: Operand) -> Tensor:
    (top, bottom), (left, right) = t.constant(paddings, "paddings").tolist()
    n, c, h, w = t.fixed(t.shape(x))
    bh, bw = (int(b) for b in block_shape)
    padded = t.pad(x, [(0, 0), (0, 0), (int(top), int(bottom)), (int(left), int(right))])
    h, w = (h + top + bottom) // bh, (w + left + right) // bw
    # the place within a block comes before the batch
    return _moved(t, padded, [n, c, h, bh, w, bw], [3, 5, 0, 1, 2, 4], [n * bh * bw, c, h, w])


@translates("batch_to_space")
def batch_to_space(t: Translation, *, x: Operand, block_shape: Sequence[int], crops: Operand) -> Tensor:
    (top, bottom), (left, right) = t.constant(crops, "crops").tolist()
    n, c, h, w = t.fixed(t.shape(x))
    bh, bw = (int(b) for b in block_shape)
    k = n // (bh * bw)
    whole = _moved(t, x, [bh, bw, k, c, h, w], [2, 3, 4, 0, 5, 1], [k, c, h * bh, w * bw])
    return t.pad(whole, [(0, 0), (0, 0), (-int(top), -int(bottom)), (-int(left), -int(right))])


@translates("shape")
def shape(t: Translation, *, x: Operand, output_dtype: str = "int32") -> Operand:
    lengths = t.shape(x)
    if None not in lengths:
        return si(t.fixed(lengths))
    return t.cast(t.op("get_shape", x, shape=[len(lengths)], element="ui32"), "si32")


@translates("reshape_like")
def reshape_like(
    t: Translation,
    *,
    x: Operand,
    ref_tensors: Sequence[Operand],
    begins: Sequence[int],
    ends: Sequence[int],
    end_masks: Sequence[bool],
) -> Tensor:
    """The lengths of parts of other tensors' shapes, one behind the other; one that is known at run time only is what is left."""
    wanted: list[int | None] = []
    for tensor, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape = t.shape(tensor)
        wanted += shape[int(begin) : len(shape) if to_the_end else int(end)]
    if wanted.count(None) == 1:
        wanted[wanted.index(None)] = -1
    return t.reshape(x, t.fixed(wanted, "lengths that are taken over have to be known"))
