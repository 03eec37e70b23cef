"""Activations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.elementwise import softplus
from coreproof.conversion.operators import ONNX
from coreproof.model.numbers import FLOAT16_MAX


@lowering("Relu", channelwise=True)
def relu(ctx: Context, x: Operand) -> Result:
    # MIL's relu takes floats alone
    return ctx.mb.relu(x=x) if ctx.is_float(x) else ctx.mb.maximum(x=x, y=np.int32(0))


@lowering("LeakyRelu", channelwise=True)
def leaky_relu(ctx: Context, x: Operand, *, alpha: float = 0.01) -> Result:
    return ctx.mb.leaky_relu(x=x, alpha=ctx.scalar(alpha))


@lowering("PRelu", channelwise=True)
def prelu_1(ctx: Context, x: Operand, slope: Operand, **_: object) -> Result:
    """Until opset 6 there is one slope a channel, or one for all; since then slopes are aligned at their end."""
    # [C] would be aligned with the last axis; [C, 1, 1] is with the channels
    if isinstance(slope, np.ndarray) and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (ctx.rank(x) - 2))
    return prelu(ctx, x, slope)


@lowering("PRelu", since=7)
def prelu(ctx: Context, x: Operand, slope: Operand, **_: object) -> Result:
    """MIL's prelu has one slope a channel, at ranks 3 and 5 one for all; others become relu(x) + slope * min(x, 0).

    A NeuralNetwork counts the channels from the end, so that only rank 4 has them where ONNX has; one slope is a leaky relu.
    """
    rank = ctx.rank(x)
    if isinstance(slope, np.ndarray) and slope.size == 1 and ctx.is_network and rank != 4:
        return ctx.mb.leaky_relu(x=x, alpha=ctx.scalar(float(slope.reshape(-1)[0])))
    if isinstance(slope, np.ndarray) and slope.ndim <= rank and 3 <= rank <= 5 and isinstance(x.shape[1], int):
        channels = x.shape[1]
        # ONNX, PRelu: slopes broadcast in one direction, aligned at the end
        aligned = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
        if aligned.size == 1:
            return ctx.mb.prelu(x=x, alpha=np.full(channels, aligned.reshape(-1)[0], ctx.dtype))
        if rank == 4 and aligned.size == aligned.shape[1] == channels:
            return ctx.mb.prelu(x=x, alpha=aligned.reshape(-1))
    # the two parts of x have no number in common, so that their sum rounds nothing
    negative = ctx.mb.mul(x=ctx.mb.minimum(x=x, y=ctx.scalar(0)), y=slope)
    return ctx.mb.add(x=ctx.mb.relu(x=x), y=negative)


@lowering("Elu", channelwise=True)
def elu(ctx: Context, x: Operand, *, alpha: float = 1.0) -> Result:
    return ctx.mb.elu(x=x, alpha=ctx.scalar(alpha))


@lowering("Selu", flattens=True)
def selu(ctx: Context, x: Operand, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> Result:
    return ctx.mb.mul(x=ctx.mb.elu(x=x, alpha=ctx.scalar(alpha)), y=ctx.scalar(gamma))


@lowering("Celu", flattens=True)
def celu(ctx: Context, x: Operand, *, alpha: float = 1.0) -> Result:
    """max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)"""
    # alpha elu(x / alpha): MIL's elu has its alpha before the exponential alone
    scaled = ctx.mb.mul(x=x, y=ctx.scalar(1 / alpha))
    return ctx.mb.mul(x=ctx.mb.elu(x=scaled, alpha=ctx.scalar(1)), y=ctx.scalar(alpha))


@lowering("HardSigmoid", error="bounded", channelwise=True, flattens=True)
def hard_sigmoid(ctx: Context, x: Operand, *, alpha: float = 0.2, beta: float = 0.5) -> Result:
    return ctx.mb.sigmoid_hard(x=x, alpha=ctx.scalar(alpha), beta=ctx.scalar(beta))


@lowering("HardSwish", channelwise=True, flattens=True)
def hard_swish(ctx: Context, x: Operand) -> Result:
    """x * hard_sigmoid(x, 1/6, 1/2)"""
    return ctx.mb.mul(x=x, y=ctx.mb.sigmoid_hard(x=x, alpha=ctx.scalar(1 / 6), beta=ctx.scalar(0.5)))


@lowering("ThresholdedRelu")
def thresholded_relu(ctx: Context, x: Operand, *, alpha: float = 1.0) -> Result:
    """x where x > alpha, else 0. MIL's own keeps x = alpha, and computes nothing else."""
    # thresholded_relu of MIL asks x >= alpha
    above = ctx.mb.greater(x=x, y=ctx.scalar(alpha))
    return ctx.mb.select(cond=above, a=x, b=ctx.scalar(0))


@lowering("Mish", flattens=True)
def mish(ctx: Context, x: Operand) -> Result:
    return ctx.mb.mul(x=x, y=ctx.mb.tanh(x=softplus(ctx, x)))


@lowering("Swish", flattens=True)
def swish(ctx: Context, x: Operand, *, alpha: float = 1.0) -> Result:
    if alpha == 1.0:
        return ctx.mb.silu(x=x)
    return ctx.mb.mul(x=x, y=ctx.mb.sigmoid(x=ctx.mb.mul(x=x, y=ctx.scalar(alpha))))


@lowering("Gelu", channelwise=True)
def gelu(ctx: Context, x: Operand, *, approximate: str = "none") -> Result:
    return ctx.mb.gelu(x=x, mode="TANH_APPROXIMATION" if approximate == "tanh" else "EXACT")


@lowering("Shrink")
def shrink(ctx: Context, x: Operand, *, bias: float = 0.0, lambd: float = 0.5) -> Result:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    low = ctx.mb.select(
        cond=ctx.mb.less(x=x, y=ctx.scalar(-lambd)), a=ctx.mb.add(x=x, y=ctx.scalar(bias)), b=ctx.scalar(0)
    )
    return ctx.mb.select(cond=ctx.mb.greater(x=x, y=ctx.scalar(lambd)), a=ctx.mb.sub(x=x, y=ctx.scalar(bias)), b=low)


@lowering("Softmax", since=13)
def softmax(ctx: Context, x: Operand, *, axis: int = -1) -> Result:
    return ctx.mb.softmax(x=_unmasked(ctx, x, axis), axis=axis)


def _unmasked(ctx: Context, x: Operand, axis: int) -> Operand:
    """The scores of a softmax, with something finite in each row where float16's masks added up to minus infinity.

    They are taken relative to the row's largest first, so that what is masked once still outweighs what is masked twice.
    """
    if not ctx.masked:
        return x
    lowest = ctx.scalar(-FLOAT16_MAX)
    largest = ctx.mb.maximum(x=ctx.mb.reduce_max(x=x, axes=[axis], keep_dims=True), y=lowest)
    return ctx.mb.maximum(x=ctx.mb.sub(x=x, y=largest), y=lowest)


@lowering("LogSoftmax", since=13)
def log_softmax(ctx: Context, x: Operand, *, axis: int = -1) -> Result:
    """x - max - log(sum(exp(x - max))), which float16 survives."""
    x = _unmasked(ctx, x, axis)
    shifted = ctx.mb.sub(x=x, y=ctx.mb.reduce_max(x=x, axes=[axis], keep_dims=True))
    return ctx.mb.sub(x=shifted, y=ctx.mb.reduce_log_sum_exp(x=shifted, axes=[axis], keep_dims=True))


@lowering("Hardmax", since=13)
def hardmax(ctx: Context, x: Operand, *, axis: int = -1) -> Result:
    """1 at the first largest element along ``axis``, 0 elsewhere."""
    axis %= ctx.rank(x)
    # of several largest ones the first, in both
    best = ctx.mb.reduce_argmax(x=x, axis=axis, keep_dims=False)
    length = ctx.shape(x)[axis]
    dtype = ctx.scalar(1)
    return ctx.mb.one_hot(indices=best, one_hot_vector_size=length, axis=axis, on_value=dtype, off_value=ctx.scalar(0))


@lowering("Softmax", "LogSoftmax", "Hardmax")
def flattening(ctx: Context, x: Operand, *, axis: int = 1) -> Result:
    """Until opset 12 all dimensions from ``axis`` on count as one."""
    newest = ONNX[ctx.node.op_type]
    return over_flattened(ctx, x, axis, lambda flat, over: newest(ctx, flat, axis=over))


def over_flattened(ctx: Context, x: Operand, axis: int, compute: Callable[[Operand, int], Result]) -> Result:
    """Applies ``compute(value, axis)`` to x flattened to two dimensions at ``axis``; at once where nothing is flattened."""
    rank = ctx.rank(x)
    axis %= rank
    if all(d == 1 for i, d in enumerate(x.shape) if i > axis):
        return compute(x, axis)
    shape = ctx.shape(x)
    # axis 0: one row, of which an empty product is 1
    rows = int(np.prod(shape[:axis], dtype=np.int64))
    flat = ctx.mb.reshape(x=x, shape=np.array([rows, -1], np.int32))
    return ctx.mb.reshape(x=compute(flat, 1), shape=np.array(shape, np.int32))
