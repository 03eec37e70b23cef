"""Poolings of both Core ML formats as ONNX's: the padding that an engine refuses made real, what lies beyond it not counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.boundary import Refuse
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.windows import Pads, flat, same_pads


def same_padding(
    lengths: Sequence[int | None], kernel: Sequence[int], strides: Sequence[int], *, lower: bool
) -> Pads | None:
    """The amounts of "same" padding; None where a length is known at run time only. ``kernel`` is the dilated one."""
    axes = zip(lengths, kernel, strides, strict=True)
    # without a stride it is one less than the kernel, whatever the length
    pads = [None if n is None and s > 1 else same_pads(n or 1, k, s, lower=lower) for n, k, s in axes]
    whole = [p for p in pads if p is not None]
    return whole if len(whole) == len(pads) else None


def declared_pads(
    refuse: Refuse,
    lengths: Sequence[int | None],
    pad_type: str,
    pad: Sequence[int] | None,
    kernel: Sequence[int],
    strides: Sequence[int],
) -> Pads | None:
    """What a MIL operation's ``pad_type`` and ``pad`` add around lengths; None where "same" meets one that is not known.

    ``kernel`` is the dilated one; ``refuse`` makes the error for a type that is not known.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        flat_pads = [int(p) for p in pad] if pad is not None else [0] * 2 * len(kernel)
        # MIL has before and after of each dimension in turn
        return list(zip(flat_pads[::2], flat_pads[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise refuse("this pad_type is not known", expected="valid, custom, same or same_lower", found=pad_type)
    return same_padding(lengths, kernel, strides, lower=pad_type == "same_lower")


class Padding(TypedDict, total=False):
    """The ONNX attributes for padding."""

    auto_pad: str
    pads: list[int]
    output_padding: list[int]


def pad_attributes(pads: Pads | None, *, lower: bool = False) -> Padding:
    """``pads`` as ONNX has them, or its own name for the rule of "same"."""
    if pads is None:
        return {"auto_pad": "SAME_LOWER" if lower else "SAME_UPPER"}
    return {"pads": flat(pads)}


@dataclass(frozen=True)
class Window:
    """Where a pool's windows lie. ``pads`` is None where "same" (``lower``) meets a length known at run time only.

    ``beyond`` is how far the last window reaches past the declared padding, in each dimension (ceil_mode). What lies there
    never counts in an average; the padding itself does unless it is excluded.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    pads: Pads | None
    lower: bool = False
    beyond: Sequence[int] = ()
    ceil: bool = False

    @property
    def ends(self) -> Pads | None:
        """The padding with what lies beyond it, so that rounding down gives as many windows."""
        if self.pads is None or not self.beyond:
            return self.pads
        return [(before, after + more) for (before, after), more in zip(self.pads, self.beyond, strict=True)]

    @property
    def is_wide(self) -> bool:
        """Whether padding is as long as the window, which ONNX Runtime refuses, or takes elements away."""
        return any(not 0 <= p < k for pair, k in zip(self.ends or (), self.kernel, strict=False) for p in pair)


def pool(b: OnnxBuilder, x: ir.Value, kind: str, window: Window, *, exclude: bool = False) -> ir.Value:
    """``x`` [N, C, ...] pooled; ``kind`` is "MAX", "AVERAGE" or "L2", ``exclude`` leaves padding out of averages."""
    if kind == "L2":
        # padding adds zeros to the sum of squares, so that the mean times the window's size is that sum
        mean = pool(b, b.op("Mul", x, x), "AVERAGE", replace(window, pads=window.ends, beyond=()))
        return b.op("Sqrt", b.op("Mul", mean, np.float32(np.prod(window.kernel))))
    if kind == "AVERAGE" and any(window.beyond) and not exclude:
        # the declared padding counts, what lies beyond does not: the one is made real, the other left to ONNX
        x, window = _padded(b, x, window, window.pads or [], 0.0)
        exclude = True
    if kind == "AVERAGE" and exclude and window.is_wide:
        # each mean counts padding; divided by the share of elements in its window, it does not
        whole = replace(window, pads=window.ends, beyond=())
        ones = b.op("Expand", np.float32(1), b.op("Shape", x))
        return b.op("Div", pool(b, x, kind, whole), pool(b, ones, kind, whole))
    # a maximum is taken of nothing below minus infinity, a sum of nothing beside zero
    if window.is_wide:
        x, window = _padded(b, x, replace(window, beyond=()), window.ends or [], -np.inf if kind == "MAX" else 0.0)
    return b.op(
        "MaxPool" if kind == "MAX" else "AveragePool", x,
        kernel_shape=list(window.kernel), strides=list(window.strides), **pad_attributes(window.ends, lower=window.lower),
        ceil_mode=1 if window.ceil and window.ends is None else None,
        count_include_pad=None if kind == "MAX" else int(not exclude),
    )  # fmt: skip


def _padded(b: OnnxBuilder, x: ir.Value, window: Window, pads: Pads, fill: float) -> tuple[ir.Value, Window]:
    """The input with this padding made real; negative amounts crop what no window reaches."""
    if any(flat(pads)):
        x = b.op("Pad", x, np.array(flat([(0, 0), (0, 0), *pads]), np.int64), np.float32(fill))
    return x, replace(window, pads=[(0, 0)] * len(pads))
