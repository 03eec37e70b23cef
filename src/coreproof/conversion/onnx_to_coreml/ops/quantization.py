"""Quantised operators, computed on the integers themselves where that can be, else on the numbers they stand for.

Core ML multiplies no bytes. A quantised tensor is an int32 tensor of the same integers, and from iOS 17 on, where only quantised
operators read it, one of bytes, which MIL's own ``quantize`` makes and its ``dequantize`` reads. Weights stay packed
(``packed.py``). A product of quantised tensors is counted
in steps of its result, as ONNX Runtime does: its steps are the products of the integers times one known factor, which is that of
the scales. In float32 the integers are multiplied as they are (exact below 2**24) and the factor comes last, so that nothing is
rounded but once: the result is the integer of the definition. In float16 such sums leave the range; there the power of two in the
factor goes into the weights, which rounds none of them, and the rest of it comes last, in float32. The factors are never rounded
each for itself: one scale in float16 is up to an eighth of a step off at 255 steps.
Other operators become: numbers out of integers, the operator in floats, integers out of numbers. Products of integers
(MatMulInteger, ConvInteger) are computed in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, Var
from coreproof.conversion.onnx_to_coreml.ops.convolution import conv
from coreproof.conversion.onnx_to_coreml.ops.dtypes import (
    axis_of,
    cast,
    expanded,
    float_name,
    is_bytes,
    is_known,
    read_as_bytes,
)
from coreproof.conversion.onnx_to_coreml.ops.matmul import matmul
from coreproof.conversion.onnx_to_coreml.packed import pack, packed_array

_LIMITS = {
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT4: (-8, 7),
}
_BYTES = {ir.DataType.UINT8: "uint8", ir.DataType.INT8: "int8"}


@lowering("QuantizeLinear", since=10, steps=True)
def quantize_linear(
    ctx: Context,
    x: Operand,
    y_scale: Operand,
    y_zero_point: Operand | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Result:
    dtype = ir.DataType(output_dtype) if output_dtype else dtype_of(ctx, 2)
    # MIL's quantize has one scale, or one along an axis
    if not block_size and ctx.is_float(x):
        made = _as_bytes(ctx, cast(ctx, x, float_name(ctx)), y_scale, y_zero_point, dtype, axis)
        if made is not None:
            return made
    scale = _along(ctx, y_scale, x, axis, block_size)
    zero = None if y_zero_point is None else _along(ctx, y_zero_point, x, axis, block_size)
    return quantized(ctx, cast(ctx, x, float_name(ctx)), scale, zero, dtype)


@lowering("DequantizeLinear", since=10)
def dequantize_linear(
    ctx: Context,
    x: Operand,
    x_scale: Operand,
    x_zero_point: Operand | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Result:
    if all(isinstance(o, np.ndarray | None) for o in (x, x_scale, x_zero_point)):
        # a bias is counted in steps of 1e-7 and the like: scaled first, then rounded to what is computed in
        x, x_scale = ctx.constant(ctx.raw[0], "numbers"), ctx.constant(ctx.raw[1], "scale")
        x_zero_point = (*ctx.raw, None)[2]
    if not block_size and is_bytes(x):
        made = _from_bytes(ctx, x, x_scale, x_zero_point, axis)
        if made is not None:
            return made
    scale = _along(ctx, x_scale, x, axis, block_size)
    zero = None if x_zero_point is None else _along(ctx, x_zero_point, x, axis, block_size)
    return dequantized(ctx, x, scale, zero)


@lowering("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: Context, x: Operand) -> tuple[Result, ...]:
    mb, axes = ctx.mb, list(range(ctx.rank(x)))
    # ONNX, DynamicQuantizeLinear: the range holds 0 in any case, so that zeros of padding and of ReLU are exact
    highest = mb.maximum(x=mb.reduce_max(x=x, axes=axes, keep_dims=False), y=ctx.scalar(0))
    lowest = mb.minimum(x=mb.reduce_min(x=x, axes=axes, keep_dims=False), y=ctx.scalar(0))
    width = mb.mul(x=mb.sub(x=highest, y=lowest), y=ctx.scalar(1 / 255))
    # zeros alone: any step will do but 0
    scale = mb.select(cond=mb.equal(x=width, y=ctx.scalar(0)), a=ctx.scalar(1), b=width)
    place = mb.real_div(x=mb.sub(x=ctx.scalar(0), y=lowest), y=scale)
    # where 0 lies among the steps, itself one of them
    zero = mb.round(x=mb.clip(x=place, alpha=ctx.scalar(0), beta=ctx.scalar(255)))
    point = mb.cast(x=zero, dtype="int32")
    return quantized(ctx, x, scale, point, ir.DataType.UINT8), scale, point


@lowering("QLinearConv", since=10)
def qlinear_conv(
    ctx: Context,
    x: Operand,
    x_scale: Operand,
    x_zero_point: Operand,
    w: Operand,
    w_scale: Operand,
    w_zero_point: Operand,
    y_scale: Operand,
    y_zero_point: Operand,
    b: Operand | None = None,
    **attributes: Any,
) -> Result:
    dtype = dtype_of(ctx, 7)
    count = ctx.rank(w)
    if not all(isinstance(o, np.ndarray) for o in (w, w_scale, w_zero_point)):
        operands = (x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point)
        return _convolved_as_told(ctx, operands, b, dtype, attributes)
    weight_scale = _raw_along(ctx, 4, "scale of the weights", count)
    # ONNX, QLinearConv: the bias is counted in steps of x_scale * w_scale
    terms = None if b is None else ctx.constant(b, "bias").astype(np.int64)
    steps = factor(ctx, 1, 4, 6)
    if steps is None:
        weight = known_weight(ctx, 3, 5, weight_scale, 0)
        share = None if b is None else np.asarray(ctx.constant(ctx.raw[1], "scale"), np.float64)
        bias = None if share is None else ctx.floats(terms * (share * weight_scale).reshape(-1))
        result = conv(ctx, dequantized(ctx, x, x_scale, x_zero_point), weight, bias, **attributes)
        return quantized(ctx, result, y_scale, y_zero_point, dtype)
    within, behind = split_factor(ctx, steps)
    weight = known_weight(ctx, 3, 5, within, 0)
    bias = None if terms is None else ctx.floats(terms * within)
    result = conv(ctx, centred(ctx, x, x_zero_point), weight, bias, **attributes)
    return times_in_steps(ctx, result, behind.reshape([1, -1] + [1] * (count - 2)), y_zero_point, dtype)


def _convolved_as_told(
    ctx: Context, operands: tuple[Operand, ...], b: Operand | None, dtype: ir.DataType, attributes: dict[str, Any]
) -> Result:
    """Weights, or what they count in, that are computed while the model runs: the integers, then the factor of the scales."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = operands
    count = ctx.rank(w)

    def by_filter(v: Operand, shape: list[int]) -> Operand:
        if ctx.rank(v) == 0:
            return v
        return v.reshape(shape) if isinstance(v, np.ndarray) else ctx.mb.reshape(x=v, shape=shape)

    # filters lie along the first axis of weights, and along the second of what they give
    numbers = _shifted(ctx, w, by_filter(w_zero, [-1, *[1] * (count - 1)]))
    share = by_filter(w_scale, [1, -1, *[1] * (count - 2)])
    product = conv(ctx, centred(ctx, x, x_zero), cast(ctx, numbers, float_name(ctx)), None, **attributes)
    if b is not None:
        product = ctx.mb.add(x=product, y=by_filter(cast(ctx, b, float_name(ctx)), [1, -1, *[1] * (count - 2)]))
    steps = ctx.mb.real_div(x=ctx.mb.mul(x=x_scale, y=share), y=y_scale)
    return in_steps(ctx, ctx.mb.mul(x=product, y=steps), y_zero, dtype)


@lowering("QLinearMatMul", since=10)
def qlinear_matmul(
    ctx: Context,
    a: Operand,
    a_scale: Operand,
    a_zero_point: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero_point: Operand,
    y_scale: Operand,
    y_zero_point: Operand,
) -> Result:
    dtype, steps = dtype_of(ctx, 7), factor(ctx, 1, 4, 6)
    known = all(isinstance(o, np.ndarray) for o in (b, b_zero_point))
    if steps is None or (ctx.dtype == np.float16 and not known):
        left = dequantized(ctx, a, _column(ctx, a_scale), _column(ctx, a_zero_point))
        product = matmul(ctx, left, _known_numbers(ctx, 3, (b, b_scale, b_zero_point)))
        return quantized(ctx, product, _column(ctx, y_scale), _column(ctx, y_zero_point), dtype)
    left = centred(ctx, a, _column(ctx, a_zero_point))
    if not known:
        product = ctx.mb.mul(x=matmul(ctx, left, centred(ctx, b, b_zero_point)), y=ctx.floats(steps))
        return in_steps(ctx, product, _column(ctx, y_zero_point), dtype)
    within, behind = split_factor(ctx, steps)
    return times_in_steps(
        ctx, matmul(ctx, left, known_weight(ctx, 3, 5, within, -1)), behind, _column(ctx, y_zero_point), dtype
    )


@lowering("MatMulInteger", since=10)
def matmul_integer(
    ctx: Context, a: Operand, b: Operand, a_zero_point: Operand | None = None, b_zero_point: Operand | None = None
) -> Result:
    # ONNX, MatMulInteger: one zero point, or one for each row of a
    left = _single(ctx, a, None if a_zero_point is None else _column(ctx, a_zero_point))
    return ctx.mb.cast(x=matmul(ctx, left, _single(ctx, b, b_zero_point, ctx.raw[1])), dtype="int32")


@lowering("ConvInteger", since=10)
def conv_integer(
    ctx: Context,
    x: Operand,
    w: Operand,
    x_zero_point: Operand | None = None,
    w_zero_point: Operand | None = None,
    **attributes: Any,
) -> Result:
    zero = w_zero_point
    if zero is not None and ctx.rank(zero) == 1:  # one for each filter
        shape = [-1, *[1] * (ctx.rank(w) - 1)]
        zero = zero.reshape(shape) if isinstance(zero, np.ndarray) else ctx.mb.reshape(x=zero, shape=shape)
    weight = _single(ctx, w, zero, ctx.raw[1])
    return ctx.mb.cast(x=conv(ctx, _single(ctx, x, x_zero_point), weight, **attributes), dtype="int32")


def dtype_of(ctx: Context, index: int) -> ir.DataType:
    """The dtype of the result is that of its zero point; without one it is uint8."""
    value = ctx.node.inputs[index] if len(ctx.node.inputs) > index else None
    raw = ctx.raw[index] if value is not None else None
    if isinstance(raw, np.ndarray):
        return ir.DataType.from_numpy(raw.dtype)
    return value.dtype if value is not None and value.dtype is not None else ir.DataType.UINT8


def known_weight(ctx: Context, index: int, zero_index: int, factor: np.ndarray, axis: int) -> np.ndarray:
    """(weights - zero point) * factor, which stay packed; those are one for all, or one for each place of an axis."""
    weight, zero = (np.asarray(ctx.constant(ctx.raw[i], "weight or its zero point")) for i in (index, zero_index))
    flat, shift = np.asarray(factor, np.float64).reshape(-1), zero.reshape(-1)
    if shift.any():
        # one factor for all and a zero point each, or the other way round
        flat, shift = np.broadcast_arrays(flat, shift)
    packed = pack(weight, flat, shift if shift.any() else None, axis=axis)
    if packed is not None:
        return packed_array(packed, ctx.dtype)
    along = [1] * weight.ndim
    along[axis] = -1
    below, share = (v.reshape(along) if v.size > 1 else v.reshape(-1) for v in (shift.astype(np.int64), flat))
    return ctx.floats((weight.astype(np.int64) - below) * share)


def split_factor(ctx: Context, steps: npt.NDArray[np.float32]) -> tuple[np.ndarray, np.ndarray]:
    """What of the factor of a product goes into its weights, and what comes behind it.

    In float32 all of it comes behind. In float16 the powers of two go into the weights, which stay as precise as integers are.
    """
    if ctx.dtype != np.float16:
        return np.ones(1), steps
    # whole numbers of nine bits with a smaller factor would end below what float16 holds
    powers = np.exp2(np.maximum(np.floor(np.log2(np.abs(steps))), -15.0))
    return powers, steps / powers.astype(np.float32)


def times_in_steps(ctx: Context, x: Operand, behind: np.ndarray, zero: Operand | None, dtype: ir.DataType) -> Result:
    """A product times what of its factor is left, in float32, rounded to integers."""
    kept = ctx.dtype
    wide = x if kept == np.float32 else ctx.mb.cast(x=x, dtype="fp32")
    # what is built in here is built in this width
    ctx.dtype = np.float32
    try:
        return in_steps(ctx, ctx.mb.mul(x=wide, y=np.asarray(behind, np.float32)), zero, dtype)
    finally:
        ctx.dtype = kept


def quantized(ctx: Context, x: Operand, scale: Operand, zero: Operand | None, dtype: ir.DataType) -> Result:
    """Scaled, rounded half to even, shifted, kept within the limits."""
    made = _as_bytes(ctx, x, scale, zero, dtype)
    return in_steps(ctx, ctx.mb.real_div(x=x, y=scale), zero, dtype) if made is None else made


def in_steps(ctx: Context, x: Operand, zero: Operand | None, dtype: ir.DataType) -> Result:
    """What is counted in steps already: rounded half to even, shifted, kept within the limits."""
    if dtype not in _LIMITS:
        raise ctx.refuse(f"it quantises to {dtype.name}", "an integer of 4, 8 or 16 bits")
    made = _as_bytes(ctx, x, ctx.scalar(1), zero, dtype)
    if made is not None:
        return made
    lowest, highest = _LIMITS[dtype]
    mb = ctx.mb
    # MIL rounds halves to even, as ONNX wants it
    rounded = mb.round(x=x)
    shifted = rounded if zero is None or _is_zero(zero) else mb.add(x=rounded, y=cast(ctx, zero, float_name(ctx)))
    return mb.cast(x=mb.clip(x=shifted, alpha=ctx.scalar(lowest), beta=ctx.scalar(highest)), dtype="int32")


def dequantized(ctx: Context, x: Operand, scale: Operand, zero: Operand | None) -> Operand:
    """The numbers that integers stand for."""
    if is_bytes(x):
        made = _from_bytes(ctx, x, scale, zero)
        if made is not None:
            return made
    steps = _shifted(ctx, x, zero)
    if isinstance(steps, np.ndarray) and isinstance(scale, np.ndarray):
        return ctx.floats(steps * np.asarray(scale, np.float64))
    return ctx.mb.mul(x=cast(ctx, steps, float_name(ctx)), y=scale)


def centred(ctx: Context, x: Operand, zero: Operand | None) -> Operand:
    """Integers as floats, their zero point taken off, in no unit but their own steps."""
    if is_bytes(x):
        made = _from_bytes(ctx, x, ctx.scalar(1), zero)
        if made is not None:
            return made
    steps = _shifted(ctx, x, zero)
    return ctx.floats(steps.astype(np.float64)) if isinstance(steps, np.ndarray) else cast(ctx, steps, float_name(ctx))


def _as_bytes(
    ctx: Context, x: Operand, scale: object, zero: Operand | None, dtype: ir.DataType, axis: int = 0
) -> Result | None:
    """``x`` quantised by MIL's own operation, from iOS 17 on; None where that cannot be, or what reads it takes no bytes."""
    if dtype not in _BYTES or ctx.target < 17 or ctx.is_network or not read_as_bytes(ctx.node.outputs[0]):
        return None
    given = _byte_parameters(ctx, x, scale, zero, axis, _BYTES[dtype])
    if isinstance(x, np.ndarray) or given is None:
        return None
    return ctx.mb.quantize(input=x, output_dtype=_BYTES[dtype], **given)


def _from_bytes(ctx: Context, x: Var, scale: object, zero: Operand | None, axis: int = 0) -> Operand | None:
    """The numbers that bytes stand for, by MIL's own operation; None where their parameters are not known to it."""
    from coremltools.converters.mil.mil import types

    given = _byte_parameters(ctx, x, scale, zero, axis, "int8" if x.dtype == types.int8 else "uint8")
    return None if given is None else ctx.mb.dequantize(input=x, **given)


def _byte_parameters(
    ctx: Context, x: Operand, scale: object, zero: Operand | None, axis: int, kind: str
) -> dict[str, object] | None:
    """Scale, zero point and axis as ``quantize`` and ``dequantize`` take them; None where they are not known or do not fit."""
    if not isinstance(scale, np.ndarray | np.generic) or not isinstance(zero, np.ndarray | None):
        return None
    factor: npt.NDArray[np.floating] = np.asarray(scale, ctx.dtype)
    # MIL holds the scale in the program's own dtype: one that is 0 or has lost digits there would take the tensor with it
    usual = np.abs(factor) >= np.finfo(ctx.dtype).smallest_normal
    if not (usual & np.isfinite(factor) & (factor > 0)).all():
        return None
    if factor.size == 1:
        point = None if zero is None or _is_zero(zero) else zero.reshape(-1)[0].astype(kind)
        if zero is not None and zero.size != 1:
            return None
        return {"scale": factor.reshape(-1)[0], **({} if point is None else {"zero_point": point})}
    # MIL takes one scale for all, or one for each place of an axis
    length = x.shape[axis_of(axis, ctx.rank(x))]
    if factor.ndim != 1 or length != factor.size:
        return None
    shift = {} if zero is None or _is_zero(zero) else {"zero_point": np.broadcast_to(zero.astype(kind), factor.shape)}
    return {"scale": factor, "axis": np.int32(axis_of(axis, ctx.rank(x))), **shift}


def _single(ctx: Context, x: Operand, zero: Operand | None, raw: Operand | None = None) -> Operand:
    """The same in float32, in whatever the program computes; ``raw`` is a weight as ONNX holds it, which stays packed."""
    if isinstance(raw, np.ndarray) and isinstance(zero, np.ndarray | None):
        shift, axis = np.zeros(1, np.int32), 0
        if zero is not None and zero.size:
            shift, axis = zero.reshape(-1), int(np.argmax(zero.shape or (1,))) - zero.ndim
        packed = pack(raw, np.ones(shift.size), shift, axis=axis)
        if packed is not None:
            return packed_array(packed)
    steps = _shifted(ctx, x, zero)
    return steps.astype(np.float32) if isinstance(steps, np.ndarray) else ctx.mb.cast(x=steps, dtype="fp32")


def _shifted(ctx: Context, x: Operand, zero: Operand | None) -> Operand:
    """Integers with their zero point taken off; of constants in 64 bits, which no difference of theirs leaves."""
    if isinstance(x, np.ndarray) and isinstance(zero, np.ndarray | None):
        # of two numbers without axes NumPy makes no array
        return np.asarray(x.astype(np.int64) - (0 if zero is None else zero.astype(np.int64)))
    whole = ctx.mb.cast(x=x, dtype="int32") if is_bytes(x) else x
    return whole if zero is None or _is_zero(zero) else ctx.mb.sub(x=whole, y=zero)


def factor(ctx: Context, *scales: int) -> npt.NDArray[np.float32] | None:
    """How many steps of the result one step of the operand is, or one product of two operands' steps.

    In float32: one number for all, or for each channel. ``scales``: where among the operands the scales stand, that of the result
    last. They are multiplied, then divided, each in float32, as ONNX Runtime does it. None where one is computed while the model
    runs, or differs from row to row, or the factor is no usual number.
    """
    raw = [ctx.raw[at] if at < len(ctx.raw) else None for at in scales]
    known = [scale for scale in raw if isinstance(scale, np.ndarray)]
    if len(known) < len(raw):
        return None
    # as ONNX Runtime computes the factor: where they are multiplied in another order, a half becomes another integer
    first, *rest, made = (np.asarray(scale, np.float32).reshape(-1) for scale in known)
    # a scale a row of the left operand is no factor of the weights
    if first.size != 1 or made.size != 1 or any(scale.ndim > 1 for scale in known):
        return None
    with np.errstate(all="ignore"):
        found = (first * rest[0] if rest else first) / made
    usual = (np.abs(found) >= np.finfo(np.float32).tiny) & np.isfinite(found)
    return found if usual.all() else None


def _known_numbers(ctx: Context, index: int, operands: tuple[Operand, Operand, Operand]) -> Operand:
    """The numbers of a quantised operand: of a constant in its own precision, rounded once."""
    raw = ctx.raw[index : index + 3]
    return dequantized(ctx, *(raw if all(isinstance(o, np.ndarray) for o in raw) else operands))


def _is_zero(zero: Operand) -> bool:
    return isinstance(zero, np.ndarray) and not zero.any()


def _column(ctx: Context, parameter: Operand) -> Operand:
    """A parameter that holds one number for each row of a matrix, so that it broadcasts along the rows."""
    return expanded(ctx, parameter, [1]) if ctx.rank(parameter) == 1 else parameter


def _raw_along(ctx: Context, index: int, name: str, rank: int) -> np.ndarray:
    """A parameter of constant weights in its own precision, one number for each output channel or one for all."""
    raw = np.asarray(ctx.constant(ctx.raw[index], name))
    values = raw.astype(np.float64) if raw.dtype.kind == "f" else raw.astype(np.int64)
    return values.reshape([-1] + [1] * (rank - 1)) if values.size > 1 else values.reshape([1] * rank)


def _along(ctx: Context, parameter: Operand, x: Operand, axis: int, block_size: int) -> Operand:
    """A scale or zero point, shaped so that it broadcasts over ``x``: for all, for each place of an axis, or for blocks."""
    if ctx.rank(parameter) == 0 or (ctx.rank(parameter) == 1 and parameter.shape[0] == 1):
        return parameter
    rank = ctx.rank(x)
    axis = axis_of(axis, rank)
    if block_size:
        if not is_known(x.shape[axis]):
            raise ctx.refuse(f"axis {axis}, cut into blocks, has a free length", "a fixed length")
        return _unblocked(ctx, parameter, axis, block_size, int(x.shape[axis]))
    shape = [-1 if i == axis else 1 for i in range(rank)]
    if isinstance(parameter, np.ndarray):
        return parameter.reshape(shape)
    return ctx.mb.reshape(x=parameter, shape=np.array(shape, np.int32))


def _unblocked(ctx: Context, parameter: Operand, axis: int, block_size: int, length: int) -> Operand:
    places = (np.arange(length) // block_size).astype(np.int32)
    if isinstance(parameter, np.ndarray):
        return np.take(parameter, places, axis)
    return ctx.mb.gather(x=parameter, indices=places, axis=axis)
