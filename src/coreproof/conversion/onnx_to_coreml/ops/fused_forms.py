"""What ONNX Runtime's optimiser puts together (com.microsoft): an operator with its activation, its bias or its transposes.

The definitions are in ONNX Runtime's docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.convolution import conv
from coreproof.conversion.onnx_to_coreml.ops.elementwise import clip_attributes
from coreproof.conversion.onnx_to_coreml.ops.matmul import gemm, matmul
from coreproof.conversion.onnx_to_coreml.ops.quantized_forms import MICROSOFT
from coreproof.conversion.onnx_to_coreml.ops.recurrent import PARAMETERS, Activation


def _activated(ctx: Context, x: Operand, activation: str, parameters: Sequence[float]) -> Operand:
    """The activations that the optimiser fuses, with their attributes in the order of their definition."""
    if not activation:
        return x
    # as Clip itself: without limits it clips nothing
    usual = (-np.inf, np.inf) if activation == "Clip" else PARAMETERS.get(activation, (None, None))
    alpha, beta = (float(number or 0.0) for number in (*parameters[:2], *usual[len(parameters) :]))
    if activation == "Clip":
        return clip_attributes(ctx, x, min=alpha, max=beta)
    return Activation(activation, alpha, beta).apply(ctx, x)


@lowering("FusedConv", domain=MICROSOFT, error="linear", word="conv")
def fused_conv(
    ctx: Context,
    x: Operand,
    w: Operand,
    b: Operand | None = None,
    z: Operand | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    **attributes: Any,
) -> Result:
    """activation(Conv(x, w, b) + z)"""
    made = conv(ctx, x, w, b, **attributes)
    return _activated(ctx, made if z is None else ctx.mb.add(x=made, y=z), activation, activation_params)


@lowering("FusedGemm", domain=MICROSOFT, error="linear", word="linear")
def fused_gemm(
    ctx: Context,
    a: Operand,
    b: Operand,
    c: Operand | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    **attributes: Any,
) -> Result:
    said = [p for p in (activation_alpha, activation_beta, activation_gamma) if p is not None]
    return _activated(ctx, gemm(ctx, a, b, c, **attributes), activation, said)


@lowering("FusedMatMul", "TransposeMatMul", domain=MICROSOFT, error="linear", word="linear")
def fused_matmul(
    ctx: Context,
    a: Operand,
    b: Operand,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Result:
    """alpha * A B; each may be transposed in its last two axes, or have its first axis moved before its last (transBatch).

    A vector is not transposed.
    """
    left, right = _turned(ctx, a, transA, transBatchA), _turned(ctx, b, transB, transBatchB)
    if alpha != 1 and isinstance(right, np.ndarray):
        # known weights take the factor, rounded once; no multiplication is left to run
        return matmul(ctx, left, ctx.floats(right.astype(np.float64) * alpha))
    product = matmul(ctx, left, right)
    return product if alpha == 1 else ctx.mb.mul(x=product, y=ctx.scalar(alpha))


def _turned(ctx: Context, x: Operand, transposed: int, batch: int) -> Operand:
    rank = ctx.rank(x)
    order = list(range(rank))
    if rank < 2:
        return x
    if batch:
        # transBatch: the first axis comes to stand just before the last
        order = [*order[1:-1], 0, order[-1]]
    if transposed:
        order = [*order[:-2], order[-1], order[-2]]
    if order == sorted(order):
        return x
    return np.ascontiguousarray(x.transpose(order)) if isinstance(x, np.ndarray) else ctx.mb.transpose(x=x, perm=order)


@lowering("Gelu", domain=MICROSOFT)
def gelu(ctx: Context, x: Operand) -> Result:
    return ctx.mb.gelu(x=x, mode="EXACT")


@lowering("BiasGelu", domain=MICROSOFT)
def bias_gelu(ctx: Context, a: Operand, b: Operand) -> Result:
    return ctx.mb.gelu(x=ctx.mb.add(x=a, y=b), mode="EXACT")


@lowering("FastGelu", domain=MICROSOFT)
def fast_gelu(ctx: Context, x: Operand, bias: Operand | None = None) -> Result:
    """By the hyperbolic tangent."""
    return ctx.mb.gelu(x=x if bias is None else ctx.mb.add(x=x, y=bias), mode="TANH_APPROXIMATION")


@lowering("QuickGelu", domain=MICROSOFT)
def quick_gelu(ctx: Context, x: Operand, *, alpha: float = 1.702) -> Result:
    """x * sigmoid(alpha * x)"""
    return ctx.mb.mul(x=x, y=ctx.mb.sigmoid(x=ctx.mb.mul(x=x, y=ctx.scalar(alpha))))


@lowering("GemmFastGelu", domain=MICROSOFT)
def gemm_fast_gelu(ctx: Context, x: Operand, w: Operand, bias: Operand | None = None) -> Result:
    return fast_gelu(ctx, matmul(ctx, x, w), bias)


@lowering("BiasSplitGelu", domain=MICROSOFT)
def bias_split_gelu(ctx: Context, x: Operand, bias: Operand) -> Result:
    """The first half times the GELU of the second."""
    left, right = several(ctx.mb.split(x=ctx.mb.add(x=x, y=bias), num_splits=2, axis=-1))
    return ctx.mb.mul(x=left, y=ctx.mb.gelu(x=right, mode="EXACT"))


@lowering("BiasAdd", domain=MICROSOFT)
def bias_add(ctx: Context, x: Operand, bias: Operand, skip: Operand) -> Result:
    return ctx.mb.add(x=ctx.mb.add(x=x, y=bias), y=skip)
