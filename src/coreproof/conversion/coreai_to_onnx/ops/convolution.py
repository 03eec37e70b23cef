"""Core AI's convolutions, which pad nothing themselves, and its products of matrices."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers


@lowers("conv2d", "conv3d", error="linear", word="conv", weights_may_vary=True)
def conv(
    low: CoreAILowering, x: Operand, weight: Operand, stride: Operand, dilation: Operand, groups: Operand
) -> ir.Value:
    return low.op(
        "Conv",
        x,
        weight,
        strides=low.integers(stride, "stride"),
        dilations=low.integers(dilation, "dilation"),
        group=low.integer(groups, "groups"),
    )


@lowers("conv_transpose2d", "conv_transpose3d", error="linear", weights_may_vary=True)
def conv_transpose(
    low: CoreAILowering,
    x: Operand,
    weight: Operand,
    stride: Operand,
    padding: Operand,
    dilation: Operand,
    output_pad: Operand,
    groups: Operand,
) -> ir.Value:
    pads = low.integers(padding, "padding")  # one number an axis, for both its sides
    return low.op(
        "ConvTranspose",
        x,
        weight,
        strides=low.integers(stride, "stride"),
        dilations=low.integers(dilation, "dilation"),
        pads=[*pads, *pads],
        output_padding=low.integers(output_pad, "output_pad"),
        group=low.integer(groups, "groups"),
    )


@lowers("batch_matmul", error="linear", word="linear", weights_may_vary=True)
@lowers("broadcasting_batch_matmul", error="linear", word="linear", weights_may_vary=True)
def matmul(low: CoreAILowering, x: Operand, y: Operand) -> ir.Value:
    return low.op("MatMul", x, y)
