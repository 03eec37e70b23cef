"""Whole matrices: the unit matrix, determinants and inverses."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.casting import cast_to
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name, name_of
from coreproof.conversion.onnx_to_coreml.ops.indexing import part
from coreproof.conversion.onnx_to_coreml.ops.quantized_forms import MICROSOFT

_LARGEST = 32
"""Rows up to which a determinant's elimination is written out."""


@lowering("EyeLike")
def eye_like(ctx: Context, x: Operand, *, dtype: int | None = None, k: int = 0) -> Result:
    """Only the shape of ``x`` counts, and its dtype where none is said."""
    rows, columns = ctx.shape(x)
    eye: Array = np.eye(rows, columns, k=k)
    if dtype is None:
        return cast(ctx, eye.astype(ctx.dtype), name_of(ctx, x))
    return cast_to(ctx, eye.astype(ctx.dtype), ir.DataType(dtype))


@lowering("Det", error="linear")
def determinant(ctx: Context, x: Operand) -> Result:
    """Elimination with the largest element of a column as its pivot, a row and a column less at each step."""
    mb = ctx.mb
    rows = _side(ctx, x)
    result: Operand | None = None
    for size in range(rows, 0, -1):
        if size == 1:
            last = mb.squeeze(x=x, axes=[-2, -1])
            return last if result is None else mb.mul(x=result, y=last)
        column = part(ctx, x, -1, 0, 1)
        largest = mb.reduce_argmax(x=mb.abs(x=column), axis=-2, keep_dims=True)
        numbers = np.arange(size, dtype=np.int32).reshape(size, 1)
        chosen = mb.cast(x=mb.equal(x=numbers, y=largest), dtype=float_name(ctx))
        row = mb.reduce_sum(x=mb.mul(x=x, y=chosen), axes=[-2], keep_dims=True)
        first = part(ctx, x, -2, 0, 1)
        rest = part(
            ctx, mb.add(x=x, y=mb.mul(x=chosen, y=mb.sub(x=first, y=row))), -2, 1, size
        )  # the first row in its place
        pivot = part(ctx, row, -1, 0, 1)
        nothing = mb.equal(x=pivot, y=ctx.scalar(0))
        factor = mb.real_div(x=part(ctx, rest, -1, 0, 1), y=mb.select(cond=nothing, a=ctx.scalar(1), b=pivot))
        x = mb.sub(x=part(ctx, rest, -1, 1, size), y=mb.mul(x=factor, y=part(ctx, row, -1, 1, size)))
        stays = mb.equal(x=largest, y=np.int32(0))
        signed = mb.squeeze(x=mb.select(cond=stays, a=pivot, b=mb.mul(x=pivot, y=ctx.scalar(-1))), axes=[-2, -1])
        result = signed if result is None else mb.mul(x=result, y=signed)
    raise ctx.refuse("matrices without rows", "at least one row")


@lowering("Inverse", domain=MICROSOFT, error="linear")
def inverse(ctx: Context, x: Operand) -> Result:
    """Gauss and Jordan: the unit matrix beside it, and in each column the largest element as its pivot."""
    mb = ctx.mb
    rows, batch = _side(ctx, x), ctx.shape(x)[:-2]
    unit = np.broadcast_to(np.eye(rows, dtype=ctx.dtype), (*batch, rows, rows))
    both = mb.concat(values=[x, np.ascontiguousarray(unit)], axis=-1)
    numbers = np.arange(rows, dtype=np.int32).reshape(rows, 1)
    for step in range(rows):
        column = mb.abs(x=part(ctx, both, -1, step, step + 1))
        below = mb.select(cond=np.broadcast_to(numbers >= step, (*batch, rows, 1)), a=column, b=ctx.scalar(-1))
        largest = mb.reduce_argmax(x=below, axis=-2, keep_dims=True)
        chosen = mb.cast(x=mb.equal(x=numbers, y=largest), dtype=float_name(ctx))
        pivot_row = mb.reduce_sum(x=mb.mul(x=both, y=chosen), axes=[-2], keep_dims=True)
        own_row = part(ctx, both, -2, step, step + 1)
        # the two rows change places
        here = (numbers == step).astype(ctx.dtype)
        both = mb.add(x=both, y=mb.mul(x=chosen, y=mb.sub(x=own_row, y=pivot_row)))
        row = mb.real_div(x=pivot_row, y=part(ctx, pivot_row, -1, step, step + 1))
        factor = mb.mul(x=part(ctx, both, -1, step, step + 1), y=(1 - here))
        cleared = mb.sub(x=both, y=mb.mul(x=factor, y=row))
        both = mb.add(x=mb.mul(x=cleared, y=(1 - here)), y=mb.mul(x=row, y=here))
    return part(ctx, both, -1, rows, 2 * rows)


def _side(ctx: Context, x: Operand) -> int:
    """How many rows and columns square matrices have; refuses others, and such as would be too much to write out."""
    rows, columns = ctx.shape(x)[-2:]
    if rows != columns or rows > _LARGEST:
        raise ctx.refuse(f"matrices of {rows} x {columns}", f"square ones of at most {_LARGEST} rows")
    return rows
