"""Normalisations."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand


@lowering("BatchNormalization", error="norm", word="norm")
def batch_normalization(
    ctx: Context,
    x: Operand,
    scale: Operand,
    bias: Operand,
    mean: Operand,
    variance: Operand,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Result | list[Operand]:
    """With the stored statistics. Ranks that MIL's batch_norm does not take become scale and offset."""
    if not spatial:
        raise ctx.refuse("statistics of each place (spatial = 0)", "one number a channel", "write it with Sub and Mul")
    if training_mode:
        return _trained(ctx, x, (scale, bias, mean, variance), epsilon, momentum)
    if not all(isinstance(v, np.ndarray) for v in (scale, bias, mean, variance)):
        return _scaled(ctx, x, (scale, bias, mean, variance), epsilon)
    known = [ctx.constant(v, n) for v, n in ((scale, "scale"), (bias, "B"), (mean, "mean"), (variance, "var"))]
    stored = [r if isinstance(r, np.ndarray) else k for r, k in zip(ctx.raw[1:5], known, strict=True)]
    # MIL computes the root in the compute dtype: variances near float16's end would vanish in it
    if ctx.rank(x) in (3, 4, 5) and _is_held(ctx, stored[3], epsilon):
        return ctx.mb.batch_norm(
            x=x, gamma=known[0], beta=known[1], mean=known[2], variance=known[3], epsilon=ctx.epsilon(epsilon)
        )
    # in float64, so that factor and offset are rounded once, to what is computed in
    wide = [v.astype(np.float64) for v in stored]
    factor = wide[0] / np.sqrt(wide[3] + epsilon)
    shape = [1, -1, *[1] * (ctx.rank(x) - 2)]
    scaled = ctx.mb.mul(x=x, y=ctx.floats(factor.reshape(shape)))
    return ctx.mb.add(x=scaled, y=ctx.floats((wide[1] - wide[2] * factor).reshape(shape)))


def along_channels(ctx: Context, v: Operand, rank: int) -> Operand:
    """One number a channel, so shaped that it broadcasts over [batch, channels, ...]."""
    shape = [1, -1, *[1] * (rank - 2)]
    return v.reshape(shape) if isinstance(v, np.ndarray) else ctx.mb.reshape(x=v, shape=shape)


def _scaled(ctx: Context, x: Operand, parameters: tuple[Operand, ...], epsilon: float) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, of parameters that are computed while the model runs."""
    mb = ctx.mb
    scale, bias, mean, variance = (along_channels(ctx, v, ctx.rank(x)) for v in parameters)
    # the order of the definition: the quotient of two small numbers is taken before it is scaled
    deviation = mb.sqrt(x=mb.add(x=variance, y=ctx.epsilon(epsilon)))
    normal = mb.real_div(x=mb.sub(x=x, y=mean), y=deviation)
    return mb.add(x=mb.mul(x=normal, y=scale), y=bias)


def _trained(
    ctx: Context, x: Operand, parameters: tuple[Operand, ...], epsilon: float, momentum: float
) -> list[Operand]:
    """With the statistics of what is fed; the running ones move towards them."""
    mb, axes = ctx.mb, [i for i in range(ctx.rank(x)) if i != 1]
    scale, bias, *running = parameters
    mean = mb.reduce_mean(x=x, axes=axes, keep_dims=False)
    centred = mb.sub(x=x, y=along_channels(ctx, mean, ctx.rank(x)))
    # ONNX takes the variance of the population (divided by N), as PyTorch normalises; its running one would be divided by N - 1
    variance = mb.reduce_mean(x=mb.square(x=centred), axes=axes, keep_dims=False)
    ctx.notes.append(
        f"{ctx.node.outputs[0].name!r} is normalised by the statistics of what is fed (training mode), as in the source; "
        "a model for inference is exported in eval()"
    )
    made: list[Operand] = [_scaled(ctx, x, (scale, bias, mean, variance), epsilon)]
    for old, new in zip(running, (mean, variance), strict=True):
        share = mb.mul(x=new, y=ctx.scalar(1 - momentum))
        made.append(mb.add(x=mb.mul(x=old, y=ctx.scalar(momentum)), y=share))
    # before opset 14 the statistics of what is fed are handed out as well
    return [*made, mean, variance][: len(ctx.node.outputs)]


def _is_held(ctx: Context, variance: np.ndarray, epsilon: float) -> bool:
    """Whether the compute dtype holds the variances and the epsilon well enough for their root: not so where they vanish."""
    exact = variance.astype(np.float64) + epsilon
    held = ctx.floats(variance).astype(np.float64) + float(ctx.epsilon(epsilon))
    # a few roundings: the variance, the epsilon, their sum
    return bool((np.abs(held - exact) <= 4 * np.finfo(ctx.dtype).eps * exact).all())


@lowering("InstanceNormalization", error="norm")
def instance_normalization(ctx: Context, x: Operand, scale: Operand, b: Operand, *, epsilon: float = 1e-5) -> Result:
    # instance_norm of MIL takes rank 3 and 4, and constants
    if ctx.rank(x) in (3, 4) and isinstance(scale, np.ndarray) and isinstance(b, np.ndarray):
        return ctx.mb.instance_norm(x=x, gamma=scale, beta=b, epsilon=ctx.epsilon(epsilon))
    normal = normalize(ctx, x, list(range(2, ctx.rank(x))), epsilon)
    scaled = ctx.mb.mul(x=normal, y=along_channels(ctx, scale, ctx.rank(x)))
    return ctx.mb.add(x=scaled, y=along_channels(ctx, b, ctx.rank(x)))


def normalize(ctx: Context, x: Operand, axes: list[int], epsilon: float) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) over ``axes``."""
    _, centred, deviation = _statistics(ctx, x, axes, epsilon)
    return ctx.mb.real_div(x=centred, y=deviation)


def _statistics(ctx: Context, x: Operand, axes: list[int], epsilon: float) -> tuple[Operand, Operand, Operand]:
    """The mean over ``axes``, what is left without it, and sqrt(variance + epsilon)."""
    mean = ctx.mb.reduce_mean(x=x, axes=axes, keep_dims=True)
    centred = ctx.mb.sub(x=x, y=mean)
    # of what is centred: mean(x^2) - mean(x)^2 cancels where the mean is large
    variance = ctx.mb.reduce_mean(x=ctx.mb.square(x=centred), axes=axes, keep_dims=True)
    guarded = ctx.mb.add(x=variance, y=ctx.epsilon(epsilon)) if epsilon else variance
    return mean, centred, ctx.mb.sqrt(x=guarded)


@lowering("LayerNormalization", error="norm", word="layernorm")
def layer_normalization(
    ctx: Context,
    x: Operand,
    scale: Operand,
    b: Operand | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Result | tuple[Operand, ...]:
    rank = ctx.rank(x)
    axes = list(range(axis % rank, rank))
    if len(ctx.node.outputs) > 1 and any(o.uses() or o.is_graph_output() for o in ctx.node.outputs[1:]):
        return layer_normalized_with_statistics(ctx, x, scale, b, axes, epsilon)
    return layer_normalized(ctx, x, scale, b, axes, epsilon)


def layer_normalized(
    ctx: Context, x: Operand, scale: Operand, b: Operand | None, axes: list[int], epsilon: float
) -> Operand:
    """(x - mean) / sqrt(variance + epsilon) * scale + b over the last axes."""
    lengths = [x.shape[a] for a in axes]
    known = isinstance(scale, np.ndarray) and (b is None or isinstance(b, np.ndarray))
    if known and all(isinstance(n, int) for n in lengths):
        gamma = np.broadcast_to(np.asarray(scale), lengths)
        beta = None if b is None else np.broadcast_to(np.asarray(b), lengths)
        return ctx.mb.layer_norm(
            x=x, axes=axes, gamma=np.ascontiguousarray(gamma),
            beta=np.zeros_like(gamma) if beta is None else np.ascontiguousarray(beta), epsilon=ctx.epsilon(epsilon),
        )  # fmt: skip
    scaled = ctx.mb.mul(x=normalize(ctx, x, axes, epsilon), y=scale)
    return scaled if b is None else ctx.mb.add(x=scaled, y=b)


def layer_normalized_with_statistics(
    ctx: Context, x: Operand, scale: Operand, b: Operand | None, axes: list[int], epsilon: float
) -> tuple[Operand, ...]:
    """The normalised output, the mean, and the inverse of the standard deviation, where a model asks for all three."""
    mean, centred, deviation = _statistics(ctx, x, axes, epsilon)
    inverse = ctx.mb.real_div(x=ctx.scalar(1.0), y=deviation)
    scaled = ctx.mb.mul(x=ctx.mb.mul(x=centred, y=inverse), y=scale)
    return scaled if b is None else ctx.mb.add(x=scaled, y=b), mean, inverse


@lowering("RMSNormalization", error="norm")
def rms_normalization(
    ctx: Context, x: Operand, scale: Operand, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Result:
    """x / sqrt(mean(x^2) + epsilon) * scale"""
    axes = list(range(axis % ctx.rank(x), ctx.rank(x)))
    power = ctx.mb.reduce_mean(x=ctx.mb.square(x=x), axes=axes, keep_dims=True)
    root = ctx.mb.sqrt(x=ctx.mb.add(x=power, y=ctx.epsilon(epsilon)))
    return ctx.mb.mul(x=ctx.mb.real_div(x=x, y=root), y=scale)


@lowering("GroupNormalization", since=18, error="norm")
def group_normalization_by_group(
    ctx: Context, x: Operand, scale: Operand, bias: Operand, *, num_groups: int, epsilon: float = 1e-5
) -> Result:
    """Opset 18 to 20: one scale and bias a group."""
    channels = ctx.shape(x)[1]
    repeat = channels // num_groups
    return group_normalization(
        ctx,
        x,
        _repeated(ctx, scale, repeat),
        _repeated(ctx, bias, repeat),
        num_groups=num_groups,
        epsilon=epsilon,
    )


def _repeated(ctx: Context, v: Operand, times: int) -> Operand:
    """Each number so many times, one after another."""
    if isinstance(v, np.ndarray):
        return np.repeat(v, times)
    return ctx.mb.reshape(x=ctx.mb.tile(x=ctx.mb.expand_dims(x=v, axes=[1]), reps=[1, times]), shape=[-1])


@lowering("GroupNormalization", since=21)
def group_normalization(
    ctx: Context,
    x: Operand,
    scale: Operand,
    bias: Operand,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Result:
    """Each group of channels is normalised as one; scale and bias are one a channel."""
    shape = ctx.shape(x)
    # channels lie behind each other, so that a group is one run of memory
    grouped = ctx.mb.reshape(x=x, shape=[shape[0], num_groups, -1])
    normal = ctx.mb.reshape(x=normalize(ctx, grouped, [2], epsilon), shape=list(shape))
    scaled = ctx.mb.mul(x=normal, y=along_channels(ctx, scale, len(shape)))
    return ctx.mb.add(x=scaled, y=along_channels(ctx, bias, len(shape)))


@lowering("LRN")
def lrn(ctx: Context, x: Operand, *, size: int, alpha: float = 0.0001, beta: float = 0.75, bias: float = 1.0) -> Result:
    """ONNX centres an even window one channel lower than MIL's local_response_norm may; odd sizes are the same."""
    if size % 2 == 0:
        raise ctx.refuse(f"an even size {size}", "an odd number of channels")
    return ctx.mb.local_response_norm(
        x=x, size=size, alpha=ctx.scalar(alpha), beta=ctx.scalar(beta), k=ctx.scalar(bias)
    )


@lowering("LpNormalization", error="norm")
def lp_normalization(ctx: Context, x: Operand, *, axis: int = -1, p: int = 2) -> Result:
    """x / norm, and 0 where the norm is 0."""
    reduce = ctx.mb.reduce_l1_norm if p == 1 else ctx.mb.reduce_l2_norm
    norm = reduce(x=x, axes=[axis], keep_dims=True)
    # 0 divided by a smallest number is 0, divided by 0 it is NaN
    return ctx.mb.real_div(x=x, y=ctx.mb.maximum(x=norm, y=ctx.epsilon(float(np.finfo(np.float32).tiny))))


@lowering("MeanVarianceNormalization")
def mean_variance_normalization(ctx: Context, x: Operand, *, axes: tuple[int, ...] = (0, 2, 3)) -> Result:
    """(x - mean) / (sqrt(variance) + 1e-9): ONNX's definition adds it behind the root."""
    _, centred, deviation = _statistics(ctx, x, list(axes), 0.0)
    return ctx.mb.real_div(x=centred, y=ctx.mb.add(x=deviation, y=ctx.epsilon(1e-9)))
