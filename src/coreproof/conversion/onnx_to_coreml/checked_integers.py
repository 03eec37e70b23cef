"""64-bit integers that the 32 bits of Core ML may not hold: a run in which one of them leaves these fails; narrower ones wrap.

Sums are looked at in parts of a few bits each, which no sum of parts overflows, and so to the last number. Products are computed
a second time in float32; a float that is cast is looked at as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.casting import wrap

Kind = Literal["product", "sum", "cast", "narrow"]
"""What is made that may not fit: "narrow" are integers of 8 and 16 bits, which wrap around in the source."""

BEYOND_32_BITS: dict[str, Kind] = {
    "a_product_beyond_32_bits": "product",
    "a_sum_beyond_32_bits": "sum",
    "a_cast_beyond_32_bits": "cast",
}
"""What a value is called that cannot be made where a product, a sum or a float that is cast leaves 32 bits."""

_SAID = {
    "product": "is a product of 64-bit integers, which Core ML computes in 32 bits",
    "sum": "is a sum of 64-bit integers, which Core ML computes in 32 bits",
    "cast": "is a float cast to a 64-bit integer, for which Core ML has 32 bits",
}
_MOST = np.float32(2147483000)
"""Below 2^31 by more than what float32 rounds a product by."""
_LARGEST = np.float32(2147483520)
"""The largest float32 below 2^31."""

Operands: TypeAlias = "Sequence[Operand | None]"
Compute: TypeAlias = "Callable[[Operands], Operand]"
"""A node's handler, given other operands."""


def checked(
    ctx: Context, kind: Kind, dtype: ir.DataType, made: Operand, operands: Operands, compute: Compute
) -> Operand:
    """What ``compute`` made of a node's operands, in a program that fails where it leaves 32 bits, or wraps as ``dtype`` does."""
    operator = ctx.node.op_type
    if kind == "narrow":
        return wrap(ctx, made, dtype)
    if kind == "cast":
        return _checked_cast(ctx, made, operands[0])
    if operator == "BitShift":
        return _checked_product(ctx, kind, made, operands, lambda given: _shifted(ctx, *given))
    if kind == "product" or operator == "ReduceL1":
        # an exponent is a factor, too; axes are none
        count = 1 if operator.startswith("Reduce") else len(operands)
        floats = [_as_float(ctx, o) if at < count else o for at, o in enumerate(operands)]
        return _checked_product(ctx, kind, made, floats, compute)
    terms = {"ReduceSum": (0,), "CumSum": (0,), "ScatterElements": (0, 2), "ScatterND": (0, 2)}
    added = terms.get(operator, range(len(operands)))
    value = ctx.node.inputs[0]
    signed = value is None or value.dtype is None or value.dtype.is_signed()
    return _checked_sum(ctx, made, operands, added, compute, few=operator not in terms, signed=signed)


def _as_float(ctx: Context, operand: Operand | None) -> Operand | None:
    if operand is None or isinstance(operand, np.ndarray):
        return operand if operand is None else operand.astype(np.float32)
    return ctx.mb.cast(x=operand, dtype="fp32")


def _shifted(ctx: Context, value: Operand | None, by: Operand | None) -> Operand:
    """A number shifted to the left, in float32."""
    places = _as_float(ctx, by)
    factor = np.exp2(places) if isinstance(places, np.ndarray) else ctx.mb.exp2(x=places)
    return ctx.mb.mul(x=_as_float(ctx, value), y=factor)


def _checked_product(
    ctx: Context, kind: Kind, product: Operand, operands: Sequence[Operand | None], compute: Compute
) -> Operand:
    """The product; the run fails where ``compute`` of these ``operands``, which are floats, does not stay within 32 bits."""
    dtype, ctx.dtype = ctx.dtype, np.float32
    try:
        size = ctx.mb.abs(x=compute(operands))
    finally:
        ctx.dtype = dtype
    return _with_check(ctx, product, ctx.mb.greater(x=size, y=_MOST), kind)


def _checked_sum(
    ctx: Context,
    total: Operand,
    operands: Sequence[Operand | None],
    terms: Sequence[int],
    compute: Compute,
    *,
    few: bool,
    signed: bool,
) -> Operand:
    """The sum of the operands ``terms``; the run fails where it does not fit 32 bits, or is negative though not ``signed``.

    ``few`` terms are added in two parts of 16 bits, up to 2^20 of them in three of 11.
    """
    mb = ctx.mb
    width, count = (16, 2) if few else (11, 3)
    parts = [list(operands) for _ in range(count)]
    for at in terms:
        for part, of_term in zip(parts, _parts(ctx, operands[at], width, count), strict=True):
            part[at] = of_term
    sums = [compute(part) for part in parts]
    carried = mb.floor_div(x=sums[0], y=np.int32(2**width))
    for one in sums[1:-1]:
        carried = mb.floor_div(x=mb.add(x=one, y=carried), y=np.int32(2**width))
    top = mb.add(x=sums[-1], y=carried)
    # -half <= top < half, or 0 <= top < half
    half = 2 ** (31 - width * (count - 1))
    away = mb.add(x=mb.mul(x=top, y=np.int32(2)), y=np.int32(1 if signed else 1 - half))
    most = np.int32(2 * half - 1 if signed else half - 1)
    return _with_check(ctx, total, mb.greater(x=mb.abs(x=away), y=most), "sum")


def _checked_cast(ctx: Context, number: Operand, given: Operand | None) -> Operand:
    """The number that a float became; the run fails where that does not fit 32 bits.

    Of an infinite one nothing is said, as no integer is meant: but float16 has no other number for what is large.
    """
    mb = ctx.mb
    from coremltools.converters.mil.mil import types

    assert given is not None
    half = given.dtype == types.fp16
    size = mb.abs(x=mb.cast(x=given, dtype="fp32") if half else given)
    beyond = mb.greater(x=size, y=_LARGEST)
    if not half:
        beyond = mb.logical_and(x=beyond, y=mb.less(x=size, y=np.float32(np.inf)))
    return _with_check(ctx, number, beyond, "cast")


def _parts(ctx: Context, term: Operand | None, width: int, count: int) -> list[Operand]:
    """A number as ``count`` parts of ``width`` bits, the lowest first; the last has the sign."""
    parts: list[Operand] = []
    base = np.int32(2**width)
    rest: Operand = term  # type: ignore[assignment]
    for _ in range(count - 1):
        if isinstance(rest, np.ndarray):
            parts.append(rest % base)
            rest = rest // base
        else:
            parts.append(ctx.mb.mod(x=rest, y=base))
            rest = ctx.mb.floor_div(x=rest, y=base)
    return [*parts, rest]


def _with_check(ctx: Context, value: Operand, beyond: Operand, kind: Kind) -> Operand:
    """The value, to which a zero is added that only exists where nothing is ``beyond``.

    It is one element, given the shape of one, or of more where something is: that is an error of the run, in Core ML as here, and
    no number comes out.
    """
    mb = ctx.mb
    count = mb.cast(x=beyond, dtype="int32")
    if ctx.rank(count):
        count = mb.reduce_sum(x=count, axes=list(range(ctx.rank(count))), keep_dims=False)
    shape = mb.expand_dims(x=mb.add(x=count, y=np.int32(1)), axes=[0])
    name = next(name for name, of_kind in BEYOND_32_BITS.items() if of_kind == kind)
    zero = mb.reshape(x=mb.mul(x=np.zeros(1, np.int32), y=shape), shape=shape, name=name)
    note = f"{ctx.node.outputs[0].name!r} {_SAID[kind]}: a run in which it does not fit them fails"
    if note not in ctx.notes:  # the graphs of a loop or an if are made more than once
        ctx.notes.append(note)
    return mb.add(x=value, y=mb.reduce_sum(x=zero, axes=[0], keep_dims=False))
