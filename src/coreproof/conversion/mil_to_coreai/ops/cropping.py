"""MIL's crop_resize in Core AI: where the samples of each box lie is computed, and the pixels there are picked and weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from coreproof.conversion.mil_to_coreai.ops.gathering import taken
from coreproof.conversion.mil_to_coreai.ops.sampling import sampled
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates

Numbers: TypeAlias = Tensor | np.ndarray
"""Numbers of a box [N, 1] or [N, points]: at run time, or known now, in float32 as they would be computed there."""
_EXACTLY: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "minimum": np.minimum, "maximum": np.maximum,
}  # fmt: skip
_OFF = 1e-4
"""What rounding moves off the border is not outside."""


@translates("crop_resize", in_float32=True)
def crop_resize(
    t: Translation,
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
) -> Tensor:
    """[N, 1, 4 or 5, 1, 1] boxes; with 5 numbers the first is the image's index, with 4 every image is cropped."""
    lengths = (t.shape(roi)[0], t.shape(roi)[2], *t.shape(x)[:2])
    count, numbers, batch, channels = t.fixed(lengths, "the number of boxes, images or channels is not known")
    flat = _flat(t, roi, [count, numbers])
    boxes = _columns(t, flat, numbers - 4, numbers)
    if numbers == 5:
        index, repeats = _columns(t, flat, 0, 1), 1
        chosen: Operand = t.reshape(index, [count]) if isinstance(index, Tensor) else index.reshape(-1).astype(np.int32)
    else:
        chosen, repeats = np.tile(np.arange(batch, dtype=np.int32), count), batch
        every = np.repeat(np.arange(count, dtype=np.int32), batch)
        boxes = taken(t, boxes, every, 0) if isinstance(boxes, Tensor) else boxes[every]
    crops = crop_resize_ios17(
        t, x=x, boxes=boxes, box_indices=chosen, target_height=target_height, target_width=target_width,
        normalized_coordinates=normalized_coordinates, spatial_scale=spatial_scale,
        box_coordinate_mode=box_coordinate_mode, sampling_mode=sampling_mode, pad_value=pad_value,
    )  # fmt: skip
    return t.reshape(crops, [count, repeats, channels, int(target_height), int(target_width)])


@translates("crop_resize", since="iOS17", in_float32=True)
def crop_resize_ios17(
    t: Translation,
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
) -> Tensor:
    """One crop a box: [N, C, height, width].

    A box that ends before it begins is a mirrored crop where corners are aligned, else the whole image.
    """
    value, size = t.value(x), (int(target_height), int(target_width))
    (count,) = t.fixed(t.shape(boxes)[:1], "the number of boxes is not known")
    extent = t.fixed(value.shape[2:])
    whole = sampling_mode not in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS")
    places, outside = [], []
    sides = _corners(t, _flat(t, boxes, [count, 4]), box_coordinate_mode)
    for axis, ((start, end), length) in enumerate(zip(sides, extent, strict=True)):
        last = float(length - 1)
        factor = float(spatial_scale) * (last if normalized_coordinates else 1.0)
        if factor != 1:
            start, end = _put(t, "mul", start, factor), _put(t, "mul", end, factor)
        if whole:
            start, end = _uninverted(t, start, end, last)
        points = _points(t, start, end, size[axis], sampling_mode)
        every = _every(t, points, axis, (count, *size))
        places.append(every)
        outside += [t.binary("greater", -_OFF, every, "i1"), t.binary("greater", every, last + _OFF, "i1")]
    images = value if box_indices is None else taken(t, value, box_indices, 0)
    down, across = places
    made = sampled(t, images, across, down, size, "bilinear", "border", 0.0, "unnormalized", True)
    # a point outside the image is the padding value whole, not a blend with the border
    beyond = outside[0]
    for further in outside[1:]:
        beyond = t.binary("or", beyond, further)
    return t.where(t.reshape(beyond, [count, 1, *size]), float(pad_value), made)


def _flat(t: Translation, boxes: Operand, shape: list[int]) -> Numbers:
    if isinstance(boxes, Tensor):
        return t.reshape(t.cast(boxes, "f32"), shape)
    return np.asarray(t.constant(boxes, "boxes"), np.float32).reshape(shape)


def _columns(t: Translation, boxes: Numbers, begin: int, end: int) -> Numbers:
    if isinstance(boxes, np.ndarray):
        return boxes[:, begin:end]
    (count,) = t.fixed(boxes.shape[:1])
    return t.slice(boxes, [0, begin], [count, end])


def _put(t: Translation, kind: str, a: Numbers, b: Numbers | float) -> Numbers:
    """An operation, or its result where both are known: what is computed of constants Apple's package would fold."""
    if isinstance(a, np.ndarray) and not isinstance(b, Tensor):
        return _EXACTLY[kind](a, np.asarray(b, np.float32))
    return t.binary(kind, a, b)


def _corners(t: Translation, boxes: Numbers, mode: str) -> list[tuple[Numbers, Numbers]]:
    """[(first row, last row), (first column, last column)] of boxes [N, 4], each [N, 1]."""
    first, second, third, fourth = (_columns(t, boxes, i, i + 1) for i in range(4))
    # x before y: what follows reads rows before columns
    if mode.endswith("WIDTH_FIRST"):
        first, second, third, fourth = second, first, fourth, third
    if mode.startswith("CORNERS"):
        return [(first, third), (second, fourth)]
    sides = [(centre, _put(t, "mul", size, 0.5)) for centre, size in ((first, third), (second, fourth))]
    return [(_put(t, "sub", centre, half), _put(t, "add", centre, half)) for centre, half in sides]


def _uninverted(t: Translation, start: Numbers, end: Numbers, last: float) -> tuple[Numbers, Numbers]:
    """The whole axis, from its first pixel to its last, where a box ends before it begins."""
    if isinstance(start, np.ndarray) and isinstance(end, np.ndarray):
        inverted = end < start
        return np.where(inverted, np.float32(0), start), np.where(inverted, np.float32(last), end)
    turned = t.binary("greater", start, end, "i1")
    return t.where(turned, 0.0, start), t.where(turned, last, end)


def _points(t: Translation, start: Numbers, end: Numbers, count: int, mode: str) -> Numbers:
    """[N, count] coordinates along one dimension of boxes from ``start`` to ``end``, both included."""
    i = np.arange(count, dtype=np.float32)[None]
    span = _put(t, "sub", end, start)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = np.full((1, 1), 0.5 if mode == "ALIGN_CORNERS" else 0, np.float32)
        return _put(t, "add", start, _put(t, "mul", span, alone if count == 1 else i / np.float32(count - 1)))
    if mode == "OFFSET_CORNERS":
        step = _put(t, "mul", _put(t, "maximum", span, 1.0), 1 / count)
        points = _put(t, "add", start, _put(t, "mul", step, i + np.float32(0.5)))
    else:
        half = np.float32(0.5 if mode == "UNALIGN_CORNERS" else 0)
        step = _put(t, "mul", _put(t, "add", span, 1.0), 1 / count)
        points = _put(t, "sub", _put(t, "add", start, _put(t, "mul", step, i + half)), float(half))
    # no point lies beyond the centres of the outer pixels
    return _put(t, "maximum", _put(t, "minimum", points, end), start)


def _every(t: Translation, points: Numbers, axis: int, shape: tuple[int, int, int]) -> Tensor:
    """The coordinates of an axis for each place of each crop: [N, height * width]."""
    count, height, width = shape
    own = [count, height, 1] if axis == 0 else [count, 1, width]
    if isinstance(points, np.ndarray):
        return t.value(np.ascontiguousarray(np.broadcast_to(points.reshape(own), shape).reshape(count, height * width)))
    return t.reshape(t.broadcast_to(t.reshape(points, own), shape), [count, height * width])
