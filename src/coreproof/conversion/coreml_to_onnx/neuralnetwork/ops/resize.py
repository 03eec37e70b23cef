"""Layers that sample on a grid: upsample, resizeBilinear, cropResize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.model.coreml.proto import NeuralNetwork_pb2

_GRIDS = {"DEFAULT": "asymmetric", "ALIGN_CORNERS_TRUE": "align_corners", "ALIGN_CORNERS_FALSE": "half_pixel"}


@lowers("upsample")
def upsample(
    layer: Layer,
    x: Blob,
    *,
    scalingFactor: Sequence[int] = (),
    fractionalScalingFactor: Sequence[float] = (),
    mode: str = "NN",
    linearUpsampleMode: str = "DEFAULT",
) -> Blob:
    factors = [float(f) for f in fractionalScalingFactor or scalingFactor or (1, 1)]
    value, restore = layer.batched(x)
    sizes = (known(value) or (None, None))[-2:]
    target: dict[str, Any] = {"sizes": None, "scales": f32([1, 1, *factors])}
    whole = [n for n in sizes if n is not None]
    if len(whole) == 2 and None not in (known(value) or ()):
        scaled = [int(np.floor(np.float32(n) * np.float32(f))) for n, f in zip(whole, factors, strict=True)]
        if mode != "NN" or all(f == int(f) for f in factors):
            target = {"sizes": i64([*(n or 0 for n in (known(value) or ())[:2]), *scaled]), "scales": None}
    if mode == "NN":
        options: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    else:
        options = {"mode": "linear", "coordinate_transformation_mode": _GRIDS[linearUpsampleMode]}
    return restore(layer.b.op("Resize", value, None, target["scales"], target["sizes"], **options))


@lowers("resizeBilinear")
def resize_bilinear(layer: Layer, x: Blob, *, targetSize: Sequence[int] = (1, 1), mode: object = None) -> Blob:
    value, restore = layer.batched(x)
    method = _method(mode)
    shape = known(value) or ()
    if method in ("STRICT_ALIGN_ENDPOINTS_MODE", "UPSAMPLE_MODE") and None not in shape:
        grid = "align_corners" if method.startswith("STRICT") else "asymmetric"
        sizes = i64([*(n or 0 for n in shape[:2]), *targetSize])
        return restore(
            layer.b.op("Resize", value, None, None, sizes, mode="linear", coordinate_transformation_mode=grid)
        )
    if None in shape[-2:]:
        raise layer.refuse("the size of its input is only known when the model runs", found=list(layer.shape(x)))
    rows, columns = (
        _interpolation(grid_points(method, n or 0, out), n or 0) for n, out in zip(shape[-2:], targetSize, strict=True)
    )
    return restore(layer.b.op("MatMul", layer.b.op("MatMul", rows, value), np.ascontiguousarray(columns.T)))


def _method(mode: Any) -> str:
    if mode is None:
        return "STRICT_ALIGN_ENDPOINTS_MODE"
    return str(type(mode).Method.Name(mode.samplingMethod))


def grid_points(method: str, length: int, count: int) -> npt.NDArray[np.float64]:
    """Where ``count`` points lie on [0, length - 1]: the four rules of SamplingMode."""
    start, end = _ends(method, float(length), count)
    return np.minimum(length - 1, np.linspace(start, end, count))


def _ends(method: str, length: float, count: int) -> tuple[float, float]:
    if method == "ALIGN_ENDPOINTS_MODE" and count == 1:
        return (length - 1) / 2, (length - 1) / 2
    if method in ("STRICT_ALIGN_ENDPOINTS_MODE", "ALIGN_ENDPOINTS_MODE"):
        return 0.0, length - 1
    if method == "UPSAMPLE_MODE":
        return 0.0, length - length / count
    spacing = max(1.0, length - 1) / count
    return 0.5 * spacing, 0.5 * spacing + (count - 1) * spacing


def _interpolation(points: np.ndarray, length: int) -> npt.NDArray[np.float32]:
    """[points, length] weights: each point is shared by its two neighbours."""
    distance = np.abs(points[:, None] - np.arange(length)[None, :])
    weights: npt.NDArray[np.float32] = np.maximum(0.0, 1.0 - distance).astype(np.float32)
    return weights


@lowers("cropResize")
def crop_resize(
    layer: Layer,
    x: Blob,
    boxes: Blob,
    *,
    targetSize: Sequence[int] = (1, 1),
    normalizedCoordinates: bool = False,
    mode: object = None,
    boxIndicesMode: NeuralNetwork_pb2.BoxCoordinatesMode | None = None,
    spatialScale: float = 1.0,
) -> Blob:
    """[1, B, C, H, W] and N boxes to [N, B, C, h, w], or with batch ids (5 numbers a box) to [N, 1, C, h, w]."""
    b = layer.b
    if layer.rank(x) not in (4, 5):
        raise layer.refuse("it crops rank 5 blobs", expected="[1, B, C, H, W]", found=list(layer.shape(x)))
    value = x.value if len(x.value.shape or ()) == 4 else b.op("Squeeze", layer.exact(x), i64([0]))
    size = (known(value) or ())[-2:]
    numbers = layer.shape(boxes)[-3] if layer.rank(boxes) == 5 else layer.shape(boxes)[-1]
    if numbers not in (4, 5) or None in size:
        raise layer.refuse(
            "its boxes or its input are not of a fixed kind",
            expected="[N, 1, 4, 1, 1] or [N, 1, 5, 1, 1], and a fixed height and width",
            found=f"{list(layer.shape(boxes))} and {list(layer.shape(x))}",
        )
    flat = b.op("Reshape", layer.exact(boxes), i64([-1, numbers]))
    if numbers == 5:
        ids = b.op("Cast", _column(layer, flat, 0), to=int(ir.DataType.INT64))
        picked = b.op("Unsqueeze", b.op("Gather", value, b.op("Squeeze", ids, i64([1]))), i64([1]))
        flat = b.op("Slice", flat, i64([1]), i64([5]), i64([1]))
    else:
        picked = b.op("Unsqueeze", value, i64([0]))
    corners = _corners(layer, flat, "CORNERS_HEIGHT_FIRST" if boxIndicesMode is None else
                       str(type(boxIndicesMode).Coordinates.Name(boxIndicesMode.boxMode)))  # fmt: skip
    method = _method(mode)
    weights = []
    for (first, last), length, count in zip(corners, size, targetSize, strict=True):
        factor = spatialScale * ((length or 0) - 1 if normalizedCoordinates else 1)
        points = _box_points(layer, method, b.op("Mul", first, f32(factor)), b.op("Mul", last, f32(factor)), count)
        points = b.op("Clip", points, f32(0), f32((length or 0) - 1))
        distance = b.op("Abs", b.op("Sub", b.op("Unsqueeze", points, i64([2])), f32(range(length or 0))))
        weights.append(b.op("Relu", b.op("Sub", f32(1), distance)))  # [N, count, length]
    rows = b.op("Unsqueeze", weights[0], i64([1, 2]))
    columns = b.op("Transpose", b.op("Unsqueeze", weights[1], i64([1, 2])), perm=[0, 1, 2, 4, 3])
    return Blob(b.op("MatMul", b.op("MatMul", rows, picked), columns))


def _column(layer: Layer, boxes: ir.Value, index: int) -> ir.Value:
    return layer.b.op("Slice", boxes, i64([index]), i64([index + 1]), i64([1]))


def _corners(layer: Layer, boxes: ir.Value, mode: str) -> list[tuple[ir.Value, ir.Value]]:
    """[(first row, last row), (first column, last column)], each [N, 1]."""
    columns = [_column(layer, boxes, i) for i in range(4)]
    if mode.endswith("WIDTH_FIRST"):
        columns = [columns[1], columns[0], columns[3], columns[2]]
    if mode.startswith("CORNERS"):
        return [(columns[0], columns[2]), (columns[1], columns[3])]
    half = [layer.b.op("Mul", c, f32(0.5)) for c in columns[2:]]
    return [
        (layer.b.op("Sub", centre, h), layer.b.op("Add", centre, h))
        for centre, h in zip(columns[:2], half, strict=True)
    ]


def _box_points(layer: Layer, method: str, first: ir.Value, last: ir.Value, count: int) -> ir.Value:
    """[N, count] sampling points of each box side: SamplingMode on [first, last], X - 1 being their distance."""
    b = layer.b
    length = b.op("Sub", last, first)
    result: ir.Value
    if method == "ROI_ALIGN_MODE":
        spacing = b.op("Div", b.op("Max", length, f32(1)), f32(count))
        result = b.op("Add", first, b.op("Mul", spacing, (np.arange(count) + 0.5).astype(np.float32)))
        return result
    if method == "UPSAMPLE_MODE":
        step = b.op("Div", b.op("Add", length, f32(1)), f32(count))
        result = b.op("Min", last, b.op("Add", first, b.op("Mul", step, f32(range(count)))))
        return result
    shares = np.linspace(0, 1, count) if count > 1 else np.zeros(1) if method.startswith("STRICT") else np.full(1, 0.5)
    result = b.op("Add", first, b.op("Mul", length, shares.astype(np.float32)))
    return result
