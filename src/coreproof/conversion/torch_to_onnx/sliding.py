"""Windows that slide over pictures of free size (``F.unfold``), which PyTorch's exporter cuts in six dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import lengths, operators, whole

_END = 2**31 - 1


def cut_into_windows(of_known_size: Callable[..., ir.Value]) -> Callable[..., ir.Value]:
    """How ``aten.im2col`` is written: by ``of_known_size``, PyTorch's own way, and of a picture of free size by slices.

    [N, C, H, W] -> [N, C * kh * kw, windows]. Core ML folds six dimensions where at most one of their groups is free; of rows and
    columns that are both free there are two. Each tap of a window is one slice of the picture, along the rows and then along
    the columns, so that nothing is multiplied: an infinity stays in its window.
    """

    def im2col(
        x: ir.Value, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
    ) -> ir.Value:
        *_, channels, height, width = lengths(x)
        if (isinstance(height, int) and isinstance(width, int)) or not isinstance(channels, int):
            return of_known_size(x, kernel_size, dilation, padding, stride)
        op = operators()
        unbatched = len(lengths(x)) == 3
        cut = op.Unsqueeze(x, whole(0)) if unbatched else x
        if any(padding):
            cut = op.Pad(cut, whole(0, 0, *padding, 0, 0, *padding))
        for axis, size, apart, step in zip((2, 3), kernel_size, dilation, stride, strict=True):
            # as many as there are windows: the last one ends where the picture does
            ends = [(tap - size + 1) * apart or _END for tap in range(size)]
            bounds = [(whole(tap * apart), whole(end)) for tap, end in enumerate(ends)]
            cut = op.Concat(*(op.Slice(cut, first, last, whole(axis), whole(step)) for first, last in bounds), axis=1)
        rows, columns = kernel_size
        taps = op.Transpose(op.Reshape(cut, whole(0, columns, rows, channels, -1)), perm=[0, 3, 2, 1, 4])
        made = op.Reshape(taps, whole(0, channels * rows * columns, -1))
        return op.Squeeze(made, whole(0)) if unbatched else made

    return im2col
