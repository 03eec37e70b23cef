"""MIL's pooling: average, maximum, l2."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.ops.convolution import explicit_pads
from coreproof.conversion.coreml_to_onnx.pools import Window, pool
from coreproof.conversion.windows import reach_beyond

_KINDS = {"max_pool": "MAX", "avg_pool": "AVERAGE", "l2_pool": "L2"}


@lowers("max_pool", exact=True, error="move")
@lowers("avg_pool", error="average")
@lowers("l2_pool")
def pooling(
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
    kernel = [int(k) for k in kernel_sizes]
    stride = [1] * len(kernel) if strides is None else [int(s) for s in strides]
    pads = explicit_pads(low, x, pad_type, pad, kernel, stride)
    beyond = []
    if ceil_mode and pads is not None:
        lengths = low.fixed(low.shape(x)[2:], "ceil_mode needs an input of known size")
        axes = zip(lengths, kernel, stride, pads, strict=True)
        # what no window reaches is left out by itself: a negative amount would take more away
        beyond = [max(reach_beyond(n, k, s, before, after), 0) for n, k, s, (before, after) in axes]
    window = Window(kernel, stride, pads, pad_type == "same_lower", beyond, ceil_mode)
    return pool(low.b, low.value(x), _KINDS[low.operation], window, exclude=exclude_padding_from_average)
