"""MIL's convolutions: conv, conv_transpose, and how MIL's padding types become numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.pools import declared_pads, pad_attributes
from coreproof.conversion.windows import Pads, cropped, reaches


def explicit_pads(
    low: Lowering, x: Operand, pad_type: str, pad: Sequence[int] | None, kernel: Sequence[int], strides: Sequence[int]
) -> Pads | None:
    """(before, after) of each spatial dimension; None where "same" meets a length that is known at run time only."""
    return declared_pads(low.refuse, low.shape(x)[2:], pad_type, pad, kernel, strides)


@lowers("conv", error="linear", weights_may_vary=True)
def conv(
    low: Lowering,
    *,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> ir.Value:
    spatial = low.fixed(low.shape(weight)[2:], "the kernel size is not known")
    ones = [1] * len(spatial)
    stride = ones if strides is None else [int(s) for s in strides]
    dilation = ones if dilations is None else [int(d) for d in dilations]
    pads = explicit_pads(low, x, pad_type, pad, reaches(spatial, dilation), stride)
    if pads is None and max(dilation) > 1:
        # ONNX Runtime's own rule of "same" knows no dilations
        low.fixed(low.shape(x)[2:], "a dilated kernel with strides and this padding needs an input of known size")
    return low.op(
        "Conv", x, weight, bias,
        kernel_shape=spatial, strides=stride, dilations=dilation, group=int(groups),
        **pad_attributes(pads, lower=pad_type == "same_lower"),
    )  # fmt: skip


@lowers("conv_quantized")
def conv_quantized(
    low: Lowering,
    *,
    x: Operand,
    weight: Operand,
    quantization_type: str,
    quant_scale: Operand,
    quant_bias: Operand,
    nbits: int = 8,
    bias: Operand = None,
    **geometry: Any,
) -> ir.Value:
    if quantization_type != "linear" or int(nbits) != 8:
        raise low.refuse("only linear 8 bit quantization is lowered", found=f"{quantization_type}, {nbits} bits")
    stored = low.constant(weight, "weight").astype(np.float32)
    shape = (-1, *[1] * (stored.ndim - 1))
    scale, shift = (np.asarray(v, np.float32) for v in (quant_scale, quant_bias))
    # scale * stored + bias, one of each an output channel or one for all
    dense = stored * (scale.reshape(shape) if scale.ndim else scale) + (shift.reshape(shape) if shift.ndim else shift)
    return conv(low, x=x, weight=dense, bias=None if bias is None else np.asarray(bias, np.float32), **geometry)


@lowers("conv_transpose", error="linear", weights_may_vary=True)
def conv_transpose(
    low: Lowering,
    *,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    pad: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pad_type: str = "valid",
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> ir.Value:
    spatial = [int(k or 0) for k in low.shape(weight)[2:]]
    ones = [1] * len(spatial)
    stride = ones if strides is None else [int(s) for s in strides]
    dilation = ones if dilations is None else [int(d) for d in dilations]
    lengths = low.shape(x)[2:]
    wanted: Sequence[int | None] = [None] * len(spatial)
    if output_shape is not None:
        wanted = [int(n) for n in output_shape][2:]
        low.fixed(lengths, "output_shape needs an input of known size")
    pads, extra = [], []
    for i, (k, s, n, target) in enumerate(zip(reaches(spatial, dilation), stride, lengths, wanted, strict=True)):
        # the length before anything is taken off
        natural = ((n or 0) - 1) * s + k
        if pad_type in ("same", "same_lower"):
            # without a wanted length the result is stride times as long as the input
            ends, missing = cropped(k - s if target is None else natural - target, lower=pad_type == "same_lower")
        else:
            before, after = (
                (int(p) for p in pad[2 * i : 2 * i + 2]) if pad_type == "custom" and pad is not None else (0, 0)
            )
            # what is too much is cut off at the end, and what lacks is added there
            left = 0 if target is None else natural - before - after - target
            ends, missing = (before, after + max(left, 0)), max(-left, 0)
        pads.append(ends)
        extra.append(missing)
    return low.op(
        "ConvTranspose", x, weight, bias,
        kernel_shape=spatial, strides=stride, dilations=dilation, group=int(groups), output_padding=extra,
        **pad_attributes(pads),
    )  # fmt: skip
