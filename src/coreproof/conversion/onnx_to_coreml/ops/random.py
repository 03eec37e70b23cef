"""What depends on chance: random tensors, samples, and dropout. The numbers are Core ML's own; their distribution is ONNX's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.casting import cast_to
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name, is_known


def _seed(seed: float | None) -> np.int32:
    """The whole part of a seed; -1 draws other numbers at each run."""
    # ONNX's seed is a float, MIL's an int32 that is not negative
    return np.int32(-1 if seed is None else abs(int(seed)) % 2**31)


def _shape_of(ctx: Context, x: Operand) -> Operand:
    return np.array(x.shape, np.int32) if all(map(is_known, x.shape)) else ctx.mb.shape(x=x)


def _numbers(ctx: Context, made: Operand, dtype: int | None) -> Result:
    wanted = ir.DataType.FLOAT if dtype is None else ir.DataType(dtype)
    if not wanted.is_floating_point():
        raise ctx.refuse(f"random numbers of type {wanted.name}", "floats")
    return made


def _uniform(ctx: Context, shape: Operand, low: float, high: float, seed: float | None) -> Operand:
    return ctx.mb.random_uniform(shape=shape, low=ctx.scalar(low), high=ctx.scalar(high), seed=_seed(seed))


def _normal(ctx: Context, shape: Operand, mean: float, scale: float, seed: float | None) -> Operand:
    return ctx.mb.random_normal(shape=shape, mean=ctx.scalar(mean), stddev=ctx.scalar(scale), seed=_seed(seed))


@lowering("RandomUniform", random=True)
def random_uniform(
    ctx: Context,
    *,
    shape: Sequence[int],
    dtype: int | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> Result:
    return _numbers(ctx, _uniform(ctx, np.array(shape, np.int32), low, high, seed), dtype)


@lowering("RandomUniformLike", random=True)
def random_uniform_like(
    ctx: Context,
    x: Operand,
    *,
    dtype: int | None = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: float | None = None,
) -> Result:
    return _numbers(ctx, _uniform(ctx, _shape_of(ctx, x), low, high, seed), dtype)


@lowering("RandomNormal", random=True)
def random_normal(
    ctx: Context,
    *,
    shape: Sequence[int],
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Result:
    return _numbers(ctx, _normal(ctx, np.array(shape, np.int32), mean, scale, seed), dtype)


@lowering("RandomNormalLike", random=True)
def random_normal_like(
    ctx: Context,
    x: Operand,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Result:
    return _numbers(ctx, _normal(ctx, _shape_of(ctx, x), mean, scale, seed), dtype)


@lowering("Bernoulli", since=15, random=True)
def bernoulli(ctx: Context, x: Operand, *, dtype: int | None = None, seed: float | None = None) -> Result:
    """1 with the probability that the operand says, element by element; a number below it was drawn."""
    # drawn from [0, 1): a probability of 1 always hits, one of 0 never
    hit = ctx.mb.less(x=_uniform(ctx, _shape_of(ctx, x), 0.0, 1.0, seed), y=x)
    return ctx.mb.cast(x=hit, dtype=float_name(ctx)) if dtype is None else cast_to(ctx, hit, ir.DataType(dtype))


@lowering("Multinomial", since=7, random=True)
def multinomial(
    ctx: Context, x: Operand, *, dtype: int = int(ir.DataType.INT32), sample_size: int = 1, seed: float | None = None
) -> Result:
    """[batch, sample_size]: classes, drawn by their logarithmic probabilities."""
    # ONNX calls them unnormalised log-probabilities, which is what MIL calls logits
    drawn = ctx.mb.random_categorical(x=x, mode="logits", size=np.int32(sample_size), seed=_seed(seed))
    return cast_to(ctx, drawn, ir.DataType(dtype))


@lowering("Dropout", error="move", hands_on="whole")
def dropout(ctx: Context, data: Operand, *, ratio: float = 0.5) -> Result | tuple[Operand, ...]:
    return _unmasked(ctx, data)


@lowering("Dropout", since=12)
def dropout_12(
    ctx: Context,
    data: Operand,
    ratio: Operand | None = None,
    training_mode: Operand | None = None,
    *,
    seed: int | None = None,
) -> Result | tuple[Operand, ...]:
    """What trains drops elements by chance; whether it trains, and how many, may be fed."""
    training, share = _value(training_mode, False), _value(ratio, 0.5)
    if training is not None and not training:
        return _unmasked(ctx, data)
    if share is not None and not share:
        return _unmasked(ctx, data)
    if training is not None and share is not None:
        raise ctx.refuse("it drops elements by chance (training mode)", "a model for inference", "export in eval mode")
    mb = ctx.mb
    dropped = ctx.scalar(0.5) if ratio is None else ctx.scalar(share) if share is not None else _single(ctx, ratio)
    kept = mb.greater_equal(x=_uniform(ctx, _shape_of(ctx, data), 0.0, 1.0, seed), y=dropped)
    # what is kept is enlarged, so that the expected value stays (ONNX, Dropout)
    factor = mb.real_div(x=ctx.scalar(1), y=mb.sub(x=ctx.scalar(1), y=dropped))
    if training is None:
        off = mb.logical_not(x=cast(ctx, _single(ctx, training_mode), "bool"))
        kept = mb.logical_or(x=kept, y=off)
        factor = mb.select(cond=off, a=ctx.scalar(1), b=factor)
    made = mb.select(cond=kept, a=mb.mul(x=data, y=factor), b=ctx.scalar(0))
    return made if len(ctx.node.outputs) < 2 else (made, kept)


def _value(operand: Operand | None, default: float | bool) -> float | bool | None:
    """The number that an operand is known to be."""
    if operand is None:
        return default
    known = operand if isinstance(operand, np.ndarray) else operand.val
    return None if known is None else np.asarray(known).item()


def _single(ctx: Context, operand: Operand | None) -> Operand:
    assert operand is not None
    return ctx.mb.squeeze(x=ctx.mb.reshape(x=operand, shape=[1]), axes=[0])


def _unmasked(ctx: Context, data: Operand) -> Result | tuple[Operand, ...]:
    if len(ctx.node.outputs) < 2:
        return data
    # the mask of a Dropout that drops nothing
    return data, np.ones(ctx.shape(data), np.bool_)
