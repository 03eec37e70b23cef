"""MIL's convolutions: conv, conv_transpose, and how MIL's padding types become numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.windows import same_pads


def explicit_pads(
    low: Lowering, x: Operand, pad_type: str, pad: Sequence[int] | None, kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]] | None:
    """(before, after) of each spatial dimension; None where "same" meets a length that is known at run time only."""
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        flat = [int(p) for p in pad] if pad is not None else [0] * 2 * len(kernel)
        return list(zip(flat[::2], flat[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise low.refuse("this pad_type is not known", expected="valid, custom, same or same_lower", found=pad_type)
    lengths = low.shape(x)[2:]
    if any(n is None for n in lengths):
        return None
    return [
        same_pads(n or 0, k, s, lower=pad_type == "same_lower")
        for n, k, s in zip(lengths, kernel, strides, strict=True)
    ]


def padding(pads: list[tuple[int, int]] | None, pad_type: str) -> dict[str, object]:
    """The ONNX attributes for these pads."""
    if pads is None:
        return {"auto_pad": "SAME_LOWER" if pad_type == "same_lower" else "SAME_UPPER"}
    return {"pads": [b for b, _ in pads] + [a for _, a in pads]}


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
    spatial = low.shape(weight)[2:]
    if any(k is None for k in spatial):
        raise low.refuse("the kernel size is not known")
    ones = [1] * len(spatial)
    stride = ones if strides is None else [int(s) for s in strides]
    dilation = ones if dilations is None else [int(d) for d in dilations]
    reach = [((k or 0) - 1) * d + 1 for k, d in zip(spatial, dilation, strict=True)]
    pads = explicit_pads(low, x, pad_type, pad, reach, stride)
    return low.op(
        "Conv", x, weight, bias,
        kernel_shape=[int(k or 0) for k in spatial], strides=stride, dilations=dilation, group=int(groups),
        **padding(pads, pad_type),
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
    reach = [(k - 1) * d + 1 for k, d in zip(spatial, dilation, strict=True)]
    lengths = low.shape(x)[2:]
    wanted = None if output_shape is None else [int(n) for n in output_shape][2:]
    pads, extra = [], []
    for i, (k, s, n) in enumerate(zip(reach, stride, lengths, strict=True)):
        before = after = 0
        if pad_type == "custom" and pad is not None:
            before, after = int(pad[2 * i]), int(pad[2 * i + 1])
        elif pad_type in ("same", "same_lower"):
            total = max(k - s, 0) if wanted is None else max((n or 0) * s - s + k - wanted[i], 0)
            before, after = (
                (total - total // 2, total // 2) if pad_type == "same_lower" else (total // 2, total - total // 2)
            )
        missing = 0
        if wanted is not None:
            if n is None:
                raise low.refuse("output_shape needs an input of known size")
            missing = wanted[i] - ((n - 1) * s + k - before - after)
        elif pad_type in ("same", "same_lower"):
            missing = max(s - k, 0)
        if missing < 0:
            after, missing = after - missing, 0
        pads.append((before, after))
        extra.append(missing)
    return low.op(
        "ConvTranspose", x, weight, bias,
        kernel_shape=spatial, strides=stride, dilations=dilation, group=int(groups), output_padding=extra,
        **padding(pads, "custom"),
    )  # fmt: skip
