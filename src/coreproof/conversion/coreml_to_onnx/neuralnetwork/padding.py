"""What convolutions and poolings share: the border amounts of ``valid`` and the arithmetic of ``same``."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.coreml_to_onnx import windows
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Layer
from coreproof.model.coreml.proto import NeuralNetwork_pb2


def borders(layer: Layer, message: NeuralNetwork_pb2.BorderAmounts | None) -> tuple[int, int, int, int]:
    """BorderAmounts as (top, left, bottom, right); zeros when nothing is set."""
    edges = list(message.borderAmounts) if message is not None else []
    if not edges:
        return 0, 0, 0, 0
    if len(edges) != 2:
        raise layer.refuse("its border amounts are incomplete", expected="2 (height, width)", found=len(edges))
    height, width = edges
    return (
        int(height.startEdgeSize),
        int(width.startEdgeSize),
        int(height.endEdgeSize),
        int(width.endEdgeSize),
    )


def same_pads(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], *, top_left_heavy: bool = False
) -> list[int]:
    """ONNX ``pads`` such that each output length is ceil(size / stride); ``kernel`` is the dilated one."""
    axes = zip(sizes, kernel, stride, strict=True)
    pads = [windows.same_pads(size, k, s, lower=top_left_heavy) for size, k, s in axes]
    return [before for before, _ in pads] + [after for _, after in pads]


def split_total(total: Sequence[int], *, top_left_heavy: bool = False) -> list[int]:
    """Total amounts a dimension split into ONNX ``pads``."""
    small = [t // 2 for t in total]
    large = [t - t // 2 for t in total]
    return large + small if top_left_heavy else small + large
