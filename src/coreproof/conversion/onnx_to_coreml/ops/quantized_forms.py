"""Operators on quantised tensors that ONNX Runtime adds (com.microsoft), in what its quantisation tool writes.

Each takes integers with scale and zero point, computes on the numbers that they stand for, and gives out integers again
(the definitions are in ONNX Runtime's docs/ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Operand, Result, lowering
from coreproof.conversion.onnx_to_coreml.ops.activation import leaky_relu, sigmoid, softmax, softmax_flattening
from coreproof.conversion.onnx_to_coreml.ops.joining import concat
from coreproof.conversion.onnx_to_coreml.ops.pooling import average_pool
from coreproof.conversion.onnx_to_coreml.ops.quantization import dequantized, dtype_of, quantized

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
    c_zero_point: Operand = None,
) -> Result:
    left, right = dequantized(ctx, a, a_scale, a_zero_point), dequantized(ctx, b, b_scale, b_zero_point)
    return quantized(ctx, ctx.mb.add(x=left, y=right), c_scale, c_zero_point, dtype_of(ctx, 7))


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
    c_zero_point: Operand = None,
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
    rank = ctx.rank(operands[0])
    axes = list(range(1, rank - 1)) if channels_last else list(range(2, rank))
    return _each(ctx, operands, lambda v: ctx.mb.reduce_mean(x=v, axes=axes, keep_dims=True))


@lowering("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(ctx: Context, *operands: Operand, channels_last: int = 0, **attributes: Any) -> Result:
    if channels_last:
        raise ctx.refuse("its channels stand last", "channels_last=0")
    return _each(ctx, operands, lambda v: average_pool(ctx, v, **attributes))


@lowering("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(ctx: Context, *operands: Operand) -> Result:
    return _each(ctx, operands, lambda v: sigmoid(ctx, v))


@lowering("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(ctx: Context, *operands: Operand, alpha: float = 0.01) -> Result:
    return _each(ctx, operands, lambda v: leaky_relu(ctx, v, alpha=alpha))


@lowering("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(ctx: Context, *operands: Operand, opset: int, axis: int = -1) -> Result:
    """``opset``: the one whose softmax is meant; until 12 all dimensions from ``axis`` on count as one."""
    return _each(
        ctx, operands, lambda v: softmax(ctx, v, axis=axis) if opset >= 13 else softmax_flattening(ctx, v, axis=axis)
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
    c: Operand = None,
    y_scale: Operand = None,
    y_zero_point: Operand = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Result:
    """alpha * A B + C; C counts in steps of alpha times both scales. Without ``y_scale`` the result is floats."""
    left = dequantized(ctx, a, a_scale, a_zero_point)
    share, weight_scale = (np.asarray(ctx.constant(ctx.raw[at], "scale"), np.float64).reshape(-1) for at in (1, 4))
    zero = np.asarray(ctx.constant(ctx.raw[5], "zero point of the weights")).astype(np.int64).reshape(-1)
    whole = np.asarray(ctx.constant(ctx.raw[3], "weight")).astype(np.int64)
    weight = alpha * ((whole if not transB else whole.T) - zero) * weight_scale
    if transA:
        left = ctx.mb.transpose(x=left, perm=[1, 0])
    term = {}
    if c is not None:
        bias = np.asarray(ctx.constant(ctx.raw[6], "bias"), np.float64) * (alpha * share * weight_scale)
        if bias.size not in (1, weight.shape[1]):
            raise ctx.refuse(f"its bias has the shape {bias.shape}", "one number for each column")
        term = {"bias": ctx.floats(np.broadcast_to(bias.reshape(-1), (weight.shape[1],)))}
    product = ctx.mb.linear(x=left, weight=ctx.floats(np.ascontiguousarray(weight.T)), **term)
    return product if y_scale is None else quantized(ctx, product, y_scale, y_zero_point, dtype_of(ctx, 8))


def _each(ctx: Context, operands: tuple[Operand, ...], compute: Callable[[Operand], Operand]) -> Result:
    """An operator of one operand: numbers out of integers, ``compute``, integers again, by the parameters behind it."""
    x, scale, zero, result_scale, result_zero = (*operands, None)[:5]
    return quantized(ctx, compute(dequantized(ctx, x, scale, zero)), result_scale, result_zero, dtype_of(ctx, 4))
