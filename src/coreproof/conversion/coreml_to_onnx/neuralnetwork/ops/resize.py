"""Layers that sample on a grid: upsample, resizeBilinear, cropResize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.conversion.coreml_to_onnx.sampling import box_points, corners, interpolation
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
    shape = known(value) or (None,)
    sizes = None
    # a nearest neighbour is picked by the factor itself, which rounding the size down would change
    if None not in shape and (mode != "NN" or all(f == int(f) for f in factors)):
        *lead, height, width = layer.fixed(shape)
        # in float32, in which the file has its factors
        scaled = (int(np.floor(np.float32(n) * np.float32(f))) for n, f in zip((height, width), factors, strict=True))
        sizes = i64([*lead, *scaled])
    is_nearest = mode == "NN"
    resized = layer.b.op(
        "Resize", value, None, f32([1, 1, *factors]) if sizes is None else None, sizes,
        mode="nearest" if is_nearest else "linear", nearest_mode="floor" if is_nearest else None,
        coordinate_transformation_mode="asymmetric" if is_nearest else _GRIDS[linearUpsampleMode],
    )  # fmt: skip
    return restore(resized)


@lowers("resizeBilinear")
def resize_bilinear(
    layer: Layer, x: Blob, *, targetSize: Sequence[int] = (1, 1), mode: NeuralNetwork_pb2.SamplingMode | None = None
) -> Blob:
    value, restore = layer.batched(x)
    sampling = _sampling(mode)
    shape = known(value) or ()
    if sampling in ("STRICT_ALIGN_CORNERS", "DEFAULT") and None not in shape:
        grid = "align_corners" if sampling == "STRICT_ALIGN_CORNERS" else "asymmetric"
        sizes = i64([*layer.fixed(shape[:2]), *targetSize])
        return restore(
            layer.b.op("Resize", value, None, None, sizes, mode="linear", coordinate_transformation_mode=grid)
        )
    rows, columns = (
        interpolation(n, count, sampling) for n, count in zip(layer.fixed(shape[-2:]), targetSize, strict=True)
    )
    return restore(layer.b.op("MatMul", layer.b.op("MatMul", rows, value), np.ascontiguousarray(columns.T)))


_SAMPLING = {
    "STRICT_ALIGN_ENDPOINTS_MODE": "STRICT_ALIGN_CORNERS",
    "ALIGN_ENDPOINTS_MODE": "ALIGN_CORNERS",
    "UPSAMPLE_MODE": "DEFAULT",
    "ROI_ALIGN_MODE": "OFFSET_CORNERS",
}
"""SamplingMode.Method -> MIL's name for the same."""


def _sampling(mode: NeuralNetwork_pb2.SamplingMode | None) -> str:
    """MIL's name of the method; a message that is not set holds the method of number 0 (Protocol Buffers, version 3)."""
    said = NeuralNetwork_pb2.SamplingMode() if mode is None else mode
    return _SAMPLING[NeuralNetwork_pb2.SamplingMode.Method.Name(said.samplingMethod)]


@lowers("cropResize")
def crop_resize(
    layer: Layer,
    x: Blob,
    boxes: Blob,
    *,
    targetSize: Sequence[int] = (1, 1),
    normalizedCoordinates: bool = False,
    mode: NeuralNetwork_pb2.SamplingMode | None = None,
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
        # the first of five numbers is the image that the box lies in
        ids = b.op("Cast", b.op("Gather", flat, i64(0), axis=1), to=int(ir.DataType.INT64))
        picked = b.op("Unsqueeze", b.op("Gather", value, ids), i64([1]))
        flat = b.op("Slice", flat, i64([1]), i64([5]), i64([1]))
    else:
        # every box crops every image
        picked = b.op("Unsqueeze", value, i64([0]))
    order = NeuralNetwork_pb2.BoxCoordinatesMode() if boxIndicesMode is None else boxIndicesMode
    sides = corners(b, flat, NeuralNetwork_pb2.BoxCoordinatesMode.Coordinates.Name(order.boxMode))
    weights = []
    for (first, last), length, count in zip(sides, layer.fixed(size), targetSize, strict=True):
        factor = f32(spatialScale * (length - 1 if normalizedCoordinates else 1))
        points = box_points(b, b.op("Mul", first, factor), b.op("Mul", last, factor), count, _sampling(mode))
        # beyond the picture its border goes on
        points = b.op("Clip", points, f32(0), f32(length - 1))
        distance = b.op("Abs", b.op("Sub", b.op("Unsqueeze", points, i64([2])), f32(range(length))))
        # linear interpolation as a matrix: 1 at the point itself, falling to 0 one pixel away
        weights.append(b.op("Relu", b.op("Sub", f32(1), distance)))  # [N, count, length]
    rows = b.op("Unsqueeze", weights[0], i64([1, 2]))
    columns = b.op("Transpose", b.op("Unsqueeze", weights[1], i64([1, 2])), perm=[0, 1, 2, 4, 3])
    return Blob(b.op("MatMul", b.op("MatMul", rows, picked), columns))
