"""Bitwise operators, by arithmetic on int32: Core ML has no operations on bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand


def _width(ctx: Context) -> tuple[int, bool]:
    """How many bits the operands have, and whether the first of them is a sign. int64 holds what fits int32."""
    value = ctx.node.inputs[0]
    dtype = None if value is None else value.dtype
    if dtype is None or not dtype.is_integer():
        raise ctx.refuse(f"operands of type {dtype}", "integers")
    return min(int(dtype.bitwidth), 32), bool(dtype.is_signed())


def _bits(ctx: Context, x: Operand, width: int) -> Operand:
    """The bits of each element along a new last axis, the lowest first; a negative number's as two's complement has them."""
    mb = ctx.mb
    powers = np.array([2 ** min(k, 30) for k in range(width)], np.int32)
    shifted = mb.floor_div(x=mb.expand_dims(x=x, axes=[-1]), y=powers)
    if width == 32:
        # 2^31 is no int32: the last place is halved once more
        shifted = mb.floor_div(x=shifted, y=np.array([1] * 31 + [2], np.int32))
    return mb.mod(x=shifted, y=np.int32(2))


def _number(ctx: Context, bits: Operand, width: int, signed: bool) -> Result:
    if ctx.is_network and width == 32:
        # its layers compute in float32, where -2^31 + 2^30 + ... loses what is left: a negative number is made of its complement
        mb, low = ctx.mb, np.array([2**k for k in range(31)] + [0], np.int32)
        sign = mb.reduce_sum(x=mb.mul(x=bits, y=np.array([0] * 31 + [1], np.int32)), axes=[-1], keep_dims=True)
        differs = mb.abs(x=mb.sub(x=bits, y=sign))
        size = mb.reduce_sum(x=mb.mul(x=differs, y=low), axes=[-1], keep_dims=False)
        sign = mb.squeeze(x=sign, axes=[-1])
        return mb.sub(x=mb.mul(x=size, y=mb.sub(x=np.int32(1), y=mb.mul(x=sign, y=np.int32(2)))), y=sign)
    weights = np.array([2**k for k in range(width)], np.int64)
    if signed or width == 32:
        weights[-1] *= -1
    return ctx.mb.reduce_sum(x=ctx.mb.mul(x=bits, y=weights.astype(np.int32)), axes=[-1], keep_dims=False)


def _bitwise(ctx: Context, a: Operand, b: Operand, combine: Callable[[Operand, Operand], Operand]) -> Result:
    """Flat where an axis for the bits would be one too many."""
    width, signed = _width(ctx)
    a, b = _pattern(ctx, 0, a), _pattern(ctx, 1, b)
    shape = np.broadcast_shapes(ctx.shape(a), ctx.shape(b))
    flat = len(shape) == 5
    if flat:
        a, b = (ctx.mb.reshape(x=_spread(ctx, x, shape), shape=[-1]) for x in (a, b))
    number = _number(ctx, combine(_bits(ctx, a, width), _bits(ctx, b, width)), width, signed)
    return ctx.mb.reshape(x=number, shape=list(shape)) if flat else number


def _pattern(ctx: Context, index: int, x: Operand) -> Operand:
    """A constant without a sign as the number with one that has its bits: 2^31 is -2^31, which is how Core ML holds them."""
    raw = ctx.raw[index]
    if not isinstance(raw, np.ndarray) or raw.dtype.kind != "u" or raw.dtype.itemsize < 4:
        return x
    limits = np.iinfo(np.int32)
    return np.clip(raw.view(f"i{raw.dtype.itemsize}"), limits.min, limits.max).astype(np.int32)


def _spread(ctx: Context, x: Operand, shape: tuple[int, ...]) -> Operand:
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(np.broadcast_to(x, shape))
    return ctx.mb.add(x=x, y=np.zeros(shape, np.int32)) if ctx.shape(x) != shape else x


@lowering("BitwiseAnd")
def bitwise_and(ctx: Context, a: Operand, b: Operand) -> Result:
    return _bitwise(ctx, a, b, lambda p, q: ctx.mb.mul(x=p, y=q))


@lowering("BitwiseOr")
def bitwise_or(ctx: Context, a: Operand, b: Operand) -> Result:
    return _bitwise(ctx, a, b, lambda p, q: ctx.mb.maximum(x=p, y=q))


@lowering("BitwiseXor")
def bitwise_xor(ctx: Context, a: Operand, b: Operand) -> Result:
    return _bitwise(ctx, a, b, lambda p, q: ctx.mb.abs(x=ctx.mb.sub(x=p, y=q)))


@lowering("BitwiseNot")
def bitwise_not(ctx: Context, x: Operand) -> Result:
    """-x - 1 of a number with a sign, the largest number minus x of one without."""
    width, signed = _width(ctx)
    top = -1 if signed or width == 32 else 2**width - 1
    return ctx.mb.sub(x=np.int32(top), y=x)


@lowering("BitShift")
def bit_shift(ctx: Context, x: Operand, by: Operand, *, direction: str) -> Result:
    """To the right a division that rounds down; to the left a product, of which the bits beyond the width are lost.

    By a negative number, or by the width and more, only the sign is left to the right, and nothing to the left.
    """
    width, signed = _width(ctx)
    mb = ctx.mb
    powers = np.array([2**k for k in range(min(width, 31))], np.int32)
    last = np.int32(len(powers) - 1)
    within = mb.logical_and(x=mb.less_equal(x=by, y=last), y=mb.greater_equal(x=by, y=np.int32(0)))
    places = mb.select(cond=within, a=by, b=np.int32(0))
    factor = mb.gather(x=powers, indices=places, axis=0)
    if direction.upper() == "RIGHT":
        sign = mb.floor_div(x=mb.floor_div(x=x, y=powers[-1]), y=powers[-1])  # 0, or -1 of a negative number
        return mb.select(cond=within, a=mb.floor_div(x=x, y=factor), b=sign)
    if width == 32:
        # by 31 places one bit becomes the sign: the factor itself is no int32
        top = mb.mul(x=mb.mod(x=x, y=np.int32(2)), y=np.int32(-(2**31)))
        beyond: Operand = mb.select(cond=mb.equal(x=by, y=np.int32(31)), a=top, b=np.int32(0))
        return mb.select(cond=within, a=mb.mul(x=x, y=factor), b=beyond)
    modulus = np.int32(2**width)
    shifted = mb.mod(x=mb.mul(x=mb.mod(x=x, y=modulus), y=factor), y=modulus)
    if signed:
        half = np.int32(2 ** (width - 1))
        shifted = mb.sub(x=mb.mod(x=mb.add(x=shifted, y=half), y=modulus), y=half)
    return mb.select(cond=within, a=shifted, b=np.int32(0))


@lowering("BitCast", since=26, error="move")
def bit_cast(ctx: Context, x: Operand, *, to: int) -> Result:
    """The same bits with, or without, a sign: numbers beyond the half become negative ones, and back."""
    value, wanted = ctx.node.inputs[0], ir.DataType(to)
    given = None if value is None else value.dtype
    whole = (ir.DataType.BOOL, *(t for t in ir.DataType if t.is_integer() and t.bitwidth <= 32))
    if given not in whole or wanted not in whole:
        raise ctx.refuse(f"bits of {given} as {wanted}", "integers of up to 32 bits")
    if ctx.is_bool(x):
        return ctx.mb.cast(x=x, dtype="int32")
    if wanted == ir.DataType.BOOL:
        return ctx.mb.not_equal(x=x, y=np.int32(0))
    width = int(wanted.bitwidth)
    if width == 32 or given.is_signed() == wanted.is_signed():
        return x  # of 32 bits Core ML has the number with a sign alone
    whole_range, half = np.int32(2**width), np.int32(2 ** (width - 1))
    if not wanted.is_signed():
        return ctx.mb.mod(x=x, y=whole_range)
    return ctx.mb.sub(x=ctx.mb.mod(x=ctx.mb.add(x=x, y=half), y=whole_range), y=half)
