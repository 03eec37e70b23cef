"""MIL's resizing of the last two dimensions: upsampling by factors, resizing to a size, in every sampling mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.sampling import grid_points, interpolation

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
    # before iOS 16 there is no half_pixel_centers: what is not aligned at the corners is at the centres
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
    # resized as floats, whatever is stored, and whole numbers again behind it
    is_integer = not low.is_float(x)
    data = low.cast(x, ir.DataType.FLOAT)
    nearest = interpolation_mode == "NEAREST_NEIGHBOR"
    if not isinstance(shape, ir.Value):
        wanted = [int(n) for n in np.ravel(low.constant(shape, "shape"))][-count:] if count else []
        lengths = low.shape(x)
        wanted = [n or lengths[i - count] or 0 for i, n in enumerate(wanted)]
        # one resized dimension is the width of a picture whose height stays
        if count == 1:
            wanted = [lengths[-2] or 0, *wanted]
        if len(wanted) == 2 and 0 not in wanted:
            size = (wanted[0], wanted[1])
            result = _nearest(low, data, size, sampling_mode) if nearest else _bilinear(low, data, size, sampling_mode)
            return low.i32(result) if is_integer else result
    if sampling_mode not in _COORDINATES:
        raise low.refuse("this sampling mode needs a target size that is known", found=sampling_mode)
    dims = low.dims(x)
    kept = low.op("Slice", dims, [0], [low.rank(x) - count])
    # ONNX cuts an end off at the length: so large a number is the end of any axis
    tail = low.op("Slice", low.i64(shape), [-count], [2**62])
    old = low.op("Slice", dims, [-count], [2**62])
    tail = low.op("Where", low.op("Equal", tail, np.array(0, np.int64)), old, tail)
    sizes = low.op("Concat", kept, tail, axis=0)
    result = low.op(
        "Resize", data, None, None, sizes,
        coordinate_transformation_mode=_COORDINATES[sampling_mode],
        mode="nearest" if nearest else "linear", nearest_mode="round_prefer_ceil",
    )  # fmt: skip
    return low.i32(result) if is_integer else result


def _scaled(low: Lowering, x: Operand, factors: Sequence[float], coordinates: str, mode: str) -> ir.Value:
    """Resizes by factors, to whole lengths, from which the factors are computed anew, as MIL says."""
    height, width = low.shape(x)[-2:]
    if height is not None and width is not None:
        size = (_floor_product(height, factors[0]), _floor_product(width, factors[1]))
        return _sized(low, x, size, coordinates, mode)
    dims = low.dims(x)
    lengths = low.cast(low.op("Slice", dims, [-2], [2**62]), ir.DataType.FLOAT)
    product = low.op("Floor", low.op("Mul", lengths, np.array([float(f) for f in factors], np.float32)))
    sizes = low.op("Concat", low.op("Slice", dims, [0], [-2]), low.i64(product), axis=0)
    return low.op(
        "Resize", x, None, None, sizes, coordinate_transformation_mode=coordinates, mode=mode, nearest_mode="floor"
    )


def _floor_product(length: int, factor: Operand) -> int:
    return int(np.floor(np.asarray(factor) * length))


def _bilinear(low: Lowering, x: Operand, size: tuple[int, int], sampling_mode: str) -> ir.Value:
    # ONNX has the other modes, and ALIGN_CORNERS where an end of the result is its middle too, under no name
    if sampling_mode in _COORDINATES and not (sampling_mode == "ALIGN_CORNERS" and 1 in size):
        return _sized(low, x, size, _COORDINATES[sampling_mode], "linear")
    lengths = low.fixed(low.shape(x)[-2:], f"the sampling mode {sampling_mode} needs an input of known size")
    rows, columns = (interpolation(n, count, sampling_mode) for n, count in zip(lengths, size, strict=True))
    return low.op("MatMul", rows, low.op("MatMul", x, np.ascontiguousarray(columns.T)))


def _sized(low: Lowering, x: Operand, size: tuple[int, int], coordinates: str, mode: str) -> ir.Value:
    """Resize to a known size. ONNX Runtime interpolates rank 4 fast, so other ranks pass through it."""
    shape = low.shape(x)
    lead: list[int] = []
    if len(shape) != 4:
        *lead, height, width = low.fixed(shape)
        x = low.reshape(x, [1, int(np.prod(lead)), height, width])
    if None in shape:
        head = low.op("Slice", low.dims(x), [0], [2])
        sizes: Operand = low.op("Concat", head, list(size), axis=0)
    else:
        sizes = [*low.shape(x)[:2], *size]
    result = low.op(
        "Resize", x, None, None, sizes, coordinate_transformation_mode=coordinates, mode=mode, nearest_mode="floor"
    )
    return low.reshape(result, [*lead, *size]) if lead or len(shape) != 4 else result


def _nearest(low: Lowering, x: Operand, size: tuple[int, int], sampling_mode: str) -> ir.Value:
    """The pixel nearest to each grid point; half way between two, the later one."""
    lengths = low.fixed(low.shape(x)[-2:], f"the sampling mode {sampling_mode} needs an input of known size")
    for axis, length, count in zip((low.rank(x) - 2, low.rank(x) - 1), lengths, size, strict=True):
        # the last half would round up to a pixel behind the last
        picked = np.minimum(np.floor(grid_points(length, count, sampling_mode) + 0.5), length - 1).astype(np.int64)
        x = low.op("Gather", x, picked, axis=axis)
    return low.value(x)
