"""Sampling at given coordinates: against plain formulas in NumPy, and with values of Apple's own tests written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import only, run
from tests.conversion.coreml_to_onnx.mlprogram.family import Family, Trial
from tests.conversion.coreml_to_onnx.mlprogram.ops.test_resizing import points
from tests.drawn import normal

family = Family("resampling")
Array = np.ndarray

BOXES = np.array([[0, 0.5, 3, 4], [3, 4, 0, 0.5], [2, 0.5, 0.25, 4], [0, 4, 3, 0.5]], np.float32)
"""A box, the same mirrored in both directions, and two that are mirrored in one: rows and columns, first and last."""


def grid(x: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear values on a box's grid, its corners included."""

    def weights(first: float, last: float, count: int, length: int) -> np.ndarray:
        points = np.linspace(first, last, count)[:, None]
        return np.maximum(0, 1 - np.abs(points - np.arange(length)))

    rows, columns = (
        weights(first, last, count, length)
        for first, last, count, length in zip(box[:2], box[2:], (height, width), x.shape[1:], strict=True)
    )
    return rows @ x @ columns.T


@pytest.mark.parametrize("mode", ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST"])
@pytest.mark.parametrize("target", ["iOS16", "iOS17"])
def test_a_box_that_ends_before_it_begins_is_a_mirrored_crop(tmp_path: Path, target: str, mode: str) -> None:
    x = normal(1, 2, 4, 5)
    boxes = BOXES
    if mode == "CORNERS_WIDTH_FIRST":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif mode == "CENTER_SIZE_HEIGHT_FIRST":
        boxes = np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])

    def crop(mb: Any, a: Any) -> Any:
        sizes = {"target_height": 3, "target_width": 4, "sampling_mode": "ALIGN_CORNERS", "box_coordinate_mode": mode}
        if target == "iOS16":
            return mb.crop_resize(x=a, roi=boxes.reshape(-1, 1, 4, 1, 1), **sizes)
        return mb.crop_resize(x=a, boxes=boxes, box_indices=np.zeros(len(boxes), np.int32), **sizes)

    found = only(run(mil(tmp_path, crop, x.shape, target=target), a=x))
    expected = np.stack([grid(x[0], box, 3, 4) for box in BOXES])
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_only_the_points_beyond_the_image_are_padded_in_a_mirrored_crop(tmp_path: Path) -> None:
    """The values of Apple's own test: of columns 5.4 and 0.9, the first lies beyond the last one, 3."""
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    model = mil(
        tmp_path,
        lambda mb, a: mb.crop_resize(
            x=a, boxes=np.array([[0.5, 1.8, 1, 0.3]], np.float32), box_indices=np.zeros(1, np.int32),
            target_height=2, target_width=2, normalized_coordinates=True, sampling_mode="ALIGN_CORNERS", pad_value=10.0,
        ),
        x.shape, target="iOS17",
    )  # fmt: skip
    np.testing.assert_allclose(only(run(model, a=x))[0, 0], [[10, 7.9], [10, 13.9]], rtol=1e-5)


def test_where_corners_are_not_aligned_such_a_box_is_the_whole_image(tmp_path: Path) -> None:
    """The values of Apple's own test."""
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    model = mil(
        tmp_path,
        lambda mb, a: mb.crop_resize(
            x=a, roi=np.float32([2, 2, 1, 1]).reshape(1, 1, 4, 1, 1), target_height=2, target_width=2,
            normalized_coordinates=True, sampling_mode="UNALIGN_CORNERS",
        ),
        x.shape, target="iOS15",
    )  # fmt: skip
    np.testing.assert_allclose(only(run(model, a=x)).reshape(2, 2), [[3.5, 5.5], [11.5, 13.5]], rtol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_a_point_half_way_between_two_pixels_is_mirrored_before_it_is_rounded(tmp_path: Path, half: bool) -> None:
    """Columns from -6.5 to 6.5 of a picture of two: the mirror at -1/2 first, then the even neighbour, as Apple's test."""
    x = np.array([11, 22], np.float16 if half else np.float32).reshape(1, 1, 1, 2)
    columns = np.arange(-6.5, 7, 0.5, dtype=np.float32)
    points = np.stack([(columns + 0.5) / 2, np.full_like(columns, 0.5)], axis=-1)[None, None]
    zero = x.dtype.type(0)
    model = mil(
        tmp_path,
        lambda mb, a: mb.resample(
            x=a, coordinates=points, sampling_mode="nearest", padding_mode="symmetric", padding_value=zero,
            coordinates_mode="normalized_zero_to_one", align_corners=False,
        ),
        x.shape,
        half=half,
    )  # fmt: skip
    rest = (columns + 0.5) % 4
    nearest = np.rint(np.minimum(rest, 4 - rest) - 0.5).astype(int).clip(0, 1)
    np.testing.assert_array_equal(only(run(model, a=x)).ravel(), x.ravel()[nearest])


@pytest.mark.parametrize(("padding", "expected"), [("constant", 7), ("border", 1), ("reflection", 1), ("symmetric", 1)])
def test_a_coordinate_that_is_no_number_lies_before_the_first_pixel(
    tmp_path: Path, padding: str, expected: float
) -> None:
    """As PyTorch's ``grid_sample`` does."""
    x, places = np.float32([1, 2, 3]).reshape(1, 1, 1, 3), np.float32([[[[np.nan, 0.5]]]])
    model = mil(
        tmp_path,
        lambda mb, a, b: mb.resample(
            x=a, coordinates=b, sampling_mode="nearest", padding_mode=padding, padding_value=7.0,
            coordinates_mode="normalized_zero_to_one", align_corners=True,
        ),
        x.shape, places.shape,
    )  # fmt: skip
    assert only(run(model, a=x, b=places)).tolist() == [[[[expected]]]]


# the formulas


def folded(place: Array, length: int, padding_mode: str) -> Array:
    """Places brought into the picture: mirrored at the centres of its outer pixels or at their edges, or moved to its border."""
    if padding_mode in ("reflection", "symmetric"):
        start, span = (0.0, length - 1.0) if padding_mode == "reflection" else (-0.5, float(length))
        turned = np.mod(place - start, 2 * span) if span else np.zeros_like(place)
        place = start + np.minimum(turned, 2 * span - turned)
    # what is no number is before the first pixel
    return np.clip(np.nan_to_num(place, nan=-1), 0, length - 1)


def pixel(x: Array, rows: Array, columns: Array, padding_mode: str, fill: float) -> Array:
    """The pixels at whole places [B, H, W] of pictures [B, C, ...], as [B, C, H, W]."""
    (height, width), image = x.shape[2:], np.arange(len(x))[:, None, None]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    r, c = (folded(v, n, padding_mode).astype(int) for v, n in ((rows, height), (columns, width)))
    values = x[image, :, r, c]
    if padding_mode == "constant":
        values = np.where(inside[..., None], values, fill)
    return np.moveaxis(values, -1, 1)


MODES = ("normalized_minus_one_to_one", "normalized_zero_to_one", "unnormalized")
PADDINGS = ("constant", "border", "reflection", "symmetric")
PLACES = np.float32([[[[-1, -1], [1, 1], [0.5, -0.25]], [[-2.25, 0.75], [3.5, -4.125], [0, 0]]]])


def sampled(**more: Any) -> list[dict[str, Any]]:
    return [
        {
            "x": normal(2, 2, 3, 4), "coordinates": np.concatenate([PLACES, -PLACES]), "padding_mode": padding,
            "padding_value": np.float32(1.5),
            "coordinates_mode": mode, "align_corners": aligned, **more,
        }
        for padding in PADDINGS for mode in MODES for aligned in (True, False)
        # between the centres of the outer pixels nothing is mirrored at their edges
        if not (mode == "unnormalized" and aligned)
    ]  # fmt: skip


@family.defines("resample", "x coordinates", sampled(sampling_mode="bilinear"), within=2e-5)
@family.defines("resample", "x coordinates", sampled(sampling_mode="nearest"))
@family.defines(
    "resample", "x coordinates",
    [
        row | {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4),
          "coordinates": np.float32([[[[n / 2, 0] for n in range(-11, 17)]]])}
        for row in sampled(sampling_mode="nearest") if row["coordinates_mode"] == "unnormalized"
    ],
)  # fmt: skip
@family.defines(
    "resample", "x coordinates",
    [row | {"coordinates": np.int32([[[[0, 0], [3, 2], [-1, 5]]]] * 2)} for row in sampled(sampling_mode="nearest")],
)  # fmt: skip
def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    places = []
    for axis, length in ((1, x.shape[2]), (0, x.shape[3])):
        at = np.asarray(coordinates[..., axis], np.float64)
        if coordinates_mode != "unnormalized":
            unit = (at + 1) / 2 if coordinates_mode == "normalized_minus_one_to_one" else at
            at = unit * (length - 1) if align_corners else unit * length - 0.5
        # pictures whose padding is mirrored repeat themselves: a place may be mirrored instead
        places.append(at if padding_mode == "constant" else folded(at, length, padding_mode))
    rows, columns = places
    if sampling_mode == "nearest":
        return pixel(x, np.round(rows), np.round(columns), padding_mode, padding_value)
    low_r, low_c = np.floor(rows), np.floor(columns)
    result = np.zeros((*x.shape[:2], *rows.shape[1:]))
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (rows - low_r)) * np.abs(1 - right - (columns - low_c))
            result += share[:, None] * pixel(x, low_r + down, low_c + right, padding_mode, padding_value)
    return result


AFFINE = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": np.float32(0),
  "coordinates_mode": "normalized_minus_one_to_one", "align_corners": True}  # fmt: skip


@family.defines(
    "affine", "x transform_matrix",
    [
        {"x": normal(2, 3, 4, 5), "transform_matrix": matrix, "output_height": h, "output_width": w, **AFFINE}
        for matrix in (np.float32([[1, 0, 0, 0, 1, 0]]), np.float32([[0.5, 0.25, 0.1, -0.5, 1.25, -0.2]]), normal(2, 6))
        for h, w in ((4, 5), (3, 7))
    ],
    within=1e-4,
)  # fmt: skip
def affine(x: Array, transform_matrix: Array, output_height: int, output_width: int, **form: Any) -> Array:
    v, u = np.meshgrid(np.linspace(-1, 1, output_height), np.linspace(-1, 1, output_width), indexing="ij")
    theta = np.broadcast_to(transform_matrix, (len(x), 6)).reshape(-1, 2, 3)
    places = np.einsum("bij,hwj->bhwi", theta, np.stack([u, v, np.ones_like(u)], -1))
    return resample(x, places, **form)


ROWS_FIRST = np.float32([[0, 0.5, 3, 4], [1, 1, 2.5, 3], [0.25, 2, 2, 4]])
SAMPLINGS = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def crops(**more: Any) -> list[dict[str, Any]]:
    return [
        {"x": normal(2, 2, 4, 5), "target_height": h, "target_width": w, "sampling_mode": mode, **more}
        for mode in SAMPLINGS for h, w in ((2, 3), (6, 5), (1, 1))
    ]  # fmt: skip


@family.defines("crop_resize", "x boxes", crops(boxes=ROWS_FIRST, box_indices=np.int32([1, 0, 1])), within=1e-4)
@family.defines(
    "crop_resize",
    "x boxes box_indices",
    crops(boxes=ROWS_FIRST[:2], box_indices=np.int32([1, 1])),
    within=1e-4,
    half=False,
)
@family.defines(
    "crop_resize",
    "x boxes",
    crops(boxes=ROWS_FIRST[:2] / np.float32([3, 4, 3, 4]), normalized_coordinates=True),
    within=1e-4,
    half=False,
)
@family.defines("crop_resize", "x boxes", crops(boxes=ROWS_FIRST[:2] * 4, spatial_scale=0.25), within=1e-4)
def crop_resize(
    x: Array, boxes: Array, target_height: int, target_width: int, sampling_mode: str, box_indices: Array | None = None,
    normalized_coordinates: bool = False, spatial_scale: float = 1.0,
) -> Array:  # fmt: skip
    """The grid of resize_bilinear within each box, whose ends belong to it."""
    result = []
    for box, image in zip(
        boxes * spatial_scale, range(len(boxes)) if box_indices is None else box_indices, strict=True
    ):
        picture = x[int(image)]
        for axis, (start, end, count) in enumerate(
            ((box[0], box[2], target_height), (box[1], box[3], target_width)), 1
        ):
            last = x.shape[axis + 1] - 1
            first, final = (start * last, end * last) if normalized_coordinates else (start, end)
            where = np.minimum(first + points(final - first + 1, count, sampling_mode), last)
            low = np.floor(where).astype(int)
            share = (where - low).reshape(-1, *[1] * (2 - axis))
            picture = picture.take(low, axis) * (1 - share) + picture.take(np.minimum(low + 1, last), axis) * share
        result.append(picture)
    return np.stack(result)


@family.defines(
    "crop_resize", "x roi",
    [row | {"roi": ROWS_FIRST.reshape(-1, 1, 4, 1, 1)} for row in crops()], within=1e-4, target="iOS16", tame="roi",
)  # fmt: skip
@family.defines(
    "crop_resize", "x roi",
    [row | {"x": normal(1, 2, 4, 5), "roi": np.pad(ROWS_FIRST, [(0, 0), (1, 0)]).reshape(-1, 1, 5, 1, 1)} for row in crops()],
    within=1e-4, target="iOS16", tame="roi",
)  # fmt: skip
def crop_resize_16(x: Array, roi: Array, **form: Any) -> Array:
    """Of four numbers every picture is cropped, of five the one that the first names."""
    numbers = roi.reshape(len(roi), -1)
    if numbers.shape[1] == 5:
        return crop_resize(x, numbers[:, 1:], box_indices=numbers[:, 0], **form)[:, None]
    return np.stack([crop_resize(x, numbers, box_indices=np.full(len(numbers), i), **form) for i in range(len(x))], 1)


@family.each
def test_each_sampling_follows_its_formula(trial: Trial, tmp_path: Path) -> None:
    trial.hold(tmp_path)
