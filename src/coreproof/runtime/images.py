"""A picture becomes a tensor exactly as a model's feeding or image feature says, and back."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from coreproof.errors import RunError
from coreproof.model.features import Colour, ImageLayout
from coreproof.model.feeding import Feeding

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST = 2**26
"""Pixels up to which a picture is scaled whole before its centre is cut out: a strip of 65,000 by 1 grows beyond any memory."""
_MARGIN = 16
"""Pixels around a window that the widest filter reaches into."""


def resize_and_crop(picture: Image.Image, feeding: Feeding) -> Image.Image:
    """The part of the picture that the model sees, at the size it sees it: feeding's geometry.

    Lengths are rounded as torchvision's Resize and CenterCrop do: the longer side down, the crop's offset to even.
    """
    width, height = feeding.size
    filter_ = _FILTERS[feeding.interpolation]
    scaled, left, top = _scaled(picture.size, feeding)
    if scaled == (width, height):
        return picture.resize(scaled, filter_)
    if scaled[0] * scaled[1] > _LARGEST:
        return _window(picture, scaled, (left, top, width, height), filter_)
    return picture.resize(scaled, filter_).crop((left, top, left + width, top + height))


def seen_part(size: tuple[int, int], feeding: Feeding) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what the model sees of a picture of ``size`` (width, height), as shares of its sides.

    Below 0 or above 1 where the feeding reaches beyond the picture, which is black there.
    """
    scaled, left, top = _scaled(size, feeding)
    width, height = feeding.size
    return left / scaled[0], top / scaled[1], (left + width) / scaled[0], (top + height) / scaled[1]


def _scaled(size: tuple[int, int], feeding: Feeding) -> tuple[tuple[int, int], int, int]:
    """The size to which a whole picture is scaled, and left and top of the window that is then cut out of it."""
    width, height = feeding.size
    if feeding.resize == "squash":
        return (width, height), 0, 0
    if feeding.resize_to is None:
        # the larger of the two: the picture covers the window in both directions
        ratio = max(width / size[0], height / size[1])
        scaled = (max(width, round(size[0] * ratio)), max(height, round(size[1] * ratio)))
    else:
        # int, not round: torchvision's Resize cuts off what is behind the point
        short, long = feeding.resize_to, int(feeding.resize_to * max(size) / min(size))
        scaled = (short, long) if size[0] <= size[1] else (long, short)
    return scaled, round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)


def _window(
    picture: Image.Image, scaled: tuple[int, int], seen: tuple[int, int, int, int], filter_: Image.Resampling
) -> Image.Image:
    """What is ``seen`` (left, top, width, height) of a picture at the size ``scaled``, without making all of it."""
    left, top, width, height = seen
    x, y = picture.width / scaled[0], picture.height / scaled[1]
    around = (
        max(0, math.floor(left * x) - _MARGIN),
        max(0, math.floor(top * y) - _MARGIN),
        min(picture.width, math.ceil((left + width) * x) + _MARGIN),
        min(picture.height, math.ceil((top + height) * y) + _MARGIN),
    )
    # the window's edges in the piece that was cut out, in fractions of its pixels
    box = (left * x - around[0], top * y - around[1], (left + width) * x - around[0], (top + height) * y - around[1])
    return picture.crop(around).resize((width, height), filter_, box)


def pixels(picture: Image.Image, colour: Colour) -> npt.NDArray[np.float32]:
    """[1, C, H, W] float32 values 0-255 in the given channel order. Grey is ITU-R 601-2 luma."""
    if colour in ("GRAY", "GRAY_FLOAT16"):
        plane = np.asarray(picture.convert("L"), dtype=np.float32)
        return plane[None, None]
    rgb = picture.convert("RGB")
    planes = np.empty((1, 3, rgb.height, rgb.width), np.float32)
    for place, channel in enumerate((2, 1, 0) if colour == "BGR" else (0, 1, 2)):
        # plane by plane, without the interleaved copy that np.asarray(rgb) would make
        planes[0, place] = np.asarray(rgb.getchannel(channel))
    return planes


def to_tensor(picture: Image.Image, feeding: Feeding) -> npt.NDArray[np.float32]:
    """The model's input for this picture: [1, C, H, W] (or [1, H, W, C]) float32."""
    values = pixels(resize_and_crop(picture, feeding), feeding.colour)
    if feeding.scale != 1.0:
        values *= np.float32(feeding.scale)
    if any(feeding.mean) or any(s != 1.0 for s in feeding.std):
        mean = np.asarray(feeding.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(feeding.std, np.float32).reshape(1, -1, 1, 1)
        values -= mean
        values /= std
    if feeding.layout == "NHWC":
        values = values.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(values)


def feature_pixels(picture: Image.Image, layout: ImageLayout) -> npt.NDArray[np.float32]:
    """What an image feature receives: [1, C, height, width], stretched to the feature's size if it differs."""
    if picture.size != (layout.width, layout.height):
        picture = picture.resize((layout.width, layout.height), Image.Resampling.BILINEAR)
    if layout.colour == "GRAY_FLOAT16" and picture.mode == "F":
        return np.asarray(picture, np.float32)[None, None]
    return pixels(picture, layout.colour)


def to_picture(values: npt.NDArray[np.float32], layout: ImageLayout) -> Image.Image:
    """An image output ([1, C, H, W] or [C, H, W], 0-255) as a picture: RGBA, L, or F for GRAYSCALE_FLOAT16."""
    if values.ndim < 3 or values.size != math.prod(values.shape[-3:]) or values.shape[-3] < layout.channels:
        raise RunError(
            "an output that is declared as a picture is none",
            expected=f"one picture of {layout.channels} channel(s)",
            found=f"an array of shape {list(values.shape)}",
            fix="declare it as a multi-array: `coreproof edit`, retype",
        )
    planes = values.reshape(values.shape[-3:])[: layout.channels]
    if layout.colour == "GRAY_FLOAT16":
        return Image.fromarray(planes[0].astype(np.float32))
    whole = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
    if layout.colour == "GRAY":
        return Image.fromarray(whole[0])
    # Pillow knows no BGR
    rgb = whole[::-1] if layout.colour == "BGR" else whole
    return Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0))).convert("RGBA")
