"""Resize along axes whose lengths are free: where each result looks, and what it takes from there, are computed anew each run.

The formulas are those of ``sampling.py``, written in MIL. Places are counted in float32, whatever the program computes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name, in_floats, is_known, without_bool
from coreproof.conversion.onnx_to_coreml.ops.indexing import length_of, picked_one
from coreproof.conversion.onnx_to_coreml.ops.sampling import A_HALF, Sampling

_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)


@dataclass(frozen=True)
class FreeAxis:
    """How one axis changes: to how many, or by which scale; as a number, or as the one ``at`` a place of an operand."""

    index: int
    target: int | None = None
    scale: float | None = None
    sizes: Operand | None = None
    at: int = 0
    scales: Operand | None = None


def resized(ctx: Context, x: Operand, axes: Sequence[FreeAxis], sampling: Sampling) -> Operand:
    """``x`` with these axes resized one after another. Raises ConversionError for a form that is not written here."""
    if not axes:
        return x
    if sampling.transformation == "tf_crop_and_resize" or (sampling.antialias and not sampling.exclude_outside):
        what = "a region is cut out of" if sampling.transformation == "tf_crop_and_resize" else "antialias goes beyond"
        raise ctx.refuse(f"{what} an axis that has a free length", "fixed lengths", "fix the input's height and width")
    for axis in axes:
        line = _Line(ctx, x, axis, sampling)
        if sampling.mode == "nearest":
            x = without_bool(ctx, [x], line.nearest)
        elif sampling.antialias:
            x = in_floats(ctx, x, line.dense)
        else:
            x = in_floats(ctx, x, line.linear if sampling.mode == "linear" else line.cubic)
    return x


class _Line:
    """One axis of an operand: its lengths before and after as numbers of the program, and where each result looks."""

    def __init__(self, ctx: Context, x: Operand, axis: FreeAxis, sampling: Sampling) -> None:
        self.ctx, self.mb, self.axis, self.sampling = ctx, ctx.mb, axis, sampling
        self.length = self._float(length_of(ctx, x, axis.index))
        self.scale: Operand | None = None if axis.scale is None else np.asarray(axis.scale, np.float32)
        if axis.scales is not None:
            self.scale = self._float(picked_one(ctx, axis.scales, axis.at))
        if axis.target is not None:
            self.target: Operand = np.array([axis.target], np.int32)
        elif axis.sizes is not None:
            self.target = cast(ctx, picked_one(ctx, axis.sizes, axis.at), "int32")
        else:
            self.target = self.mb.cast(x=self.mb.floor(x=self.width), dtype="int32")
        self.count = self._float(self.target)

    @property
    def width(self) -> Operand:
        """The length that was asked for; ``target`` is that rounded down."""
        return self.count if self.scale is None else self.mb.mul(x=self.length, y=self.scale)

    def _float(self, number: Operand) -> Operand:
        """[1], of int32, as float32."""
        if isinstance(number, np.ndarray):
            return number.astype(np.float32)
        return self.mb.cast(x=number, dtype="fp32")

    def _numbers(self, count: Operand) -> Operand:
        """[count]: 0, 1, 2, ... in float32."""
        if isinstance(count, np.ndarray):
            return np.arange(int(count[0]), dtype=np.float32)
        row = self.mb.range_1d(start=np.int32(0), end=self.mb.squeeze(x=count, axes=[0]), step=np.int32(1))
        return self.mb.cast(x=row, dtype="fp32")

    def places(self) -> Operand:
        """[target]: where each result looks, in [0, length - 1] or beyond it."""
        mb, at, how = self.mb, self._numbers(self.target), self.sampling.transformation
        # an element is chosen by the operator's text, as ONNX Runtime does: see ``sampling.nearest_indices``
        width = self.count if self.sampling.mode == "nearest" else self.width
        if how == "align_corners":
            steps = mb.maximum(x=mb.sub(x=width, y=_ONE), y=_ONE)  # of one result alone the first place is 0
            return mb.real_div(x=mb.mul(x=at, y=mb.sub(x=self.length, y=_ONE)), y=steps)
        if how == "asymmetric":
            return self._scaled(at, _ONE)
        # half_pixel: (at + 0.5) / scale - 0.5, as (2 at + 1) / (2 scale): whole numbers as long as can be
        places = mb.sub(x=self._scaled(mb.add(x=mb.mul(x=at, y=_TWO), y=_ONE), _TWO), y=_HALF)
        if how == "pytorch_half_pixel":
            # -0.5 for one result alone, as the reference implementation of ONNX has it
            return mb.select(
                cond=mb.equal(x=width, y=_ONE), a=mb.sub(x=mb.mul(x=places, y=np.float32(0)), y=_HALF), b=places
            )
        if how == "half_pixel_symmetric" and self.scale is not None:
            # (length / 2) (1 - count / width): the lengths were rounded down, and the picture keeps its centre
            lost = mb.sub(x=_ONE, y=mb.real_div(x=self.count, y=self.width))
            return mb.add(x=mb.mul(x=mb.mul(x=self.length, y=_HALF), y=lost), y=places)
        return places

    def _scaled(self, at: Operand, parts: np.float32) -> Operand:
        """``at`` counts in ``parts`` of a result: the place there. In a mean, a quotient of whole numbers is rounded once."""
        if self.scale is not None:
            whole = parts * self.scale if isinstance(self.scale, np.ndarray) else self.mb.mul(x=self.scale, y=parts)
            return self.mb.real_div(x=at, y=whole)
        if self.sampling.mode == "nearest":
            # the scale first, as ONNX Runtime has it: an element that is nearest by rounding is the same one
            scale = self.mb.real_div(x=self.count, y=self.length)
            return self.mb.real_div(x=at, y=scale if parts == 1 else self.mb.mul(x=scale, y=parts))
        return self.mb.real_div(x=self.mb.mul(x=at, y=self.length), y=self.mb.mul(x=self.count, y=parts))

    def _elements_at(self, x: Operand, places: Operand) -> Operand:
        """The elements at these places, those at the border beyond it."""
        last = self.mb.sub(x=self.length, y=_ONE)
        inside = self.mb.maximum(x=self.mb.minimum(x=places, y=last), y=np.float32(0))
        return self.mb.gather(x=x, indices=self.mb.cast(x=inside, dtype="int32"), axis=self.axis.index)

    def _along(self, share: Operand, rank: int) -> Operand:
        """A row of shares in the compute dtype, lying along the axis."""
        behind = list(range(1, rank - self.axis.index))
        # places need float32's digits, shares of two neighbours do not
        narrow = self.mb.cast(x=share, dtype=float_name(self.ctx))
        return self.mb.expand_dims(x=narrow, axes=behind) if behind else narrow

    def nearest(self, x: Operand) -> Operand:
        mb, places = self.mb, self.places()
        how = self.sampling.nearest
        if how.startswith("round"):
            # MIL's round takes halves to even; these take all of them up, or down, and what is a half but for its rounding
            below = mb.floor(x=places)
            beyond = mb.sub(x=places, y=below)
            if how == "round_prefer_ceil":
                up = mb.greater_equal(x=beyond, y=_HALF - A_HALF)
            else:
                up = mb.greater(x=beyond, y=_HALF + A_HALF)
            return self._elements_at(x, mb.add(x=below, y=mb.cast(x=up, dtype="fp32")))
        return self._elements_at(x, mb.floor(x=places) if how == "floor" else mb.ceil(x=places))

    def linear(self, x: Operand) -> Operand:
        mb, rank = self.mb, self.ctx.rank(x)
        last = mb.sub(x=self.length, y=_ONE)
        places = mb.maximum(x=mb.minimum(x=self.places(), y=last), y=np.float32(0))
        low = mb.floor(x=places)
        share = self._along(mb.sub(x=places, y=low), rank)
        first, second = self._elements_at(x, low), self._elements_at(x, mb.add(x=low, y=_ONE))
        return mb.add(x=first, y=mb.mul(x=mb.sub(x=second, y=first), y=share))

    def cubic(self, x: Operand) -> Operand:
        mb, rank = self.mb, self.ctx.rank(x)
        places = self.places()
        low = mb.floor(x=places)
        # four neighbours, as Keys' cubic reaches two elements to each side
        taps = [mb.add(x=low, y=np.float32(step)) for step in (-1, 0, 1, 2)]
        shares = [self._share(mb.abs(x=mb.sub(x=places, y=tap))) for tap in taps]
        if self.sampling.exclude_outside:
            shares = [self._within(tap, share) for tap, share in zip(taps, shares, strict=True)]
            total = shares[0]
            for share in shares[1:]:
                total = mb.add(x=total, y=share)
            # ONNX, Resize, exclude_outside: what is left inside counts as a whole again
            shares = [mb.real_div(x=share, y=total) for share in shares]
        parts = [
            mb.mul(x=self._elements_at(x, tap), y=self._along(share, rank))
            for tap, share in zip(taps, shares, strict=True)
        ]
        return mb.add(x=mb.add(x=parts[0], y=parts[1]), y=mb.add(x=parts[2], y=parts[3]))

    def _within(self, tap: Operand, share: Operand) -> Operand:
        mb = self.mb
        inside = mb.logical_and(x=mb.greater_equal(x=tap, y=np.float32(0)), y=mb.less(x=tap, y=self.length))
        return mb.mul(x=share, y=mb.cast(x=inside, dtype="fp32"))

    def dense(self, x: Operand) -> Operand:
        """[target, length] times the axis: a filter that widens as the axis is narrowed, over what is inside alone."""
        mb, rank, index = self.mb, self.ctx.rank(x), self.axis.index
        scale = self.scale if self.scale is not None else mb.real_div(x=self.count, y=self.length)
        # only a narrowed axis needs the wider filter: enlarged, there is nothing to be smoothed
        narrowed = np.minimum(scale, _ONE) if isinstance(scale, np.ndarray) else mb.minimum(x=scale, y=_ONE)
        each = mb.expand_dims(x=self.places(), axes=[1])
        elements = self._numbers(length_of(self.ctx, x, index))
        share = self._share(mb.mul(x=mb.abs(x=mb.sub(x=elements, y=each)), y=narrowed))
        share = mb.real_div(x=share, y=mb.reduce_sum(x=share, axes=[1], keep_dims=True))
        matrix = mb.cast(x=share, dtype=float_name(self.ctx))
        if rank == 1:
            return mb.squeeze(x=mb.matmul(x=matrix, y=mb.expand_dims(x=x, axes=[1])), axes=[1])
        if index == rank - 2:
            return mb.matmul(x=matrix, y=x)
        order = [i for i in range(rank) if i != index] + [index]
        # matmul works on the last two axes: the axis goes there and comes back
        moved = mb.matmul(x=mb.transpose(x=x, perm=order), y=matrix, transpose_y=True)
        return mb.transpose(x=moved, perm=[order.index(i) for i in range(rank)])

    def _share(self, distance: Operand) -> Operand:
        """What an element at this distance counts for, as ``sampling.weights`` says."""
        mb, a = self.mb, np.float32(self.sampling.cubic_coeff_a)
        if self.sampling.mode == "linear":
            return mb.maximum(x=mb.sub(x=_ONE, y=distance), y=np.float32(0))
        square = mb.mul(x=distance, y=distance)
        # Keys' kernel by Horner: (a+2)|d|^3 - (a+3)|d|^2 + 1 up to 1, a|d|^3 - 5a|d|^2 + 8a|d| - 4a up to 2
        near = mb.add(x=mb.mul(x=mb.sub(x=mb.mul(x=distance, y=a + 2), y=a + 3), y=square), y=_ONE)
        far = mb.add(x=mb.mul(x=mb.sub(x=mb.mul(x=distance, y=a), y=5 * a), y=square), y=mb.mul(x=distance, y=8 * a))
        far = mb.sub(x=far, y=4 * a)
        nothing = mb.mul(x=distance, y=np.float32(0))
        beyond = mb.select(cond=mb.less(x=distance, y=_TWO), a=far, b=nothing)
        return mb.select(cond=mb.less_equal(x=distance, y=_ONE), a=near, b=beyond)


def free_axes(x: Operand, chosen: Sequence[int], wanted: Sequence[object] | None, sizes: Operand) -> list[FreeAxis]:
    """Those of the ``chosen`` axes that are resized from or to a free length.

    ``wanted`` are the sizes as far as they are known.
    """
    found = []
    for at, index in enumerate(chosen):
        told = None if wanted is None else wanted[at]
        if told is not None and str(told) == str(x.shape[index]):
            continue
        if is_known(told) and is_known(x.shape[index]):
            continue
        found.append(FreeAxis(index, int(str(told)) if is_known(told) else None, None, sizes, at))
    return found
