"""Products with quantised weights, as ONNX Runtime writes them (com.microsoft): packed, or counted as they come."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Array, Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand
from coreproof.conversion.onnx_to_coreml.ops.dtypes import cast, float_name
from coreproof.conversion.onnx_to_coreml.ops.indexing import from_start
from coreproof.conversion.onnx_to_coreml.ops.matmul import matmul
from coreproof.conversion.onnx_to_coreml.ops.quantization import (
    dequantize_linear,
    dynamic_quantize_linear,
    matmul_integer,
    quantize_linear,
)
from coreproof.conversion.onnx_to_coreml.ops.quantized_forms import MICROSOFT
from coreproof.conversion.onnx_to_coreml.packed import contiguous, moved, pack, packed_array
from coreproof.model.onnx.packed_weights import unpacked

lowering("DequantizeLinear", domain=MICROSOFT)(dequantize_linear)
lowering("QuantizeLinear", domain=MICROSOFT)(quantize_linear)


@lowering("MatMulNBits", domain=MICROSOFT, error="linear", word="linear")
def matmul_n_bits(
    ctx: Context,
    a: Operand,
    b: Operand,
    scales: Operand,
    zero_points: Operand | None = None,
    g_idx: Operand | None = None,
    bias: Operand | None = None,
    *,
    K: int,
    N: int,
    bits: int = 4,
    block_size: int,
    accuracy_level: int = 0,
    weight_prepacked: int = 0,
) -> Result:
    """A times weights [N, K] in blocks along K: (number - zero point) * scale; without zero points the middle is zero."""
    if bits not in (2, 4, 8) or weight_prepacked:
        raise ctx.refuse(f"weights of {bits} bits, or packed for a device", "plain ones of 2, 4 or 8 bits")
    # the last block may be short; its bits are stored in full
    blocks = -(-K // block_size)
    numbers = unpacked(np.asarray(ctx.constant(ctx.raw[1], "weight")), bits).reshape(N, -1)[:, : blocks * block_size]
    scale = np.asarray(ctx.constant(ctx.raw[2], "scales"), np.float64).reshape(N, blocks)
    # ContribOperators.md, MatMulNBits: 8 of 4 bits, 128 of 8
    zero = np.full((N, blocks), float(1 << (bits - 1)))
    if zero_points is not None:
        raw = np.asarray(ctx.constant(ctx.raw[3], "zero points"))
        # of bytes they are packed as the weights are, else they are numbers of the type of A
        given = unpacked(raw.reshape(N, -1), bits) if raw.dtype == np.uint8 else raw.reshape(N, -1)
        zero = given[:, :blocks].astype(np.float64)
    weight: Array
    packed = None
    # groups by index, or a zero point between two steps, are nothing that MIL can store
    if g_idx is None and np.array_equal(zero, np.rint(zero)):
        points = zero.astype(np.uint8)
        packed = pack(numbers[:, :K].astype(np.uint8), scale, points, axis=1, block_size=block_size, bits=bits)
    if packed is not None:
        weight = packed_array(packed, ctx.dtype)
    else:
        if g_idx is None:
            group = np.repeat(np.arange(blocks), block_size)[:K]
        else:
            group = np.asarray(ctx.constant(ctx.raw[4], "groups")).reshape(-1)[:K]
        weight = ctx.floats((numbers[:, :K].astype(np.float64) - zero[:, group]) * scale[:, group])
    product = matmul(ctx, a, contiguous(moved(weight, np.transpose)))
    return product if bias is None else ctx.mb.add(x=product, y=bias)


@lowering("MatMulIntegerToFloat", domain=MICROSOFT, error="linear", word="linear")
def matmul_integer_to_float(
    ctx: Context,
    a: Operand,
    b: Operand,
    a_scale: Operand,
    b_scale: Operand,
    a_zero_point: Operand | None = None,
    b_zero_point: Operand | None = None,
    bias: Operand | None = None,
) -> Result:
    """The product of the integers, times both scales; that of B may be one for each column."""
    mb = ctx.mb
    # sums of products of bytes stay exact in float32 up to 2**24, and leave float16 at once
    counted = mb.cast(x=matmul_integer(ctx, a, b, a_zero_point, b_zero_point), dtype="fp32")
    left, right = (
        s.astype(np.float32) if isinstance(s, np.ndarray) else mb.cast(x=s, dtype="fp32") for s in (a_scale, b_scale)
    )
    scaled = cast(ctx, mb.mul(x=counted, y=mb.mul(x=left, y=right)), float_name(ctx))
    if ctx.dtype == np.float16:
        scaled = mb.cast(x=scaled, dtype="fp16")
    return scaled if bias is None else mb.add(x=scaled, y=bias)


@lowering("DynamicQuantizeMatMul", domain=MICROSOFT, error="linear", word="linear")
def dynamic_quantize_matmul(
    ctx: Context,
    a: Operand,
    b: Operand,
    b_scale: Operand,
    b_zero_point: Operand | None = None,
    bias: Operand | None = None,
) -> Result:
    """A is counted in steps of what it holds, as DynamicQuantizeLinear does."""
    number, scale, zero = dynamic_quantize_linear(ctx, a)
    return matmul_integer_to_float(ctx, number, b, scale, b_scale, zero, b_zero_point, bias)


_FP4 = (0, 0.005208333333, 2 / 3, 1, 1 / 3, 0.5, 1 / 6, 0.25)
_NF4 = (-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
        -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1)  # fmt: skip
"""What bitsandbytes' 4 bits stand for, of a block whose largest is 1: floats of 4 bits, and shares of a normal distribution."""


@lowering("MatMulBnb4", domain=MICROSOFT, error="linear", word="linear")
def matmul_bnb4(
    ctx: Context,
    a: Operand,
    b: Operand,
    absmax: Operand,
    *,
    K: int,
    N: int,
    block_size: int,
    quant_type: int = 1,
    transB: int = 1,
    training_mode: int = 0,
) -> Result:
    """A times weights [N, K] of 4 bits, in blocks through all of them. MIL has no table with scales for such blocks: floats."""
    if not transB:
        raise ctx.refuse("weights that are not turned (transB=0)", "transB=1, as a model that is not trained has it")
    table = np.array(_NF4 if quant_type else [*_FP4, *(-value for value in _FP4)], np.float64)
    held = np.asarray(ctx.constant(ctx.raw[1], "weight")).reshape(-1)
    # the upper half of a byte comes first
    numbers = np.stack([held >> 4, held & 15], axis=-1).reshape(-1)[: N * K]
    scale = np.repeat(np.asarray(ctx.constant(ctx.raw[2], "absmax"), np.float64).reshape(-1), block_size)[: N * K]
    weight = ctx.floats((table[numbers] * scale).reshape(N, K))
    return matmul(ctx, a, np.ascontiguousarray(weight.T))


@lowering("GatherBlockQuantized", domain=MICROSOFT, places=(1,))
def gather_block_quantized(
    ctx: Context,
    data: Operand,
    indices: Operand,
    scales: Operand,
    zero_points: Operand | None = None,
    *,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> Result:
    """Rows of a table of embeddings that stays quantised in blocks: (number - zero point) * scale."""
    numbers = np.asarray(ctx.constant(ctx.raw[0], "data"))
    scale = np.asarray(ctx.constant(ctx.raw[2], "scales")).astype(np.float64)
    zero = None if zero_points is None else np.asarray(ctx.constant(ctx.raw[3], "zero points"))
    axis = quantize_axis % numbers.ndim
    if numbers.dtype == np.uint8:
        # bytes hold several; without zero points their middle is zero
        numbers = unpacked(numbers, bits)
        zero = np.full(scale.shape, 1 << (bits - 1), np.uint8) if zero is None else unpacked(zero, bits)
        zero = zero[tuple(slice(0, n) for n in scale.shape)]
    elif not np.issubdtype(numbers.dtype, np.integer) and str(numbers.dtype) not in ("int4", "uint4"):
        raise ctx.refuse(f"a table of {numbers.dtype}", "integers of 2, 4 or 8 bits")
    else:
        bits = 4
    if str(numbers.dtype) in ("int4", "uint4"):
        wide = np.int8 if str(numbers.dtype) == "int4" else np.uint8
        numbers, zero = numbers.astype(wide), None if zero is None else zero.astype(wide)
    packed = pack(numbers, scale, zero, axis=axis, block_size=block_size, bits=bits)
    if packed is None:
        raise ctx.refuse("scales that are not in blocks", f"one for each {block_size} along axis {axis}")
    places = from_start(ctx, indices, numbers.shape[gather_axis])
    return ctx.mb.gather(x=packed_array(packed, ctx.dtype), indices=places, axis=gather_axis % numbers.ndim)
