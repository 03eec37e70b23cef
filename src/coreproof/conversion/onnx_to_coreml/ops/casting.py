"""Cast and CastLike. A program computes in one float dtype and in int32, so most casts within a kind change nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast as to_dtype
from coreproof.conversion.onnx_to_coreml.ops.dtypes import float_name
from coreproof.model.onnx.constants import known_tensor

_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16}
_WIDE_INTEGERS = {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT32, ir.DataType.UINT64}
_NARROW_INTEGERS = {
    ir.DataType.INT8: (-(1 << 7), 1 << 8),
    ir.DataType.UINT8: (0, 1 << 8),
    ir.DataType.INT16: (-(1 << 15), 1 << 16),
    ir.DataType.UINT16: (0, 1 << 16),
}
"""The lowest number and how many there are."""
_ROUNDS = ("Round", "Floor", "Ceil", "Identity")


@lowering("Cast")
def cast(ctx: Context, x: Operand, *, to: int, saturate: int = 1, round_mode: str = "up") -> Result:
    return cast_to(ctx, x, ir.DataType(to))


@lowering("CastLike", hands_on="whole")
def cast_like(ctx: Context, x: Operand, target: Operand, *, saturate: int = 1, round_mode: str = "up") -> Result:
    like = ctx.node.inputs[1]
    if like is not None and like.dtype is not None:
        return cast_to(ctx, x, like.dtype)
    if ctx.is_bool(target):
        return cast_to(ctx, x, ir.DataType.BOOL)
    return cast_to(ctx, x, ir.DataType.FLOAT if ctx.is_float(target) else ir.DataType.INT32)


def cast_to(ctx: Context, x: Operand, to: ir.DataType) -> Result:
    if to in _FLOATS:
        return _rounded(ctx, x) if to == ir.DataType.FLOAT16 else to_dtype(ctx, x, float_name(ctx))
    if to == ir.DataType.BOOL:
        return to_dtype(ctx, x, "bool")
    if to in _WIDE_INTEGERS:
        return to_dtype(ctx, x, "int32")
    if to in _NARROW_INTEGERS:
        return _wrapped(ctx, x, to)
    raise ctx.refuse(f"it casts to {to.name}", "float, float16, double, bool or an integer of 8 to 64 bits")


def _rounded(ctx: Context, x: Operand) -> Result:
    """Float16 in a program that computes in float32: the precision is lost as the model says, the dtype is kept."""
    value = to_dtype(ctx, x, float_name(ctx))
    if ctx.dtype == np.float16 or ctx.is_bool(x) or ctx.is_network:
        return value
    source = ctx.node.inputs[0]
    if source is not None and source.dtype == ir.DataType.FLOAT16:
        return value
    return ctx.mb.cast(x=ctx.mb.cast(x=value, dtype="fp16"), dtype="fp32")


def _lies_within(value: ir.Value, lowest: int, count: int) -> bool:
    """Whether it was clipped to what fits, and only rounded since."""
    node = value.producer()
    while node is not None and node.op_type in _ROUNDS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Clip" or len(node.inputs) < 3:
        return False
    bounds = [known_tensor(v) for v in node.inputs[1:3]]
    ends = [float(b.numpy().reshape(-1)[0]) for b in bounds if b is not None and b.size == 1]
    return len(ends) == 2 and lowest <= ends[0] and ends[1] <= lowest + count - 1


def _wrapped(ctx: Context, x: Operand, to: ir.DataType) -> Result:
    """Numbers that don't fit wrap around; floats too, whose whole part PyTorch and ONNX Runtime take as an integer first."""
    value = to_dtype(ctx, x, "int32")
    source = ctx.node.inputs[0]
    lowest, count = _NARROW_INTEGERS[to]
    if ctx.is_bool(x) or (source is not None and (source.dtype == to or _lies_within(source, lowest, count))):
        return value
    return wrap(ctx, value, to)


def wrap(ctx: Context, value: Operand, to: ir.DataType) -> Result:
    """A whole number as an integer of 8 or 16 bits holds it: what does not fit wraps around."""
    lowest, count = _NARROW_INTEGERS[to]
    # MIL's mod has the divisor's sign, so that what lies below the lowest comes back from above
    shifted = ctx.mb.mod(x=ctx.mb.sub(x=value, y=np.int32(lowest)), y=np.int32(count))
    return ctx.mb.add(x=shifted, y=np.int32(lowest))
