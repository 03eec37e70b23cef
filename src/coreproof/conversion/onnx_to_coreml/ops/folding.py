"""Col2Im: blocks put back where they were cut from, and added where they overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known
from coreproof.conversion.onnx_to_coreml.ops.indexing import picked_one
from coreproof.conversion.onnx_to_coreml.ops.windows import explicit_pads


@lowering("Col2Im", error="linear")
def col2im(
    ctx: Context,
    x: Operand,
    image_shape: Operand,
    block_shape: Operand,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Result:
    """[N, C * taps, blocks] as the picture [N, C, ...]: a transposed convolution whose taps each have a one at their place."""
    mb = ctx.mb
    block = ctx.constant(block_shape, "block shape").reshape(-1).tolist()
    count = len(block)
    strides, dilations = list(strides or [1] * count), list(dilations or [1] * count)
    size = _sizes(ctx, image_shape, count)
    padding = explicit_pads(ctx, "NOTSET", pads, block, block, strides)
    axes = [_Axis(*each) for each in zip(size, padding, block, strides, dilations, strict=True)]
    batch, rows, _ = x.shape
    if not is_known(rows):
        raise ctx.refuse("its channels are free", "fixed channels", "fix the input's shape")
    taps = math.prod(block)
    channels = rows // taps
    if count > 3:
        raise ctx.refuse(f"{count} spatial dimensions", "at most three")
    flat = count == 1  # a convolution along one axis is one over a picture of one row
    if flat:
        axes = [_Axis(1, (0, 0), 1, 1, 1), *axes]
    block = [axis.block for axis in axes]
    kernel = np.tile(np.eye(taps, dtype=ctx.dtype).reshape(taps, 1, *block), (channels, 1, *[1] * len(block)))
    grid = [batch if is_known(batch) else -1, rows, *(axis.blocks(ctx) for axis in axes)]
    whole = mb.conv_transpose(
        x=mb.reshape(x=x, shape=_together(ctx, grid)),
        weight=kernel,
        strides=[axis.stride for axis in axes],
        dilations=[axis.dilation for axis in axes],
        groups=channels,
        pad_type="valid",
    )
    extra = [0, 0, 0, 0, *(p for axis in axes for p in (0, axis.beyond()))]
    if any(extra):  # what no block reaches
        whole = mb.pad(x=whole, pad=extra, mode="constant", constant_val=ctx.scalar(0))
    begin = [0, 0, *(axis.padding[0] for axis in axes)]
    end = [0, 0, *(_plus(ctx, axis.size, axis.padding[0]) for axis in axes)]
    masks = [True, True, *[False] * len(axes)]
    image = mb.slice_by_index(x=whole, begin=begin, end=_together(ctx, end), begin_mask=masks, end_mask=masks)
    return mb.squeeze(x=image, axes=[2]) if flat else image


Length: TypeAlias = "int | Operand"
"""A number, or [1] that is computed while the model runs."""


@dataclass(frozen=True)
class _Axis:
    """One axis of the picture, and how blocks lie along it."""

    size: Length
    padding: tuple[int, int]
    block: int
    stride: int
    dilation: int

    @property
    def _reach(self) -> int:
        return self.dilation * (self.block - 1) + 1

    def blocks(self, ctx: Context) -> Length:
        """How many there are."""
        room = _plus(ctx, self.size, sum(self.padding) - self._reach)
        if isinstance(room, int):
            return room // self.stride + 1
        return _plus(ctx, room if self.stride == 1 else ctx.mb.floor_div(x=room, y=np.int32(self.stride)), 1)

    def beyond(self) -> int:
        """How much of the axis lies beyond the last block; where its length is free, the most that may."""
        if not isinstance(self.size, int):
            return self.stride - 1
        return (self.size + sum(self.padding) - self._reach) % self.stride


def _sizes(ctx: Context, image_shape: Operand, count: int) -> list[Length]:
    known = image_shape if isinstance(image_shape, np.ndarray) else image_shape.val
    if known is not None:
        return [int(n) for n in np.asarray(known).reshape(-1)]
    return [picked_one(ctx, image_shape, index) for index in range(count)]


def _plus(ctx: Context, length: Length, more: int) -> Length:
    if isinstance(length, int):
        return length + more
    return ctx.mb.add(x=length, y=np.int32(more)) if more else length


def _together(ctx: Context, numbers: Sequence[Length]) -> Operand:
    """The numbers in a row."""
    pieces = [np.array([n], np.int32) if isinstance(n, int) else n for n in numbers]
    known = [p for p in pieces if isinstance(p, np.ndarray)]
    return np.concatenate(known) if len(known) == len(pieces) else ctx.mb.concat(values=pieces, axis=0)
