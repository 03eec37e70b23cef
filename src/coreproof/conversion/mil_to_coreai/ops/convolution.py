"""MIL's convolutions in Core AI's, which pad nothing themselves and know two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.coreml_to_onnx.pools import declared_pads
from coreproof.conversion.mil_to_coreai.ops.activation import per_channel
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates, ui
from coreproof.conversion.windows import Pads, cropped, reaches


@translates("conv")
def conv(
    t: Translation,
    *,
    x: Operand,
    weight: Operand,
    bias: Operand = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    spatial = t.fixed(t.shape(weight)[2:], "the kernel size is not known")
    ones = [1] * len(spatial)
    stride = ones if strides is None else [int(s) for s in strides]
    dilation = ones if dilations is None else [int(d) for d in dilations]
    reach = reaches(spatial, dilation)
    padded = windowed(t, x, declared_pads(t.refuse, t.shape(x)[2:], pad_type, pad, reach, stride))
    lengths = [None if n is None else (n - k) // s + 1 for n, k, s in zip(padded.shape[2:], reach, stride, strict=True)]
    channels = t.shape(weight)[0]
    made = _planar(
        t, "conv", padded, t.value(weight, padded.element), (padded.shape[0], channels, *lengths),
        [stride, dilation], int(groups),
    )  # fmt: skip
    return made if bias is None else t.binary("add", made, per_channel(t, made, bias))


@translates("conv_quantized")
def conv_quantized(
    t: Translation,
    *,
    x: Operand,
    weight: Operand,
    quantization_type: str,
    quant_scale: Operand,
    quant_bias: Operand,
    nbits: int = 8,
    bias: Operand = None,
    strides: Sequence[int] | None = None,
    pad_type: str = "valid",
    pad: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """A convolution with weights that are scaled and shifted where they are stored: scale * stored + bias."""
    if quantization_type != "linear" or int(nbits) != 8:
        raise t.refuse("only linear 8 bit quantization is translated", found=f"{quantization_type}, {nbits} bits")
    stored = t.constant(weight, "weight").astype(np.float32)
    column = (-1, *[1] * (stored.ndim - 1))
    scale, shift = (np.asarray(t.constant(v, n), np.float32) for v, n in ((quant_scale, "scale"), (quant_bias, "bias")))
    dense = stored * (scale.reshape(column) if scale.ndim else scale) + (shift.reshape(column) if shift.ndim else shift)
    return conv(
        t, x=x, weight=dense, bias=bias, strides=strides, pad_type=pad_type, pad=pad, dilations=dilations, groups=groups
    )


def windowed(t: Translation, x: Operand, pads: Pads | None, fill: float = 0.0) -> Tensor:
    """The tensor [N, C, ...] with this padding."""
    if pads is None:
        raise t.refuse("this padding needs an input of known size", found=list(t.shape(x)))
    return t.pad(x, [(0, 0), (0, 0), *pads], fill)


def _planar(
    t: Translation,
    kind: str,
    x: Tensor,
    weight: Tensor,
    shape: Sequence[int | None],
    steps: Sequence[Sequence[int]],
    groups: int,
) -> Tensor:
    """A convolution; one of one dimension as that of a picture of one row."""
    count = len(steps[0])
    if count > 3:
        raise t.refuse("Core AI convolves up to three dimensions", found=count)
    flat = count == 1
    if flat:
        x, weight = t.expand_dims(x, [2]), t.expand_dims(weight, [2])
        shape = [*shape[:2], 1, *shape[2:]]
        first = {0: 1, 1: 0, 2: 1, 3: 0} if kind == "conv_transpose" else {0: 1, 1: 1}
        steps = [[first[i], *step] for i, step in enumerate(steps)]
    operands: list[Operand] = [x, weight, *map(ui, steps), ui(groups)]
    made = t.op(f"{kind}{3 if count == 3 else 2}d", *operands, shape=shape)
    return t.shrink_dims(made, [2]) if flat else made


@translates("conv_transpose")
def conv_transpose(
    t: Translation,
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
) -> Tensor:
    spatial = t.fixed(t.shape(weight)[2:], "the kernel size is not known")
    ones = [1] * len(spatial)
    stride = ones if strides is None else [int(s) for s in strides]
    dilation = ones if dilations is None else [int(d) for d in dilations]
    value, reach = t.value(x), reaches(spatial, dilation)
    natural = [None if n is None else (n - 1) * s + k for n, s, k in zip(value.shape[2:], stride, reach, strict=True)]
    ends = _ends(t, natural, reach, stride, pad_type, pad, output_shape)
    # what is taken from both ends alike, the operation takes itself
    even = [before if before == after and before >= 0 else 0 for before, after in ends]
    shape = (value.shape[0], (t.shape(weight)[1] or 0) * int(groups))
    lengths = [None if n is None else n - 2 * p for n, p in zip(natural, even, strict=True)]
    made = _planar(
        t, "conv_transpose", value, t.value(weight, value.element), (*shape, *lengths),
        [stride, even, dilation, [0] * len(spatial)], int(groups),
    )  # fmt: skip
    rest = [(p - before, p - after) for p, (before, after) in zip(even, ends, strict=True)]
    made = t.pad(made, [(0, 0), (0, 0), *rest])
    return made if bias is None else t.binary("add", made, per_channel(t, made, bias))


def _ends(
    t: Translation,
    natural: Sequence[int | None],
    reach: Sequence[int],
    stride: Sequence[int],
    pad_type: str,
    pad: Sequence[int] | None,
    output_shape: Sequence[int] | None,
) -> list[tuple[int, int]]:
    """What each axis loses before and after; less than nothing is added."""
    wanted: Sequence[int | None] = [None] * len(reach) if output_shape is None else [int(n) for n in output_shape][2:]
    ends = []
    for i, (k, s, whole, target) in enumerate(zip(reach, stride, natural, wanted, strict=True)):
        if target is not None and whole is None:
            raise t.refuse("output_shape needs an input of known size")
        if pad_type in ("same", "same_lower"):
            # without a wanted length the result is stride times as long as the input
            total = k - s if target is None else (whole or 0) - target
            (before, after), missing = cropped(total, lower=pad_type == "same_lower")
        else:
            before, after = (
                (int(p) for p in pad[2 * i : 2 * i + 2]) if pad_type == "custom" and pad is not None else (0, 0)
            )
            # what is too much is cut off at the end, and what lacks is added there
            left = 0 if target is None else (whole or 0) - before - after - target
            after, missing = after + max(left, 0), max(-left, 0)
        ends.append((before, after - missing))
    return ends
