"""Sampling at given coordinates, with values written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.build import mil
from tests.conversion.coreml_to_onnx.lowered import normal, only, run

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
