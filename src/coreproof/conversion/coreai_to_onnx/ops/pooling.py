"""Core AI's pooling, which pads nothing itself."""

from __future__ import annotations

import math

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers


@lowers("max_pool_2d", "max_pool_3d", exact=True, error="move", word="maxpool")
def max_pool(
    low: CoreAILowering, x: Operand, kernel: Operand, stride: Operand, dilation: Operand, ceil_mode: Operand
) -> ir.Value:
    value = low.value(x)
    if low.element in ("si64", "ui64"):
        raise low.refuse("of whole numbers of 64 bits it is not lowered")
    # ONNX Runtime pools floats; whole numbers of up to 53 bits are floats of 64 bits as well
    floats = value if low.is_float(x) else low.op("Cast", value, to=ir.DataType.DOUBLE)
    pooled = low.op(
        "MaxPool",
        floats,
        kernel_shape=low.integers(kernel, "kernel_size"),
        strides=low.integers(stride, "stride"),
        dilations=low.integers(dilation, "dilation"),
        ceil_mode=int(low.true(ceil_mode, "ceil_mode")),
    )
    return pooled if low.is_float(x) else low.op("Cast", pooled, to=value.dtype)


@lowers("sum_pool_2d", "sum_pool_3d", error="average")
def sum_pool(low: CoreAILowering, x: Operand, kernel: Operand, stride: Operand, dilation: Operand) -> ir.Value:
    if not low.is_float(x):
        raise low.refuse("of whole numbers it is not lowered")
    window = low.integers(kernel, "kernel_size")
    mean = low.op(
        "AveragePool",
        x,
        kernel_shape=window,
        strides=low.integers(stride, "strides"),
        dilations=low.integers(dilation, "dilation"),
    )
    return low.op("Mul", mean, low.like(math.prod(window), x))
