"""MIL's normalisations: batch, instance, layer, l2 and local response."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("batch_norm", error="norm", word="norm", weights_may_vary=True)
def batch_norm(
    low: Lowering,
    *,
    x: Operand,
    mean: Operand,
    variance: Operand,
    gamma: Operand = None,
    beta: Operand = None,
    epsilon: float = 1e-5,
) -> ir.Value:
    channels = low.shape(mean)[0]
    scale = np.ones(channels or 1, np.float32) if gamma is None else gamma
    shift = np.zeros(channels or 1, np.float32) if beta is None else beta
    return low.op("BatchNormalization", x, scale, shift, mean, variance, epsilon=float(epsilon))


@lowers("instance_norm", error="norm", weights_may_vary=True)
def instance_norm(
    low: Lowering, *, x: Operand, gamma: Operand = None, beta: Operand = None, epsilon: float = 1e-5
) -> ir.Value:
    channels = low.shape(x)[1]
    if channels is None:
        channels = next((low.shape(v)[0] for v in (gamma, beta) if v is not None), None)
    if channels is None:
        raise low.refuse("the number of channels is not known")
    scale = np.ones(channels, np.float32) if gamma is None else gamma
    shift = np.zeros(channels, np.float32) if beta is None else beta
    return low.op("InstanceNormalization", x, scale, shift, epsilon=float(epsilon))


@lowers("l2_norm", error="norm")
def l2_norm(low: Lowering, *, x: Operand, epsilon: float = 1e-6) -> ir.Value:
    # MIL, l2_norm: the last three dimensions are taken together
    total = low.op("ReduceSumSquare", x, [-3, -2, -1], keepdims=1)
    return low.op("Div", x, low.op("Sqrt", low.op("Add", total, epsilon)))


@lowers("layer_norm", error="norm")
def layer_norm(
    low: Lowering,
    *,
    x: Operand,
    axes: Sequence[int] | None = None,
    gamma: Operand = None,
    beta: Operand = None,
    epsilon: float = 1e-5,
) -> ir.Value:
    shape = low.shape(x)
    rank = len(shape)
    over = sorted(int(a) % rank for a in axes) if axes is not None else list(range(rank))
    # ONNX's LayerNormalization takes the last dimensions together, and no others
    if over == list(range(rank - len(over), rank)) and (gamma is not None or all(shape[a] is not None for a in over)):
        scale = np.ones([shape[a] or 0 for a in over], np.float32) if gamma is None else gamma
        return low.op("LayerNormalization", x, scale, beta, axis=over[0], epsilon=float(epsilon))
    elements = [shape[a] for a in over]
    for name, given in (("gamma", gamma), ("beta", beta)):
        fits = (
            given is None
            or None in elements
            or np.size(low.constant(given, name)) == math.prod(n or 0 for n in elements)
        )
        if not fits:
            raise low.refuse(
                f"its {name} does not fit the axes", expected=elements, found=np.shape(low.constant(given, name))
            )
    axis = np.array(over, np.int64)
    centred = low.op("Sub", x, low.op("ReduceMean", x, axis, keepdims=1))
    variance = low.op("ReduceMean", low.op("Mul", centred, centred), axis, keepdims=1)
    result = low.op("Div", centred, low.op("Sqrt", low.op("Add", variance, epsilon)))
    along = [shape[a] if a in over else 1 for a in range(rank)]
    if gamma is not None:
        result = low.op("Mul", result, np.reshape(low.constant(gamma, "gamma"), [n or -1 for n in along]))
    if beta is not None:
        result = low.op("Add", result, np.reshape(low.constant(beta, "beta"), [n or -1 for n in along]))
    return result


@lowers("local_response_norm")
def local_response_norm(
    low: Lowering, *, x: Operand, size: int, alpha: Operand = 1e-4, beta: Operand = 0.75, k: Operand = 1.0
) -> ir.Value:
    # ONNX Runtime's LRN takes odd sizes and rank 4 only; a mean over a window of channels is the same sum / size.
    # Rank 3 is [C, H, W] to Core ML: Apple's test for it has the window along dimension 0.
    dims = low.dims(x)
    at = 0 if low.rank(x) == 3 else 1
    channels, before_it = (low.op("Slice", dims, [i], [j]) for i, j in ((at, at + 1), (0, at)))
    lengths = low.op("Concat", *([[1]] if at == 0 else [before_it]), [1], channels, [-1], axis=0)
    rows = low.op("Reshape", low.op("Mul", x, x), lengths)
    # an even window reaches one channel further back
    before, after = int(size) // 2, (int(size) - 1) // 2
    mean = low.op("AveragePool", rows, kernel_shape=[int(size), 1], pads=[before, 0, after, 0], count_include_pad=1)
    scale = low.op("Pow", low.op("Add", low.op("Mul", mean, alpha), k), beta)
    return low.op("Div", x, low.op("Reshape", scale, dims))
