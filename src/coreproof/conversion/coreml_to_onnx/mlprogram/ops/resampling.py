"""MIL's sampling at given coordinates: resample, affine, crop_resize."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.sampling import box_points, corners

_PADDING = {"constant": "zeros", "border": "border", "reflection": "reflection", "symmetric": "reflection"}


@lowers("resample", interpolates=True)
def resample(
    low: Lowering,
    *,
    x: Operand,
    coordinates: Operand,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> ir.Value:
    """ONNX's GridSample, whose two conventions at the border are MIL's reflection (centres) and symmetric (edges)."""
    if padding_mode not in _PADDING:
        raise low.refuse("this padding mode is not known", expected=sorted(_PADDING), found=padding_mode)
    # pixels of a large picture are not told apart in float16
    points = low.cast(coordinates, ir.DataType.FLOAT)
    extent = _extent(low, x)
    centres = align_corners
    if coordinates_mode == "normalized_zero_to_one":
        # GridSample knows [-1, 1] alone
        points = low.op("Sub", low.op("Mul", points, 2.0), 1.0)
    elif coordinates_mode == "unnormalized" and sampling_mode != "nearest":
        centres = padding_mode != "symmetric"
        points = _normalized(low, points, extent, centres)
    elif coordinates_mode not in ("normalized_minus_one_to_one", "unnormalized"):
        raise low.refuse("this coordinates mode is not known", found=coordinates_mode)
    fill = float(padding_value) if padding_mode == "constant" else 0.0
    if sampling_mode == "nearest":
        pixels = points if coordinates_mode == "unnormalized" else _pixels(low, points, extent, centres)
        return _nearest(low, x, pixels, padding_mode, fill)
    # GridSample reflects about the ends of its coordinates: they have to be those that MIL means
    wanted = {"reflection": True, "symmetric": False}.get(padding_mode, centres)
    if wanted != centres:
        points = _normalized(low, _pixels(low, points, extent, centres), extent, wanted)
        centres = wanted
    # GridSample pads with zero: the picture is shifted so that zero stands for the padding value, and back behind it
    image = low.op("Sub", x, fill) if fill else x
    sampled = low.op(
        "GridSample", image, points,
        mode="linear",
        padding_mode=_PADDING[padding_mode], align_corners=int(centres),
    )  # fmt: skip
    return low.op("Add", sampled, fill) if fill else sampled


def _nearest(low: Lowering, x: Operand, pixels: ir.Value, padding_mode: str, fill: float) -> ir.Value:
    """The pixel nearest to each place; of two as near the even one, as in PyTorch.

    ONNX Runtime rounds a place first and reflects it then, which picks another pixel half way between two.
    """
    last = low.op("Sub", _extent(low, x), 1.0)
    if padding_mode in ("reflection", "symmetric"):
        # about the centres of the outer pixels, or about their edges
        start, span = (0.0, last) if padding_mode == "reflection" else (-0.5, _extent(low, x))
        period = low.op("Max", low.op("Mul", span, 2.0), 1.0)
        ahead = low.op("Mod", low.op("Abs", low.op("Sub", pixels, start)), period, fmod=1)
        pixels = low.op("Add", low.op("Min", ahead, low.op("Sub", period, ahead)), start)
    rounded = low.op("Round", pixels)
    # no number is no place in the picture, as in PyTorch; kept, it would be an index that no engine takes
    rounded = low.op("Where", low.op("IsNaN", rounded), -1.0, rounded)
    inside = low.op("Min", low.op("Max", rounded, 0.0), last)
    column, row = (low.op("Gather", inside, np.array(i, np.int64), axis=3) for i in (0, 1))
    width = low.op("Gather", _extent(low, x), np.array(0, np.int64))
    place = low.i64(low.op("Add", low.op("Mul", row, width), column))
    size = low.dims(place)
    # [N, C, height * width], of which the places pick the same pixels in every channel
    flat = low.op("Reshape", x, np.array([0, 0, -1], np.int64))
    channels = low.op("Slice", low.dims(x), [1], [2])
    here = low.op(
        "Expand", low.op("Reshape", place, np.array([0, 1, -1], np.int64)), low.op("Concat", [1], channels, [1], axis=0)
    )
    picked = low.op("GatherElements", flat, here, axis=2)
    sampled = low.op("Reshape", picked, low.op("Concat", [0], channels, low.op("Slice", size, [1], [3]), axis=0))
    if padding_mode != "constant":
        return sampled
    within = low.op("ReduceMin", low.i32(low.op("Equal", rounded, inside)), [3], keepdims=0)
    return low.op("Where", low.op("Unsqueeze", low.cast(within, ir.DataType.BOOL), [1]), sampled, fill)


def _extent(low: Lowering, x: Operand) -> ir.Value:
    """[width, height] of an image as floats."""
    return low.cast(low.op("Gather", low.dims(x), [3, 2]), ir.DataType.FLOAT)


def _normalized(low: Lowering, pixels: ir.Value, extent: ir.Value, centres: bool) -> ir.Value:
    """Pixel coordinates (x, y) as [-1, 1]; the ends are the outer pixels' centres, or their edges."""
    if centres:
        # a picture of one pixel has no extent to divide by
        span = low.op("Max", low.op("Sub", extent, 1.0), 1.0)
        return low.op("Sub", low.op("Div", low.op("Mul", pixels, 2.0), span), 1.0)
    # (p + 1/2) / n runs from 0 to 1 between the outer edges; twice that less 1 from -1 to 1
    return low.op("Sub", low.op("Div", low.op("Add", low.op("Mul", pixels, 2.0), 1.0), extent), 1.0)


def _pixels(low: Lowering, points: ir.Value, extent: ir.Value, centres: bool) -> ir.Value:
    """The inverse of ``_normalized``."""
    unit = low.op("Mul", low.op("Add", points, 1.0), 0.5)
    if centres:
        return low.op("Mul", unit, low.op("Sub", extent, 1.0))
    return low.op("Sub", low.op("Mul", unit, extent), 0.5)


@lowers("affine", interpolates=True)
def affine(
    low: Lowering,
    *,
    x: Operand,
    transform_matrix: Operand,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> ir.Value:
    if coordinates_mode != "normalized_minus_one_to_one" or padding_mode != "constant" or not align_corners:
        raise low.refuse(
            "only normalized_minus_one_to_one coordinates with aligned corners and constant padding are defined",
            found=f"{coordinates_mode}, align_corners={align_corners}, {padding_mode}",
        )
    batch, channels = low.fixed(low.shape(x)[:2], "the batch size is not known")
    theta = low.op("Reshape", transform_matrix, [-1, 2, 3])
    # one matrix may stand for the whole batch; AffineGrid wants one each
    theta = low.op("Expand", theta, [batch, 2, 3])
    size = [batch, channels, int(output_height), int(output_width)]
    grid = low.op("AffineGrid", theta, size, align_corners=1)
    return resample(
        low, x=x, coordinates=grid, sampling_mode=sampling_mode, padding_mode=padding_mode,
        padding_value=padding_value, coordinates_mode=coordinates_mode, align_corners=True,
    )  # fmt: skip


@lowers("crop_resize", interpolates=True, wide=("spatial_scale",))
def crop_resize(
    low: Lowering,
    *,
    x: Operand,
    roi: Operand,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> ir.Value:
    """[N, 1, 4 or 5, 1, 1] boxes; with 5 numbers the first is the image's index, with 4 every image is cropped."""
    lengths = (low.shape(roi)[0], low.shape(roi)[2], low.shape(x)[0])
    count, numbers, batch = low.fixed(lengths, "the number of boxes or of images is not known")
    channels = low.shape(x)[1]
    flat = low.op("Reshape", low.cast(roi, ir.DataType.FLOAT), [-1, numbers])
    boxes = low.op("Slice", flat, [numbers - 4], [numbers], [1])
    if numbers == 5:
        column = low.op("Gather", flat, np.array(0, np.int64), axis=1)
        index: Operand = low.cast(column, ir.DataType.INT64)
        repeats = 1
    else:
        index = np.tile(np.arange(batch, dtype=np.int64), count)
        tripled = low.op("Unsqueeze", boxes, [1])
        boxes = low.op("Reshape", low.op("Tile", tripled, [1, batch, 1]), [-1, 4])
        repeats = batch
    crops = crop_resize_ios17(
        low, x=x, boxes=boxes, box_indices=index, target_height=target_height, target_width=target_width,
        normalized_coordinates=normalized_coordinates, spatial_scale=spatial_scale,
        box_coordinate_mode=box_coordinate_mode, sampling_mode=sampling_mode, pad_value=pad_value,
    )  # fmt: skip
    shape = [count, repeats, channels or -1, int(target_height), int(target_width)]
    return low.op("Reshape", crops, np.array(shape, np.int64))


@lowers("crop_resize", interpolates=True, since="iOS17")
def crop_resize_ios17(
    low: Lowering,
    *,
    x: Operand,
    boxes: Operand,
    box_indices: Operand = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> ir.Value:
    """One crop a box: [N, C, height, width].

    A box that ends before it begins is a mirrored crop where corners are aligned, else the whole image: both as in
    Apple's own tests.
    """
    count = low.shape(boxes)[0]
    if box_indices is None and count is None:
        raise low.refuse("the number of boxes is not known")
    index = np.arange(count or 0, dtype=np.int64) if box_indices is None else low.i64(box_indices)
    corner_values, size = low.cast(boxes, ir.DataType.FLOAT), (int(target_height), int(target_width))
    scale = float(spatial_scale)
    extent = low.cast(low.op("Gather", low.dims(x), [2, 3]), ir.DataType.FLOAT)
    axes = []
    sides = corners(low.b, corner_values, box_coordinate_mode)
    for i, ((start, end), points) in enumerate(zip(sides, size, strict=True)):
        last = low.op("Sub", low.op("Gather", extent, [i]), 1.0)
        if normalized_coordinates:
            start, end = low.op("Mul", start, last), low.op("Mul", end, last)
        if scale != 1:
            start, end = low.op("Mul", start, scale), low.op("Mul", end, scale)
        if sampling_mode not in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
            # the whole axis, from its first pixel to its last
            inverted = low.op("Less", end, start)
            start, end = low.op("Where", inverted, 0.0, start), low.op("Where", inverted, last, end)
        axes.append(box_points(low.b, start, end, points, sampling_mode))
    rows = low.op("Expand", low.op("Unsqueeze", axes[0], [2, 3]), np.array([1, size[0], size[1], 1], np.int64))
    columns = low.op("Expand", low.op("Unsqueeze", axes[1], [1, 3]), np.array([1, size[0], size[1], 1], np.int64))
    pixels = low.op("Concat", columns, rows, axis=3)
    images = low.op("Gather", x, index, axis=0)
    inside = _normalized(low, pixels, _extent(low, x), False)
    sampled = low.op("GridSample", images, inside, mode="linear", padding_mode="border", align_corners=0)
    # A point outside the image is the padding value whole, not a blend with the border.
    limit = low.op("Sub", _extent(low, x), 1.0)
    # what rounding moves off the border is not outside
    outside = low.op("Or", low.op("Less", pixels, -1e-4), low.op("Greater", pixels, low.op("Add", limit, 1e-4)))
    any_outside = low.op("ReduceMax", low.cast(outside, ir.DataType.FLOAT), [3], keepdims=0)
    mask = low.op("Unsqueeze", low.cast(any_outside, ir.DataType.BOOL), [1])
    return low.op("Where", mask, float(pad_value), sampled)
