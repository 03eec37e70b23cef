"""Comparisons, boolean logic, choosing, and the smallest and largest of several."""

from __future__ import annotations

from typing import Any

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known, without_bool


@lowering("And")
def logical_and(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.logical_and(x=a, y=b)


@lowering("Or")
def logical_or(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.logical_or(x=a, y=b)


@lowering("Xor")
def logical_xor(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.logical_xor(x=a, y=b)


@lowering("Not")
def logical_not(ctx: Context, x: Operand) -> Result:
    return ctx.mb.logical_not(x=x)


@lowering("Equal")
def equal(ctx: Context, a: Operand, b: Operand) -> Result:
    if ctx.is_bool(a):
        return ctx.mb.logical_not(x=ctx.mb.logical_xor(x=a, y=b))
    return ctx.mb.equal(x=a, y=b)


@lowering("Greater")
def greater(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.greater(x=a, y=b)


@lowering("GreaterOrEqual", compares=True)
def greater_or_equal(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.greater_equal(x=a, y=b)


@lowering("Less")
def less(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.less(x=a, y=b)


@lowering("LessOrEqual", compares=True)
def less_or_equal(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.less_equal(x=a, y=b)


@lowering("Where", error="move")
def where(ctx: Context, condition: Operand, x: Operand, y: Operand) -> Result:
    """MIL infers the shape of select from x and y alone, so one of them is widened where the condition is larger."""
    ranks = [ctx.rank(o) for o in (condition, x, y)]
    rank = max(ranks)
    shapes = [(1,) * (rank - r) + tuple(o.shape) for r, o in zip(ranks, (condition, x, y), strict=True)]
    result = tuple(_widest(lengths) for lengths in zip(*shapes, strict=True))
    if tuple(_widest(lengths) for lengths in zip(*shapes[1:], strict=True)) != result or max(ranks[1:]) < rank:
        x = _widen(ctx, x, shapes[1], result)
    return ctx.mb.select(cond=condition, a=x, b=y)


def _widest(lengths: tuple[object, ...]) -> object:
    return next((length for length in lengths if not (is_known(length) and length == 1)), 1)


def _widen(ctx: Context, x: Operand, shape: tuple[Any, ...], result: tuple[Any, ...]) -> Operand:
    reps = [1 if length == wanted else wanted for length, wanted in zip(shape, result, strict=True)]
    if not all(is_known(n) for n in reps):
        raise ctx.refuse("the condition has a free dimension that neither choice has", "a fixed shape of the condition")
    if isinstance(x, np.ndarray):
        return np.tile(x.reshape([1 if is_known(n) and n == 1 else n for n in shape]), reps)
    missing = len(result) - ctx.rank(x)
    expanded = ctx.mb.expand_dims(x=x, axes=list(range(missing))) if missing else x
    return ctx.mb.tile(x=expanded, reps=reps) if any(n != 1 for n in reps) else expanded


@lowering("IsNaN")
def is_nan(ctx: Context, x: Operand) -> Result:
    return ctx.mb.not_equal(x=x, y=x)


@lowering("IsInf")
def is_inf(ctx: Context, x: Operand, *, detect_negative: int = 1, detect_positive: int = 1) -> Result:
    mb, infinity = ctx.mb, ctx.scalar(np.inf)
    if detect_negative and detect_positive:
        return mb.equal(x=mb.abs(x=x), y=infinity)
    if detect_positive:
        return mb.equal(x=x, y=infinity)
    if detect_negative:
        return mb.equal(x=x, y=-infinity)
    return mb.logical_and(x=mb.equal(x=x, y=infinity), y=mb.equal(x=x, y=-infinity))


@lowering("Min", error="move")
def minimum(ctx: Context, *data: Operand) -> Result:
    return _chain(ctx, ctx.mb.minimum, data)


@lowering("Max", error="move")
def maximum(ctx: Context, *data: Operand) -> Result:
    return _chain(ctx, ctx.mb.maximum, data)


def _chain(ctx: Context, two: Any, data: tuple[Operand, ...]) -> Result:
    def combine(*operands: Operand) -> Result:
        result = operands[0]
        for operand in operands[1:]:
            result = two(x=result, y=operand)
        return result

    return without_bool(ctx, data, combine)
