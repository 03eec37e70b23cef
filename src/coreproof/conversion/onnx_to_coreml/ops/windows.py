"""What convolution and pooling share: how a window's padding is stated in ONNX, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.onnx_to_coreml.lowering import Context


def explicit_pads(
    ctx: Context,
    auto_pad: str | bytes,
    pads: Sequence[int] | None,
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """(begin, end) padding of each spatial dimension: as given, or what auto_pad SAME_* and VALID stand for."""
    mode = auto_pad.decode() if isinstance(auto_pad, bytes) else auto_pad
    count = len(kernel)
    if mode in ("NOTSET", ""):
        flat = list(pads or [0] * 2 * count)
        return list(zip(flat[:count], flat[count:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * count
    result = []
    for length, size, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        if not isinstance(length, int):
            raise ctx.refuse(f"auto_pad {mode} with a free spatial size", "explicit pads")
        reach = (size - 1) * dilation + 1
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        small, large = total // 2, total - total // 2
        result.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return result


def flat_pads(pads: Sequence[tuple[int, int]]) -> list[int]:
    """[begin0, end0, begin1, end1, ...], as MIL has them."""
    return [p for pair in pads for p in pair]
