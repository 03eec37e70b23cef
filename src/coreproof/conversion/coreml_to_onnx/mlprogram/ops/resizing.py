"""MIL's resizing of the last two dimensions: upsampling by factors, resizing to a size, in every sampling mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers

_COORDINATES = {
    "STRICT_ALIGN_CORNERS": "align_corners",
    "ALIGN_CORNERS": "align_corners",
    "DEFAULT": "asymmetric",
    "UNALIGN_CORNERS": "half_pixel",
}


@lowers("upsample_nearest_neighbor", exact=True, error="move", wide=("scale_factor_height", "scale_factor_width"))
def upsample_nearest_neighbor(
    low: Lowering, *, x: Operand, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> ir.Value:
    return _scaled(low, x, (scale_factor_height, scale_factor_width), "asymmetric", "nearest")


@lowers("upsample_bilinear", error="average", interpolates=True, wide=("scale_factor_height", "scale_factor_width"))
def upsample_bilinear(
    low: Lowering,
    *,
    x: Operand,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> ir.Value:
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and half:
        raise low.refuse("align_corners and half_pixel_centers exclude each other")
    coordinates = "align_corners" if align_corners else "half_pixel" if half else "asymmetric"
    return _scaled(low, x, (scale_factor_height, scale_factor_width), coordinates, "linear")


@lowers("resize_nearest_neighbor", exact=True, error="move")
def resize_nearest_neighbor(low: Lowering, *, x: Operand, target_size_height: int, target_size_width: int) -> ir.Value:
    return _sized(low, x, (int(target_size_height), int(target_size_width)), "asymmetric", "nearest")


@lowers("resize_bilinear", error="average", interpolates=True)
def resize_bilinear(
    low: Lowering,
    *,
    x: Operand,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> ir.Value:
    return _bilinear(low, x, (int(target_size_height), int(target_size_width)), sampling_mode)


@lowers("resize", since="iOS17", error="average", interpolates=True)
def resize(
    low: Lowering,
    *,
    x: Operand,
    shape: Operand,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> ir.Value:
    """The last ``resized_dims`` entries of ``shape`` are the new lengths of the last dimensions; 0 keeps a length."""
    count = int(resized_dims)
    is_integer = not low.is_float(x)
    data = low.cast(x, ir.DataType.FLOAT)
    nearest = interpolation_mode == "NEAREST_NEIGHBOR"
    if not isinstance(shape, ir.Value):
        wanted = [int(n) for n in np.ravel(low.constant(shape, "shape"))][-count:] if count else []
        lengths = low.shape(x)
        wanted = [n or lengths[i - count] or 0 for i, n in enumerate(wanted)]
        if count == 1:
            wanted = [lengths[-2] or 0, *wanted]
        if len(wanted) == 2 and 0 not in wanted:
            size = (wanted[0], wanted[1])
            result = _nearest(low, data, size, sampling_mode) if nearest else _bilinear(low, data, size, sampling_mode)
            return low.i32(result) if is_integer else result
    if sampling_mode not in _COORDINATES:
        raise low.refuse("this sampling mode needs a target size that is known", found=sampling_mode)
    dims = low.dims(x)
    kept = low.op("Slice", dims, np.array([0], np.int64), np.array([low.rank(x) - count], np.int64))
    tail = low.op("Slice", low.i64(shape), np.array([-count], np.int64), np.array([2**62], np.int64))
    old = low.op("Slice", dims, np.array([-count], np.int64), np.array([2**62], np.int64))
    tail = low.op("Where", low.op("Equal", tail, np.array(0, np.int64)), old, tail)
    sizes = low.op("Concat", kept, tail, axis=0)
    result = low.op(
        "Resize", data, None, None, sizes,
        coordinate_transformation_mode=_COORDINATES[sampling_mode],
        mode="nearest" if nearest else "linear", nearest_mode="round_prefer_ceil",
    )  # fmt: skip
    return low.i32(result) if is_integer else result


def _scaled(low: Lowering, x: Operand, factors: Sequence[float], coordinates: str, mode: str) -> ir.Value:
    """Resizes by factors; where the size is known the factor is recomputed from it, as MIL says."""
    height, width = low.shape(x)[-2:]
    if height is not None and width is not None:
        size = (_floor_product(height, factors[0]), _floor_product(width, factors[1]))
        return _sized(low, x, size, coordinates, mode)
    scales = np.array([*[1.0] * (low.rank(x) - 2), float(factors[0]), float(factors[1])], np.float32)
    return low.op(
        "Resize", x, None, scales, coordinate_transformation_mode=coordinates, mode=mode, nearest_mode="floor"
    )


def _floor_product(length: int, factor: Operand) -> int:
    return int(np.floor(np.asarray(factor) * length))


def _bilinear(low: Lowering, x: Operand, size: tuple[int, int], sampling_mode: str) -> ir.Value:
    lengths = low.shape(x)[-2:]
    is_plain = sampling_mode in _COORDINATES and not (sampling_mode == "ALIGN_CORNERS" and 1 in size)
    if is_plain:
        return _sized(low, x, size, _COORDINATES[sampling_mode], "linear")
    if None in lengths:
        raise low.refuse("this sampling mode needs an input of known size", found=sampling_mode)
    rows = _interpolation(lengths[0] or 0, size[0], sampling_mode)
    columns = _interpolation(lengths[1] or 0, size[1], sampling_mode)
    return low.op("MatMul", rows, low.op("MatMul", x, np.ascontiguousarray(columns.T)))


def grid_points(length: int, count: int, sampling_mode: str) -> npt.NDArray[np.float64]:
    """Where in [0, length - 1] the ``count`` samples lie (coremltools, iOS15 resize_bilinear)."""
    i = np.arange(count, dtype=np.float64)
    if sampling_mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return np.full(1, (length - 1) / 2 if sampling_mode == "ALIGN_CORNERS" else 0.0)
        points = i * (length - 1) / (count - 1)
    elif sampling_mode == "OFFSET_CORNERS":
        delta = max(1, length - 1) / count
        points = 0.5 * delta + i * delta
    elif sampling_mode == "UNALIGN_CORNERS":
        points = (i + 0.5) * length / count - 0.5
    else:
        points = i * length / count
    return np.clip(points, 0, length - 1)


def _interpolation(length: int, count: int, sampling_mode: str) -> npt.NDArray[np.float32]:
    """The matrix [count, length] that interpolates along one dimension."""
    points = grid_points(length, count, sampling_mode)
    left = np.floor(points).astype(int)
    right = np.minimum(left + 1, length - 1)
    matrix = np.zeros((count, length))
    np.add.at(matrix, (np.arange(count), left), 1 - (points - left))
    np.add.at(matrix, (np.arange(count), right), points - left)
    return matrix.astype(np.float32)


def _sized(low: Lowering, x: Operand, size: tuple[int, int], coordinates: str, mode: str) -> ir.Value:
    """Resize to a known size. ONNX Runtime interpolates rank 4 fast, so other ranks pass through it."""
    shape = low.shape(x)
    if len(shape) != 4:
        if any(n is None for n in shape):
            raise low.refuse("it needs an input of known size", found=shape)
        lead = [n or 0 for n in shape[:-2]]
        x = low.reshape(x, [1, int(np.prod(lead)), shape[-2] or 0, shape[-1] or 0])
    else:
        lead = []
    if shape[0] is None or shape[-3] is None or None in shape[-2:]:
        head = low.op("Slice", low.dims(x), np.array([0], np.int64), np.array([2], np.int64))
        sizes: Operand = low.op("Concat", head, np.array(size, np.int64), axis=0)
    else:
        sizes = np.array([*low.shape(x)[:2], *size], np.int64)
    result = low.op(
        "Resize", x, None, None, sizes, coordinate_transformation_mode=coordinates, mode=mode, nearest_mode="floor"
    )
    return low.reshape(result, [*lead, *size]) if len(shape) != 4 else result


def _nearest(low: Lowering, x: Operand, size: tuple[int, int], sampling_mode: str) -> ir.Value:
    """The pixel nearest to each grid point; half way between two, the later one."""
    height, width = low.shape(x)[-2:]
    if height is None or width is None:
        raise low.refuse("this sampling mode needs an input of known size", found=sampling_mode)
    rank = low.rank(x)
    for axis, length, count in ((rank - 2, height, size[0]), (rank - 1, width, size[1])):
        picked = np.minimum(np.floor(grid_points(length, count, sampling_mode) + 0.5), length - 1).astype(np.int64)
        x = low.op("Gather", x, picked, axis=axis)
    return low.value(x)
