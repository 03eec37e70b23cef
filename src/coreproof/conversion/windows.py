"""Where the windows of convolutions and poolings lie along one axis, in every format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Pads: TypeAlias = list[tuple[int, int]]
"""How much is added before and after, axis by axis."""


def reaches(kernel: Iterable[int], dilations: Iterable[int]) -> list[int]:
    """How many elements a kernel spans in each dimension, the gaps of its dilation included."""
    return [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]


def halves(total: int, *, lower: bool) -> tuple[int, int]:
    """A total amount split before and after; the odd one goes after, or before if ``lower``."""
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def same_pads(length: int, kernel: int, stride: int, *, lower: bool) -> tuple[int, int]:
    """Padding before and after so that ceil(length / stride) windows fit; the odd one goes after, or before if ``lower``.

    ``kernel`` is the dilated one.
    """
    # ceil(length / stride) windows reach over (count - 1) * stride + kernel elements
    return halves(max((-(-length // stride) - 1) * stride + kernel - length, 0), lower=lower)


def cropped(total: int, *, lower: bool) -> tuple[tuple[int, int], int]:
    """How a transposed convolution loses ``total`` elements: its pads, and what is added at the end where it has too few."""
    return halves(max(total, 0), lower=lower), max(-total, 0)


def reach_beyond(length: int, kernel: int, stride: int, before: int, after: int, *, inside: bool | None = None) -> int:
    """How far the last window reaches past the padded axis, where windows are counted up (ceil); negative: it ends before.

    In a padded axis every window has to start before the padding behind it, as PyTorch and Caffe have it: one that would lie
    in nothing but padding is left out. ``inside`` says so outright: a NeuralNetwork asks it of all axes where one is padded.
    """
    padded = length + before + after
    # one window, and one more for each stride begun behind it
    count = -(-(padded - kernel) // stride) + 1
    if (before + after > 0 if inside is None else inside) and (count - 1) * stride >= length + before:
        count -= 1
    return (count - 1) * stride + kernel - padded


def flat(pads: Sequence[tuple[int, int]]) -> list[int]:
    """ONNX's order: all that is added before, then all that is added after."""
    return [before for before, _ in pads] + [after for _, after in pads]
