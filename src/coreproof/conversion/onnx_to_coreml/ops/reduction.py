"""Reductions: one value out of many along some axes. Up to opset 12 (17 for most) the axes are an attribute, then an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import in_floats, is_known, without_bool
from coreproof.conversion.operators import ONNX


def _along(
    ctx: Context, x: Operand, axes: Sequence[int] | None, keepdims: int, reduce: Callable[..., Result]
) -> Result:
    """``reduce`` along ``axes``; along all where there are none."""
    if any(is_known(length) and length == 0 for length in x.shape):
        raise ctx.refuse("its operand has no elements", "at least one element")
    # MIL has no axis along which to reduce a single number
    if ctx.rank(x) == 0:
        column = ctx.mb.expand_dims(x=x, axes=[0])
        return reduce(x=column, axes=[0], keep_dims=False)
    wanted = [int(a) for a in axes] if axes is not None and len(axes) else list(range(ctx.rank(x)))
    return reduce(x=x, axes=wanted, keep_dims=bool(keepdims))


def _floating(ctx: Context, reduce: Callable[..., Result]) -> Callable[..., Result]:
    return lambda x, **how: in_floats(ctx, x, lambda wide: reduce(x=wide, **how))


def _counting(ctx: Context, reduce: Callable[..., Result]) -> Callable[..., Result]:
    return lambda x, **how: without_bool(ctx, [x], lambda number: reduce(x=number, **how))


_REDUCERS: dict[str, Callable[[Context], Callable[..., Result]]] = {
    "ReduceMean": lambda ctx: _floating(ctx, ctx.mb.reduce_mean),
    "ReduceSum": lambda ctx: ctx.mb.reduce_sum,
    "ReduceMax": lambda ctx: _counting(ctx, ctx.mb.reduce_max),
    "ReduceMin": lambda ctx: _counting(ctx, ctx.mb.reduce_min),
    "ReduceProd": lambda ctx: ctx.mb.reduce_prod,
    "ReduceL1": lambda ctx: ctx.mb.reduce_l1_norm,
    "ReduceL2": lambda ctx: _floating(ctx, ctx.mb.reduce_l2_norm),
    "ReduceLogSum": lambda ctx: _floating(ctx, ctx.mb.reduce_log_sum),
    "ReduceLogSumExp": lambda ctx: _floating(ctx, ctx.mb.reduce_log_sum_exp),
    "ReduceSumSquare": lambda ctx: ctx.mb.reduce_sum_square,
}

_ELEMENTWISE: dict[str, Callable[[Context, Operand], Result]] = {
    "ReduceL1": lambda ctx, x: ctx.mb.abs(x=x),
    "ReduceL2": lambda ctx, x: ctx.mb.abs(x=x),
    "ReduceLogSum": lambda ctx, x: in_floats(ctx, x, lambda wide: ctx.mb.log(x=wide, epsilon=ctx.epsilon(0))),
    "ReduceSumSquare": lambda ctx, x: ctx.mb.mul(x=x, y=x),
}
"""What a reduction over no axis at all still does to each element; the others leave it as it is."""


def _register(operator: str, input_since: int) -> None:
    @lowering(operator)
    def by_attribute(ctx: Context, data: Operand, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> Result:
        return _along(ctx, data, axes, keepdims, _REDUCERS[operator](ctx))

    @lowering(operator, since=input_since)
    def by_input(
        ctx: Context, data: Operand, axes: Operand | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Result:
        chosen = None if axes is None else ctx.integers(axes, "list of axes")
        if noop_with_empty_axes and not chosen:
            return _ELEMENTWISE[operator](ctx, data) if operator in _ELEMENTWISE else data
        return _along(ctx, data, chosen, keepdims, _REDUCERS[operator](ctx))


# MIL spells these two otherwise, and says all else of the reductions
ONNX.describe("ReduceL1", "ReduceL2", error="average")

for _operator in _REDUCERS:
    _register(_operator, 13 if _operator == "ReduceSum" else 18)


@lowering("ArgMax", indices=0, positions=True)
def arg_max(ctx: Context, data: Operand, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Result:
    return _position(ctx, ctx.mb.reduce_argmax, data, axis, keepdims, select_last_index)


@lowering("ArgMin", indices=0, positions=True)
def arg_min(ctx: Context, data: Operand, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Result:
    return _position(ctx, ctx.mb.reduce_argmin, data, axis, keepdims, select_last_index)


def _position(
    ctx: Context, reduce: Callable[..., Result], data: Operand, axis: int, keepdims: int, select_last_index: int
) -> Result:
    if not select_last_index:
        return reduce(x=data, axis=axis, keep_dims=bool(keepdims))
    length = data.shape[axis]
    if not is_known(length):
        raise ctx.refuse(f"the length of axis {axis} is not fixed", "a fixed length for select_last_index=1")
    # the first of the reversed is the last
    first = reduce(x=ctx.mb.reverse(x=data, axes=[axis]), axis=axis, keep_dims=bool(keepdims))
    return ctx.mb.sub(x=np.int32(length - 1), y=first)
