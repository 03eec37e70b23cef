"""MIL's normalisations in Core AI's operations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.mil_to_coreai.ops.activation import per_channel
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates, ui


@translates("batch_norm", in_float32=True)
def batch_norm(
    t: Translation,
    *,
    x: Operand,
    mean: Operand,
    variance: Operand,
    gamma: Operand = None,
    beta: Operand = None,
    epsilon: Operand = 1e-5,
) -> Tensor:
    scale = t.unary("rsqrt", t.binary("add", variance, epsilon))
    if gamma is not None:
        scale = t.binary("mul", scale, gamma)
    centred = t.binary("sub", x, per_channel(t, x, mean))
    made = t.binary("mul", centred, per_channel(t, x, scale))
    return made if beta is None else t.binary("add", made, per_channel(t, x, beta))


@translates("instance_norm", in_float32=True)
def instance_norm(
    t: Translation, *, x: Operand, gamma: Operand = None, beta: Operand = None, epsilon: Operand = 1e-5
) -> Tensor:
    made = _normal(t, x, list(range(2, t.rank(x))), epsilon)
    if gamma is not None:
        made = t.binary("mul", made, per_channel(t, made, gamma))
    return made if beta is None else t.binary("add", made, per_channel(t, made, beta))


@translates("layer_norm", in_float32=True)
def layer_norm(
    t: Translation,
    *,
    x: Operand,
    axes: Sequence[int] | None = None,
    gamma: Operand = None,
    beta: Operand = None,
    epsilon: Operand = 1e-5,
) -> Tensor:
    rank = t.rank(x)
    over = t.axes(axes, rank)
    made = _normal(t, x, over, epsilon)
    for kind, given in (("mul", gamma), ("add", beta)):
        if given is not None:
            made = t.binary(kind, made, _along(t, given, over, rank))
    return made


def _along(t: Translation, given: Operand, over: Sequence[int], rank: int) -> Tensor:
    """One number for each element of the axes that are normalised, where they stand."""
    value = t.value(given)
    return t.expand_dims(value, [a - over[0] for a in range(over[0], rank) if a not in over])


def _normal(t: Translation, x: Operand, over: Sequence[int], epsilon: Operand) -> Tensor:
    """With mean 0 and variance 1 over these axes."""
    centred = t.binary("sub", x, t.reduce("reduce_mean", x, over))
    variance = t.reduce("reduce_mean", t.binary("mul", centred, centred), over)
    return t.binary("mul", centred, t.unary("rsqrt", t.binary("add", variance, epsilon)))


@translates("l2_norm", in_float32=True)
def l2_norm(t: Translation, *, x: Operand, epsilon: Operand = 1e-6) -> Tensor:
    rank = t.rank(x)
    total = t.reduce("reduce_sum", t.binary("mul", x, x), t.axes([-3, -2, -1], rank))
    return t.binary("divide", x, t.unary("sqrt", t.binary("add", total, epsilon)))


@translates("local_response_norm", in_float32=True)
def local_response_norm(
    t: Translation, *, x: Operand, size: int, alpha: Operand = 1e-4, beta: Operand = 0.75, k: Operand = 1.0
) -> Tensor:
    value = t.value(x)
    lengths = t.fixed(value.shape)
    at = 0 if len(lengths) == 3 else 1  # rank 3 is [C, H, W] to Core ML
    front, channels = (lengths[0] if at else 1), lengths[at]
    rows = t.reshape(t.binary("mul", value, value), [front, 1, channels, int(np.prod(lengths[at + 1 :]))])
    # an even window reaches one channel further back
    padded = t.pad(rows, [(0, 0), (0, 0), (int(size) // 2, (int(size) - 1) // 2), (0, 0)])
    total = t.op("sum_pool_2d", padded, ui([int(size), 1]), ui([1, 1]), ui([1, 1]), shape=rows.shape)
    share = t.binary("divide", total, float(size))
    scale = t.binary("pow", t.binary("add", t.binary("mul", share, alpha), k), beta)
    return t.binary("divide", value, t.reshape(scale, lengths))
