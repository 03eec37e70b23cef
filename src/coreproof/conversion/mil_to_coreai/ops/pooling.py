"""MIL's pooling in Core AI's, which pads nothing itself, sums instead of averaging, and knows two and three dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from coreproof.conversion.coreml_to_onnx.pools import declared_pads
from coreproof.conversion.mil_to_coreai.ops.convolution import windowed
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates, ui
from coreproof.conversion.windows import Pads, reach_beyond


def _pads(
    t: Translation, x: Operand, kernel: Sequence[int], strides: Sequence[int], pad_type: str, pad: Sequence[int] | None
) -> Pads:
    found = declared_pads(t.refuse, t.shape(x)[2:], pad_type, pad, kernel, strides)
    if found is None:
        raise t.refuse("this padding needs an input of known size", found=list(t.shape(x)))
    return found


def _ends(t: Translation, x: Operand, kernel: Sequence[int], strides: Sequence[int], pads: Pads, *, ceil: bool) -> Pads:
    """The padding with what the last window reaches beyond it, where windows are counted up."""
    if not ceil:
        return pads
    lengths = t.fixed(t.shape(x)[2:], "ceil_mode needs an input of known size")
    axes = zip(lengths, kernel, strides, pads, strict=True)
    return [(b, a + max(reach_beyond(n, k, s, b, a), 0)) for n, k, s, (b, a) in axes]


def _windows(
    t: Translation,
    x: Operand,
    kernel_sizes: Sequence[int],
    strides: Sequence[int] | None,
    pad_type: str,
    pad: Sequence[int] | None,
    *,
    ceil: bool,
) -> tuple[list[int], list[int], Pads, Pads]:
    """The windows' lengths and steps, the padding that is asked for, and that which the last window reaches."""
    kernel = [int(k) for k in kernel_sizes]
    stride = [1] * len(kernel) if strides is None else [int(s) for s in strides]
    pads = _pads(t, x, kernel, stride, pad_type, pad)
    return kernel, stride, pads, _ends(t, x, kernel, stride, pads, ceil=ceil)


def _pooled(t: Translation, kind: str, x: Tensor, kernel: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Windows without padding; of one dimension as those of a picture of one row."""
    count = len(kernel)
    if count > 3:
        raise t.refuse("Core AI pools up to three dimensions", found=count)
    lengths = [None if n is None else (n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, strides, strict=True)]
    shape, flat = [*x.shape[:2], *lengths], count == 1
    if flat:
        x, shape = t.expand_dims(x, [2]), [*x.shape[:2], 1, *lengths]
        kernel, strides = [1, *kernel], [1, *strides]
    operands: list[Operand] = [x, ui(kernel), ui(strides), ui([1] * len(kernel)), *([False] if kind == "max" else [])]
    made = t.op(f"{kind}_pool_{3 if count == 3 else 2}d", *operands, shape=shape)
    return t.shrink_dims(made, [2]) if flat else made


@translates("max_pool")
def max_pool(
    t: Translation,
    *,
    x: Operand,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    kernel, stride, _, ends = _windows(t, x, kernel_sizes, strides, pad_type, pad, ceil=ceil_mode)
    return _pooled(t, "max", windowed(t, x, ends, -np.inf), kernel, stride)


@translates("avg_pool", in_float32=True)
def avg_pool(
    t: Translation,
    *,
    x: Operand,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    kernel, stride, pads, ends = _windows(t, x, kernel_sizes, strides, pad_type, pad, ceil=ceil_mode)
    total = _pooled(t, "sum", windowed(t, x, ends), kernel, stride)
    counted = [(0, 0)] * len(kernel) if exclude_padding_from_average else pads
    if ends == counted:
        return t.binary("divide", total, float(math.prod(kernel)))
    lengths = t.fixed(t.shape(x)[2:], "an average without what lies outside needs an input of known size")
    return t.binary("divide", total, _counts(lengths, kernel, stride, ends, counted))


def _counts(
    lengths: Sequence[int], kernel: Sequence[int], strides: Sequence[int], ends: Pads, counted: Pads
) -> np.ndarray:
    """How many elements of each window count: those of the tensor, and of the padding that is counted with them."""
    result = np.ones(1, np.float32)
    for n, k, s, (before, after), (from_, to) in zip(lengths, kernel, strides, ends, counted, strict=True):
        starts = np.arange(0, n + before + after - k + 1, s) - before
        inside = np.minimum(starts + k, n + to) - np.maximum(starts, -from_)
        # a window that counts nothing is a sum of nothing
        result = result[..., None] * np.maximum(inside, 1).astype(np.float32)
    counts: np.ndarray = result[0]
    return counts


@translates("l2_pool", in_float32=True)
def l2_pool(
    t: Translation,
    *,
    x: Operand,
    kernel_sizes: Sequence[int],
    pad_type: str,
    strides: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    kernel, stride, _, ends = _windows(t, x, kernel_sizes, strides, pad_type, pad, ceil=ceil_mode)
    squares = windowed(t, t.binary("mul", x, x), ends)
    return t.unary("sqrt", _pooled(t, "sum", squares, kernel, stride))
