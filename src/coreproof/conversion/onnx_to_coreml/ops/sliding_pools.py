"""The largest of each window and where it stands, over a plane of free size: one shifted plane for each place of a window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import name_of
from coreproof.conversion.onnx_to_coreml.ops.indexing import counted, length_of
from coreproof.conversion.onnx_to_coreml.ops.windows import flat_pads
from coreproof.conversion.windows import Pads


@dataclass(frozen=True)
class Sliding:
    """A window, axis by axis of the plane: its size, its steps, what lies between its elements, the padding around the plane."""

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    padding: Pads

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """Where the window's elements lie from its first one, the last axis running fastest."""
        return list(product(*(range(0, k * d, d) for k, d in zip(self.kernel, self.dilations, strict=True))))


def largest_of_windows(ctx: Context, x: Operand, window: Sliding, *, wants_places: bool) -> list[Operand]:
    """The largest of each window [N, C, ...]; and its place in the whole of ``x``, counted by rows, where that is wanted.

    Of equal ones the first counts, as in ONNX.
    """
    mb = ctx.mb
    dtype = name_of(ctx, x)
    floats = x if dtype in ("fp16", "fp32") else mb.cast(x=x, dtype="fp32")
    around = mb.pad(
        x=floats, pad=[0, 0, 0, 0, *flat_pads(window.padding)], constant_val=_least(floats), mode="constant"
    )
    shifted = [_shifted(ctx, around, window, offset) for offset in window.offsets]
    best, number = shifted[0], _first(ctx, shifted[0])
    for at, seen in enumerate(shifted[1:], start=1):
        if wants_places:
            better = mb.cast(x=mb.greater(x=seen, y=best), dtype="int32")
            number = mb.add(x=number, y=mb.mul(x=better, y=mb.sub(x=np.int32(at), y=number)))
        best = mb.maximum(x=best, y=seen)
    largest = best if dtype in ("fp16", "fp32") else mb.cast(x=best, dtype=dtype)
    return [largest, _places(ctx, x, best, number, window)] if wants_places else [largest]


def _first(ctx: Context, seen: Operand) -> Operand:
    """The number of a window's first element, 0, for each window."""
    return ctx.mb.cast(x=ctx.mb.not_equal(x=seen, y=seen), dtype="int32")


def _least(x: Operand) -> np.floating:
    half = x.dtype == np.float16 if isinstance(x, np.ndarray) else x.dtype.__name__ == "fp16"
    return np.float16(np.finfo(np.float16).min) if half else np.float32(np.finfo(np.float32).min)


def _shifted(ctx: Context, around: Operand, window: Sliding, offset: Sequence[int]) -> Operand:
    """Of each window the element at ``offset``: every so many-th of the padded plane, as far as whole windows go."""
    reach = [(k - 1) * d for k, d in zip(window.kernel, window.dilations, strict=True)]
    behind = [far - own for far, own in zip(reach, offset, strict=True)]
    return ctx.mb.slice_by_index(
        x=around,
        begin=[0, 0, *offset],
        end=[0, 0, *(-far for far in behind)],
        stride=[1, 1, *window.strides],
        end_mask=[True, True, *(far == 0 for far in behind)],
    )


def _places(ctx: Context, x: Operand, best: Operand, number: Operand, window: Sliding) -> Operand:
    """From the number of an element in its window to its place in the whole tensor, plane after plane."""
    mb, rank = ctx.mb, ctx.rank(x)
    place: Operand | None = None
    for axis, (k, stride, dilation, (begin, _)) in enumerate(
        zip(window.kernel, window.strides, window.dilations, window.padding, strict=True), start=2
    ):
        inner = math.prod(window.kernel[axis - 1 :])
        own = mb.mod(x=mb.floor_div(x=number, y=np.int32(inner)), y=np.int32(k))
        first = mb.sub(x=mb.mul(x=counted(ctx, best, axis), y=np.int32(stride)), y=np.int32(begin))
        first = mb.reshape(x=first, shape=[1] * axis + [-1] + [1] * (rank - axis - 1))
        here = mb.add(x=mb.mul(x=own, y=np.int32(dilation)), y=first)
        place = here if place is None else mb.add(x=mb.mul(x=place, y=length_of(ctx, x, axis)), y=here)
    size = length_of(ctx, x, 2)
    for axis in range(3, rank):
        size = mb.mul(x=size, y=length_of(ctx, x, axis))
    channels = mb.reshape(x=counted(ctx, x, 1), shape=[1, -1] + [1] * (rank - 2))
    samples = mb.reshape(x=counted(ctx, x, 0), shape=[-1] + [1] * (rank - 1))
    plane = mb.add(x=mb.mul(x=samples, y=length_of(ctx, x, 1)), y=channels)
    assert place is not None, "a window has an axis"
    return mb.add(x=place, y=mb.mul(x=plane, y=size))
