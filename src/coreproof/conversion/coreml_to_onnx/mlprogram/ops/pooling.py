"""MIL's pooling: average, maximum, l2."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.ops.convolution import explicit_pads
from coreproof.conversion.coreml_to_onnx.pools import Window, pool
from coreproof.conversion.windows import reach_beyond


def _window(
    low: Lowering,
    x: Operand,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None,
    pad_type: str,
    pad: Sequence[int] | None,
    ceil_mode: bool,
) -> Window:
    kernel = [int(k) for k in kernel_sizes]
    stride = [1] * len(kernel) if strides is None else [int(s) for s in strides]
    pads = explicit_pads(low, x, pad_type, pad, kernel, stride)
    beyond = []
    if ceil_mode and pads is not None:
        lengths = low.fixed(low.shape(x)[2:], "ceil_mode needs an input of known size")
        axes = zip(lengths, kernel, stride, pads, strict=True)
        # what no window reaches is left out by itself: a negative amount would take more away
        beyond = [max(reach_beyond(n, k, s, before, after), 0) for n, k, s, (before, after) in axes]
    return Window(kernel, stride, pads, pad_type == "same_lower", beyond, ceil_mode)


@lowers("max_pool", exact=True, error="move")
def max_pool(
    low: Lowering,
    *,
    x: Operand,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> ir.Value:
    window = _window(low, x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return pool(low.b, low.value(x), "MAX", window)


@lowers("avg_pool", error="average")
def avg_pool(
    low: Lowering,
    *,
    x: Operand,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> ir.Value:
    window = _window(low, x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return pool(low.b, low.value(x), "AVERAGE", window, exclude=exclude_padding_from_average)


@lowers("l2_pool")
def l2_pool(
    low: Lowering,
    *,
    x: Operand,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> ir.Value:
    window = _window(low, x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    return pool(low.b, low.value(x), "L2", window)
