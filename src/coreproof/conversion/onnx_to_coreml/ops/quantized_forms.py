"""Operators on quantised tensors that ONNX Runtime adds (com.microsoft), in what its quantisation tool writes.

Each takes integers with scale and zero point, computes on the numbers that they stand for, and gives out integers again
(the definitions are in ONNX Runtime's docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.activation import leaky_relu, over_flattened, softmax
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known
from coreproof.conversion.onnx_to_coreml.ops.joining import concat
from coreproof.conversion.onnx_to_coreml.ops.pooling import average_pool
from coreproof.conversion.onnx_to_coreml.ops.quantization import (
    centred,
    dequantized,
    dtype_of,
    factor,
    in_steps,
    known_weight,
    quantized,
    split_factor,
    times_in_steps,
)
from coreproof.conversion.onnx_to_coreml.packed import contiguous, moved

MICROSOFT = "com.microsoft"


@lowering("QLinearAdd", domain=MICROSOFT)
def qlinear_add(
    ctx: Context,
    a: Operand,
    a_scale: Operand,
    a_zero_point: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero_point: Operand,
    c_scale: Operand,
    c_zero_point: Operand | None = None,
) -> Result:
    first, second = factor(ctx, 1, 6), factor(ctx, 4, 6)
    if first is None or second is None:
        left, right = dequantized(ctx, a, a_scale, a_zero_point), dequantized(ctx, b, b_scale, b_zero_point)
        return quantized(ctx, ctx.mb.add(x=left, y=right), c_scale, c_zero_point, dtype_of(ctx, 7))
    # both in steps of the sum, as ONNX Runtime adds them; the integers themselves count in different units
    left = ctx.mb.mul(x=centred(ctx, a, a_zero_point), y=ctx.floats(first))
    right = ctx.mb.mul(x=centred(ctx, b, b_zero_point), y=ctx.floats(second))
    return in_steps(ctx, ctx.mb.add(x=left, y=right), c_zero_point, dtype_of(ctx, 7))


@lowering("QLinearMul", domain=MICROSOFT)
def qlinear_mul(
    ctx: Context,
    a: Operand,
    a_scale: Operand,
    a_zero_point: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero_point: Operand,
    c_scale: Operand,
    c_zero_point: Operand | None = None,
) -> Result:
    left, right = dequantized(ctx, a, a_scale, a_zero_point), dequantized(ctx, b, b_scale, b_zero_point)
    return quantized(ctx, ctx.mb.mul(x=left, y=right), c_scale, c_zero_point, dtype_of(ctx, 7))


@lowering("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(ctx: Context, y_scale: Operand, y_zero_point: Operand, *parts: Operand, axis: int) -> Result:
    """``parts``: tensor, scale and zero point, one after another."""
    numbers = [dequantized(ctx, *parts[at : at + 3]) for at in range(0, len(parts), 3)]
    return quantized(ctx, concat(ctx, *numbers, axis=axis), y_scale, y_zero_point, dtype_of(ctx, 1))


@lowering("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(ctx: Context, *operands: Operand, channels_last: int = 0) -> Result:
    # NHWC or NCHW: ONNX Runtime's own form has both
    rank = ctx.rank(operands[0])
    axes = list(range(1, rank - 1)) if channels_last else list(range(2, rank))
    share, lengths = factor(ctx, 1, 3), [operands[0].shape[axis] for axis in axes]
    if share is not None and ctx.dtype == np.float32 and all(is_known(length) for length in lengths):
        total = ctx.mb.reduce_sum(x=centred(ctx, operands[0], operands[2]), axes=axes, keep_dims=True)
        # sums of integers below 2**24 are exact in float32; the factor comes last, so that there is one rounding
        made = ctx.mb.mul(x=total, y=ctx.floats(share / np.float32(np.prod(lengths))))
        return in_steps(ctx, made, (*operands, None)[4], dtype_of(ctx, 4))
    if share is not None:
        # in float16 the sum over a picture leaves the range, the mean does not
        mean = ctx.mb.reduce_mean(x=centred(ctx, operands[0], operands[2]), axes=axes, keep_dims=True)
        return in_steps(ctx, ctx.mb.mul(x=mean, y=ctx.floats(share)), (*operands, None)[4], dtype_of(ctx, 4))
    return _each(ctx, operands, lambda v: ctx.mb.reduce_mean(x=v, axes=axes, keep_dims=True))


@lowering("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(ctx: Context, *operands: Operand, channels_last: int = 0, **attributes: Any) -> Result:
    if channels_last:
        raise ctx.refuse("its channels stand last", "channels_last=0")
    return _each(ctx, operands, lambda v: average_pool(ctx, v, **attributes))


@lowering("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(ctx: Context, *operands: Operand) -> Result:
    return _each(ctx, operands, lambda v: ctx.mb.sigmoid(x=v))


@lowering("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(ctx: Context, *operands: Operand, alpha: float = 0.01) -> Result:
    return _each(ctx, operands, lambda v: leaky_relu(ctx, v, alpha=alpha))


@lowering("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(ctx: Context, *operands: Operand, opset: int, axis: int = -1) -> Result:
    """``opset``: the one whose softmax is meant; until 12 all dimensions from ``axis`` on count as one."""
    if opset >= 13:
        return _each(ctx, operands, lambda v: softmax(ctx, v, axis=axis))
    return _each(
        ctx, operands, lambda v: over_flattened(ctx, v, axis, lambda flat, over: softmax(ctx, flat, axis=over))
    )


@lowering("QGemm", domain=MICROSOFT)
def qgemm(
    ctx: Context,
    a: Operand,
    a_scale: Operand,
    a_zero_point: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero_point: Operand,
    c: Operand | None = None,
    y_scale: Operand | None = None,
    y_zero_point: Operand | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Result:
    """alpha * A B + C; C counts in steps of alpha times both scales. Without ``y_scale`` the result is floats."""
    weight_scale = np.asarray(ctx.constant(ctx.raw[4], "scale of the weights"), np.float64).reshape(-1)
    steps = None if y_scale is None else factor(ctx, 1, 4, 7)
    behind: np.ndarray | None = None
    if steps is not None:
        within, behind = split_factor(ctx, np.asarray(np.float32(alpha) * steps))
        left, unit = centred(ctx, a, a_zero_point), within
    else:
        share = np.asarray(ctx.constant(ctx.raw[1], "scale"), np.float64).reshape(-1)
        left, within = dequantized(ctx, a, a_scale, a_zero_point), alpha * weight_scale
        unit = share * within
    weight = known_weight(ctx, 3, 5, within, 0 if transB else -1)
    # MIL's linear takes the weight as [columns, rows]
    rows = contiguous(weight if transB else moved(weight, np.transpose))
    if transA:
        left = ctx.mb.transpose(x=left, perm=[1, 0])
    term: np.ndarray | None = None
    if c is not None:
        bias = np.asarray(ctx.constant(ctx.raw[6], "bias"), np.float64)
        if bias.size not in (1, rows.shape[0]):
            raise ctx.refuse(f"its bias has the shape {bias.shape}", "one number for each column")
        term = ctx.floats(np.broadcast_to(bias.reshape(-1) * unit, (rows.shape[0],)))
    product = ctx.mb.linear(x=left, weight=rows, bias=term)
    if behind is not None:
        return times_in_steps(ctx, product, behind, y_zero_point, dtype_of(ctx, 8))
    return product if y_scale is None else quantized(ctx, product, y_scale, y_zero_point, dtype_of(ctx, 8))


def _each(ctx: Context, operands: tuple[Operand, ...], compute: Callable[[Operand], Operand]) -> Result:
    """An operator of one operand: numbers out of integers, ``compute``, integers again, by the parameters behind it."""
    x, scale, zero, result_scale = operands[:4]
    result_zero = operands[4] if len(operands) > 4 else None
    return quantized(ctx, compute(dequantized(ctx, x, scale, zero)), result_scale, result_zero, dtype_of(ctx, 4))
