"""Where the windows of convolutions and poolings lie along one axis, in both Core ML formats."""

from __future__ import annotations


def same_pads(length: int, kernel: int, stride: int, *, lower: bool) -> tuple[int, int]:
    """Padding before and after so that ceil(length / stride) windows fit; the odd one goes after, or before if ``lower``.

    ``kernel`` is the dilated one.
    """
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if lower else (small, large)


def reach_beyond(length: int, kernel: int, stride: int, before: int, after: int, *, inside: bool | None = None) -> int:
    """How far the last window reaches past the padded axis, where windows are counted up (ceil); negative: it ends before.

    In a padded axis every window has to start before the padding behind it, as PyTorch and Caffe have it: one that would lie
    in nothing but padding is left out. ``inside`` says so outright: a NeuralNetwork asks it of all axes where one is padded.
    """
    padded = length + before + after
    count = -(-(padded - kernel) // stride) + 1
    if (before + after > 0 if inside is None else inside) and (count - 1) * stride >= length + before:
        count -= 1
    return (count - 1) * stride + kernel - padded
