"""MIL's pooling: average, maximum, l2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.ops.convolution import explicit_pads, padding
from coreproof.conversion.coreml_to_onnx.windows import reach_beyond


@dataclass(frozen=True)
class _Window:
    """Where a pool's windows lie. ``pads`` is None where "same" meets a length known at run time only.

    ``beyond`` is how far the last window reaches past the declared padding (ceil_mode), in each dimension.
    """

    kernel: list[int]
    strides: list[int]
    pads: list[tuple[int, int]] | None
    beyond: list[int]
    pad_type: str
    ceil: bool

    def attributes(self) -> dict[str, Any]:
        """For an ONNX pool; what lies beyond becomes padding, so that ceil_mode is not needed."""
        geometry: dict[str, object] = {"kernel_shape": self.kernel, "strides": self.strides}
        if self.pads is None:
            return {**geometry, **padding(None, self.pad_type), "ceil_mode": int(self.ceil)}
        extended = [(before, after + more) for (before, after), more in zip(self.pads, self.beyond, strict=True)]
        return {**geometry, **padding(extended, self.pad_type)}

    @property
    def overlaps_padding_only(self) -> bool:
        """Whether padding is as long as the window, which ONNX Runtime refuses."""
        return self.pads is not None and any(
            b >= k or a + m >= k for (b, a), m, k in zip(self.pads, self.beyond, self.kernel, strict=True)
        )


def _window(
    low: Lowering,
    x: Operand,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None,
    pad_type: str,
    pad: Sequence[int] | None,
    ceil_mode: bool,
) -> _Window:
    kernel = [int(k) for k in kernel_sizes]
    stride = [1] * len(kernel) if strides is None else [int(s) for s in strides]
    pads = explicit_pads(low, x, pad_type, pad, kernel, stride)
    beyond = [0] * len(kernel)
    lengths = low.shape(x)[2:]
    if ceil_mode and pads is not None:
        if any(n is None for n in lengths):
            raise low.refuse("ceil_mode needs an input of known size")
        for i, (n, k, s, (before, after)) in enumerate(zip(lengths, kernel, stride, pads, strict=True)):
            beyond[i] = max(reach_beyond(n or 0, k, s, before, after), 0)
    return _Window(kernel, stride, pads, beyond, pad_type, ceil_mode)


def _padded(low: Lowering, x: Operand, window: _Window, fill: float) -> tuple[ir.Value, _Window]:
    """The input with its padding made real."""
    assert window.pads is not None
    ends = [(b, a + m) for (b, a), m in zip(window.pads, window.beyond, strict=True)]
    flat = [0, 0, *(b for b, _ in ends), 0, 0, *(a for _, a in ends)]
    padded = low.op("Pad", x, np.array(flat, np.int64), fill)
    none = [(0, 0)] * len(ends)
    return padded, _Window(window.kernel, window.strides, none, [0] * len(ends), "custom", False)


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
    if window.overlaps_padding_only:
        x, window = _padded(low, x, window, float("-inf"))
    return low.op("MaxPool", x, **window.attributes())


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
    area = int(np.prod(window.kernel))
    if window.pads is None:
        return low.op("AveragePool", x, **window.attributes(), count_include_pad=int(not exclude_padding_from_average))
    counts = _counts(low.shape(x)[2:], window, exclude_padding_from_average)
    if window.overlaps_padding_only:
        x, window = _padded(low, x, window, 0.0)
    if counts is None:
        return low.op("AveragePool", x, **window.attributes(), count_include_pad=int(not exclude_padding_from_average))
    mean = low.op("AveragePool", x, **window.attributes(), count_include_pad=1)
    if np.all(counts == area):
        return mean
    return low.op("Mul", mean, (area / counts).astype(np.float32))


def _counts(lengths: Sequence[int | None], window: _Window, exclude_padding: bool) -> np.ndarray | None:
    """How many elements each window averages over; None where one plain ONNX pool does the same.

    What lies beyond the declared padding never counts; the padding itself counts unless it is excluded.
    """
    assert window.pads is not None
    if not any(window.beyond) and not (exclude_padding and window.overlaps_padding_only):
        return None
    total = np.ones([1] * len(window.kernel))
    for i, (n, k, s, (before, after), more) in enumerate(
        zip(lengths, window.kernel, window.strides, window.pads, window.beyond, strict=True)
    ):
        length = n or 0
        counted = np.zeros(before + length + after + more)
        counted[slice(before, before + length) if exclude_padding else slice(0, before + length + after)] = 1
        starts = range(0, counted.size - k + 1, s)
        along = np.array([counted[j : j + k].sum() for j in starts])
        total = total * along.reshape([-1 if j == i else 1 for j in range(len(window.kernel))])
    return total[None, None]


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
    squares: Operand = low.op("Mul", x, x)
    if window.overlaps_padding_only:
        squares, window = _padded(low, squares, window, 0.0)
    mean = low.op("AveragePool", squares, **window.attributes(), count_include_pad=1)
    return low.op("Sqrt", low.op("Mul", mean, np.float32(np.prod(window.kernel))))
