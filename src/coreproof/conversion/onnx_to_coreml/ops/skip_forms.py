"""Normalisations of sums, as ONNX Runtime's optimiser fuses them (com.microsoft), and in the form it had before opset 23."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import is_known
from coreproof.conversion.onnx_to_coreml.ops.indexing import gather, part
from coreproof.conversion.onnx_to_coreml.ops.normalization import (
    layer_normalized,
    layer_normalized_with_statistics,
    normalize,
)
from coreproof.conversion.onnx_to_coreml.ops.quantized_forms import MICROSOFT

_EPSILON = 1e-12
"""Of com.microsoft's normalisations of sums where none is given (ONNX Runtime's schemas); the standard's own have 1e-5."""


def _is_asked(ctx: Context, index: int) -> bool:
    outputs = ctx.node.outputs
    return index < len(outputs) and bool(outputs[index].uses() or outputs[index].is_graph_output())


def _root(ctx: Context, x: Operand, axes: list[int], epsilon: float) -> Operand:
    """1 / sqrt(mean(x^2) + epsilon)"""
    power = ctx.mb.reduce_mean(x=ctx.mb.square(x=x), axes=axes, keep_dims=True)
    return ctx.mb.real_div(x=ctx.scalar(1), y=ctx.mb.sqrt(x=ctx.mb.add(x=power, y=ctx.epsilon(epsilon))))


@lowering("SimplifiedLayerNormalization", error="norm")
def simplified_layer_normalization(
    ctx: Context, x: Operand, scale: Operand, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> list[Operand]:
    """x / sqrt(mean(x^2) + epsilon) * scale, and the inverse of the root."""
    inverse = _root(ctx, x, list(range(axis % ctx.rank(x), ctx.rank(x))), epsilon)
    return [ctx.mb.mul(x=ctx.mb.mul(x=x, y=inverse), y=scale), inverse]


@lowering("SkipSimplifiedLayerNormalization", domain=MICROSOFT, error="norm")
def skip_simplified_layer_normalization(
    ctx: Context, x: Operand, skip: Operand, gamma: Operand, bias: Operand | None = None, *, epsilon: float = _EPSILON
) -> list[Operand]:
    """The root mean square normalisation of x + skip + bias; the sum itself is the last output."""
    total = _sum(ctx, x, skip, bias)
    inverse = _root(ctx, total, [ctx.rank(total) - 1], epsilon)
    # the mean, which nothing takes off here, is no result
    return [ctx.mb.mul(x=ctx.mb.mul(x=total, y=inverse), y=gamma), inverse, inverse, total]


@lowering("SkipLayerNormalization", domain=MICROSOFT, error="norm")
def skip_layer_normalization(
    ctx: Context,
    x: Operand,
    skip: Operand,
    gamma: Operand,
    beta: Operand | None = None,
    bias: Operand | None = None,
    *,
    epsilon: float = _EPSILON,
) -> list[Operand]:
    """The layer normalisation of x + skip + bias, its mean and inverse deviation, and the sum."""
    total = _sum(ctx, x, skip, bias)
    axes = [ctx.rank(total) - 1]
    if _is_asked(ctx, 1) or _is_asked(ctx, 2):
        return [*layer_normalized_with_statistics(ctx, total, gamma, beta, axes, epsilon), total]
    made = layer_normalized(ctx, total, gamma, beta, axes, epsilon)
    # mean and deviation are asked for by nobody, so that any value may stand in their places
    return [made, made, made, total]


def _sum(ctx: Context, x: Operand, skip: Operand, bias: Operand | None) -> Operand:
    total = ctx.mb.add(x=x, y=skip)
    return total if bias is None else ctx.mb.add(x=total, y=bias)


@lowering("EmbedLayerNormalization", domain=MICROSOFT, error="norm")
def embed_layer_normalization(
    ctx: Context,
    ids: Operand,
    segments: Operand | None,
    words: Operand,
    positions: Operand,
    segment_rows: Operand | None = None,
    gamma: Operand | None = None,
    beta: Operand | None = None,
    mask: Operand | None = None,
    places: Operand | None = None,
    *,
    epsilon: float = _EPSILON,
    mask_index_type: int = 0,
) -> list[Operand]:
    """The layer normalisation of a token's row, its position's and its segment's; how many tokens count; the sum."""
    mb = ctx.mb
    assert gamma is not None
    length = ids.shape[1]
    if places is not None:
        own = gather(ctx, positions, places, axis=0)
    elif is_known(length):
        # without places the tokens stand at 0, 1, 2, ...
        own = part(ctx, positions, 0, 0, int(length))
    else:
        end = mb.squeeze(x=mb.slice_by_index(x=mb.shape(x=ids), begin=[1], end=[2]), axes=[0])
        own = mb.gather(x=positions, indices=mb.range_1d(start=np.int32(0), end=end, step=np.int32(1)), axis=0)
    total = mb.add(x=gather(ctx, words, ids, axis=0), y=own)
    if segment_rows is not None and segments is not None:
        total = mb.add(x=total, y=gather(ctx, segment_rows, segments, axis=0))
    made = layer_normalized(ctx, total, gamma, beta, [2], epsilon)
    counted: Operand = np.zeros(int(ids.shape[0]) if is_known(ids.shape[0]) else 1, np.int32)
    if mask is not None:
        counted = mb.reduce_sum(x=mask, axes=[1], keep_dims=False)
    return [made, counted, total]


@lowering("GroupNorm", domain=MICROSOFT, error="norm")
def group_norm(
    ctx: Context,
    x: Operand,
    gamma: Operand,
    beta: Operand,
    *,
    groups: int,
    activation: int = 0,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Result:
    """Of pictures whose channels stand last; with an activation SiLU comes behind it."""
    mb = ctx.mb
    moved = mb.transpose(x=x, perm=[0, 3, 1, 2]) if channels_last else x
    batch, *rest = ctx.shape(moved)
    grouped = mb.reshape(x=moved, shape=[batch, groups, -1])
    normal = mb.reshape(x=normalize(ctx, grouped, [2], epsilon), shape=[batch, *rest])
    if channels_last:
        normal = mb.transpose(x=normal, perm=[0, 2, 3, 1])
        made = mb.add(x=mb.mul(x=normal, y=gamma), y=beta)
    else:
        scale, shift = (mb.reshape(x=v, shape=[1, -1, 1, 1]) for v in (gamma, beta))
        made = mb.add(x=mb.mul(x=normal, y=scale), y=shift)
    return mb.silu(x=made) if activation else made
