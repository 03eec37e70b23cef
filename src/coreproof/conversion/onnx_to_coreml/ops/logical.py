"""Comparisons, boolean logic, choosing, and the smallest and largest of several."""

from __future__ import annotations

from functools import reduce

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, is_known, name_of, without_bool


@lowering("Not", truths=True)
def logical_not(ctx: Context, x: Operand) -> Result:
    return ctx.mb.logical_not(x=x)


@lowering("Equal", truths=True)
def equal(ctx: Context, a: Operand, b: Operand) -> Result:
    # MIL's equal takes no booleans
    if ctx.is_bool(a):
        return ctx.mb.logical_not(x=ctx.mb.logical_xor(x=a, y=b))
    return ctx.mb.equal(x=a, y=b)


@lowering("Where", error="move", guards=True)
def where(ctx: Context, condition: Operand, x: Operand, y: Operand) -> Result:
    """MIL infers the shape of select from x and y alone, so one of them is widened where the condition is larger."""
    ranks = [ctx.rank(o) for o in (condition, x, y)]
    rank = max(ranks)
    shapes = [(1,) * (rank - r) + tuple(o.shape) for r, o in zip(ranks, (condition, x, y), strict=True)]
    result = tuple(_widest(lengths) for lengths in zip(*shapes, strict=True))
    if tuple(_widest(lengths) for lengths in zip(*shapes[1:], strict=True)) != result or max(ranks[1:]) < rank:
        x = _widen(ctx, condition, x, shapes[1], result)
    return ctx.mb.select(cond=condition, a=x, b=y)


def _widest(lengths: tuple[int, ...]) -> int:
    return next((length for length in lengths if not (is_known(length) and length == 1)), 1)


def _widen(ctx: Context, condition: Operand, x: Operand, shape: tuple[int, ...], result: tuple[int, ...]) -> Operand:
    reps = [1 if length == wanted else wanted for length, wanted in zip(shape, result, strict=True)]
    if not all(is_known(n) for n in reps):
        # tile takes no free lengths: zeros of the condition's shape carry them, and change no number
        zeros = ctx.mb.mul(x=ctx.mb.cast(x=condition, dtype="int32"), y=np.int32(0))
        return without_bool(ctx, [x], lambda v: ctx.mb.add(x=v, y=cast(ctx, zeros, name_of(ctx, v))))
    if isinstance(x, np.ndarray):
        return np.tile(x.reshape([1 if is_known(n) and n == 1 else n for n in shape]), reps)
    missing = len(result) - ctx.rank(x)
    expanded = ctx.mb.expand_dims(x=x, axes=list(range(missing))) if missing else x
    return ctx.mb.tile(x=expanded, reps=reps) if any(n != 1 for n in reps) else expanded


@lowering("IsNaN", truths=True)
def is_nan(ctx: Context, x: Operand) -> Result:
    return ctx.mb.not_equal(x=x, y=x)


@lowering("IsInf", truths=True)
def is_inf(ctx: Context, x: Operand, *, detect_negative: int = 1, detect_positive: int = 1) -> Result:
    mb, infinity = ctx.mb, ctx.scalar(np.inf)
    if detect_negative and detect_positive:
        return mb.equal(x=mb.abs(x=x), y=infinity)
    if detect_positive:
        return mb.equal(x=x, y=infinity)
    if detect_negative:
        return mb.equal(x=x, y=-infinity)
    return mb.logical_and(x=mb.equal(x=x, y=infinity), y=mb.equal(x=x, y=-infinity))


@lowering("Min", "Max", error="move", guards=True)
def extreme(ctx: Context, *data: Operand) -> Result:
    two = ctx.mb.minimum if ctx.node.op_type == "Min" else ctx.mb.maximum
    return without_bool(ctx, data, lambda *operands: reduce(lambda a, b: two(x=a, y=b), operands))
