"""What convolution and pooling share: how a window's padding is stated in ONNX, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.onnx_to_coreml.lowering import Context
from coreproof.conversion.windows import Pads, same_pads


def explicit_pads(
    ctx: Context,
    auto_pad: str,
    pads: Sequence[int] | None,
    spatial: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
) -> Pads:
    """(begin, end) padding of each spatial dimension: as given, or what auto_pad SAME_* and VALID stand for.

    ``kernel`` is the dilated one.
    """
    count = len(kernel)
    if auto_pad in ("NOTSET", ""):
        flat = list(pads or [0] * 2 * count)
        return list(zip(flat[:count], flat[count:], strict=True))
    if auto_pad == "VALID":
        return [(0, 0)] * count
    if not all(isinstance(length, int) for length in spatial):
        raise ctx.refuse(f"auto_pad {auto_pad} with a free spatial size", "explicit pads")
    axes = zip(spatial, kernel, strides, strict=True)
    return [same_pads(length, size, stride, lower=auto_pad == "SAME_LOWER") for length, size, stride in axes]


def flat_pads(pads: Sequence[tuple[int, int]]) -> list[int]:
    """[begin0, end0, begin1, end1, ...], as MIL has them."""
    return [p for pair in pads for p in pair]
