"""Where Core ML's bilinear layers sample along an axis, and how they weight what they find, in both formats.

The modes bear MIL's names (coremltools, iOS15 resize_bilinear); NeuralNetwork.proto's SamplingMode has four of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder


def grid_points(length: int, count: int, mode: str) -> npt.NDArray[np.float64]:
    """Where in [0, length - 1] the ``count`` samples lie."""
    i = np.arange(count, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.full(1, (length - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0)
        points = i * (length - 1) / (count - 1)
    elif mode == "OFFSET_CORNERS":
        points = (i + 0.5) * max(1, length - 1) / count
    elif mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * length / count - 0.5
    else:
        points = i * length / count
    return np.clip(points, 0, length - 1)


def interpolation(length: int, count: int, mode: str) -> npt.NDArray[np.float32]:
    """[count, length] weights: each point is shared by its two neighbours."""
    # 1 at a point's own pixel, 0 from the next one on: two neighbours share it
    distance = np.abs(grid_points(length, count, mode)[:, None] - np.arange(length)[None, :])
    return np.maximum(0.0, 1.0 - distance).astype(np.float32)


def box_points(b: OnnxBuilder, start: ir.Value, end: ir.Value, count: int, mode: str) -> ir.Value:
    """[N, count] coordinates along one dimension of boxes from ``start`` to ``end`` ([N, 1] each, both included)."""
    i = np.arange(count, dtype=np.float32)[None]
    half = np.float32(0.5)
    span = b.op("Sub", end, start)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = half if mode == "ALIGN_CORNERS" else np.float32(0)
        return b.op("Add", start, b.op("Mul", span, alone if count == 1 else i / np.float32(count - 1)))
    if mode == "OFFSET_CORNERS":
        step = b.op("Div", b.op("Max", span, np.float32(1)), np.float32(count))
        points = b.op("Add", start, b.op("Mul", step, i + half))
    else:
        step = b.op("Div", b.op("Add", span, np.float32(1)), np.float32(count))
        points = b.op("Add", start, b.op("Mul", step, i + half if mode == "UNALIGN_CORNERS" else i))
        points = b.op("Sub", points, half) if mode == "UNALIGN_CORNERS" else points
    # as within a whole picture: no point lies beyond the centres of the outer pixels
    return b.op("Max", start, b.op("Min", points, end))


def corners(b: OnnxBuilder, boxes: ir.Value, mode: str) -> list[tuple[ir.Value, ir.Value]]:
    """[(first row, last row), (first column, last column)] of boxes [N, 4], each [N, 1]."""
    first, second, third, fourth = (b.op("Gather", boxes, np.array([i]), axis=1) for i in range(4))
    # x before y: what follows reads rows before columns
    if mode.endswith("WIDTH_FIRST"):
        first, second, third, fourth = second, first, fourth, third
    if mode.startswith("CORNERS"):
        return [(first, third), (second, fourth)]
    sides = [(centre, b.op("Mul", size, np.float32(0.5))) for centre, size in ((first, third), (second, fourth))]
    return [(b.op("Sub", centre, half), b.op("Add", centre, half)) for centre, half in sides]
