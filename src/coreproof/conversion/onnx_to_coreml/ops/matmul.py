"""MatMul and Gemm: Core ML's linear where the right operand is a constant matrix, its matmul elsewhere."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import expanded
from coreproof.conversion.onnx_to_coreml.packed import contiguous, moved, packed_array, packed_in

_LINEAR_RANKS = (1, 2, 3)
"""The ranks that linear is documented for."""


@lowering("MatMul")
def matmul(ctx: Context, a: Operand, b: Operand) -> Result:
    if isinstance(b, np.ndarray) and b.ndim == 2 and ctx.rank(a) in _LINEAR_RANKS and ctx.is_float(a):
        # linear holds its weight as [outputs, inputs]
        return ctx.mb.linear(x=a, weight=contiguous(moved(b, np.transpose)))
    ranks = ctx.rank(a), ctx.rank(b)
    left = expanded(ctx, a, [0]) if ranks[0] == 1 else a
    right = expanded(ctx, b, [1]) if ranks[1] == 1 else b
    product = ctx.mb.matmul(x=left, y=right)
    added = [axis for axis, rank in ((-2, ranks[0]), (-1, ranks[1])) if rank == 1]
    return ctx.mb.squeeze(x=product, axes=added) if added else product


@lowering("Gemm", error="linear", word="linear")
def gemm(
    ctx: Context,
    a: Operand,
    b: Operand,
    c: Operand | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    broadcast: int = 1,
) -> Result:
    """``broadcast`` was said until opset 6; since then C always is."""
    # matmul transposes by itself, linear does not
    left = ctx.mb.transpose(x=a, perm=[1, 0]) if transA and isinstance(b, np.ndarray) else a
    if isinstance(b, np.ndarray) and ctx.is_float(a):
        weight = _scaled(ctx, 1, alpha)
        bias = None if c is None or not isinstance(c, np.ndarray) else _bias(_scaled(ctx, 2, beta), b.shape[1 - transB])
        weight = contiguous(weight if transB else moved(weight, np.transpose))
        if c is None or bias is not None:
            return ctx.mb.linear(x=left, weight=weight, bias=bias)
        return _plus(ctx, ctx.mb.linear(x=left, weight=weight), c, beta)
    product = ctx.mb.matmul(x=left, y=b, transpose_x=bool(transA and left is a), transpose_y=bool(transB))
    if alpha != 1:
        product = ctx.mb.mul(x=product, y=_factor(ctx, product, alpha))
    return product if c is None else _plus(ctx, product, c, beta)


def _scaled(ctx: Context, index: int, factor: float) -> Array:
    """The constant times ``factor``, rounded once."""
    given = ctx.raw[index]
    packed = packed_in(given)
    if packed is not None:
        return packed_array(packed if factor == 1 else packed.times(factor), ctx.dtype)
    raw = np.asarray(given)
    return ctx.floats(raw if factor == 1 else raw.astype(np.float64) * factor)


def _bias(c: Array, columns: int) -> Array | None:
    """``c`` as one number for each column, if it is the same for all rows."""
    if c.ndim == 2 and c.shape[0] != 1:
        return None
    return np.ascontiguousarray(np.broadcast_to(c.reshape(-1), (columns,)))


def _plus(ctx: Context, product: Operand, c: Operand, beta: float) -> Result:
    if beta == 0:
        return product
    term: Operand
    if isinstance(c, np.ndarray):
        term = _scaled(ctx, 2, beta) if c.dtype.kind == "f" else (c * beta).astype(c.dtype)
    else:
        term = c if beta == 1 else ctx.mb.mul(x=c, y=_factor(ctx, c, beta))
    return ctx.mb.add(x=product, y=term)


def _factor(ctx: Context, x: Operand, factor: float) -> object:
    if ctx.is_float(x):
        return ctx.scalar(factor)
    if factor != int(factor):
        raise ctx.refuse(f"it scales integers by {factor}", "a whole factor")
    return np.int32(factor)
