"""How the networks of transformers are fed with pictures: what their preprocessor configuration says, as a Feeding."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from coreproof.model.feeding import Feeding

_PLAIN = (
    "Bit", "Beit", "Blip", "CLIP", "ChineseCLIP", "ConvNext", "DeiT", "MobileNetV1", "MobileNetV2", "MobileViT",
    "OwlViT", "PoolFormer", "Pvt", "Siglip", "ViT",
)  # fmt: skip
"""Processors that resize, cut out the centre, scale and normalise, and do nothing else to one picture."""
_SHARES = ("ConvNext", "PoolFormer")
"""Those that cut out a share of a picture that is resized."""
_INTERPOLATIONS: Mapping[int, Literal["nearest", "lanczos", "bilinear", "bicubic"]] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}
"""Pillow's numbers of them."""
_UNDISTORTED = 384
"""From this side on ConvNext's processor stretches whole pictures (transformers, ConvNextImageProcessor.resize)."""


class _Said:
    """What a configuration says, and where it says nothing, what its processor in transformers does by itself."""

    def __init__(self, said: Mapping[str, object], processor: object) -> None:
        self._said = said
        self._processor = processor

    def __getitem__(self, key: str) -> object:
        if key in self._said:
            return self._said[key]
        if (value := getattr(self._processor, key, None)) is not None:  # an attribute of its class, or a default
            return value
        default = None if self._processor is None else _parameters(self._processor).get(key)
        return None if default is None or default.default is default.empty else default.default


def _parameters(processor: object) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(processor.__init__).parameters  # type: ignore[misc]


def feeding_of(said: Mapping[str, object], transformers: ModuleType) -> tuple[Feeding | None, tuple[str, ...]]:
    """A preprocessor's configuration as a Feeding, and what it cannot say as notes.

    What the file leaves out is what its processor in transformers does by itself. None where the processor is none of those that
    are known, or says something that no Feeding does: then the user has to.
    """
    named = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", named)
    if kind not in _PLAIN:
        return None, _unsaid(f"its preprocessor is {named or 'not named'}")
    of = _Said(said, getattr(transformers, f"{kind}ImageProcessor", None))
    if of["do_resize"] is not True:
        return None, _unsaid("it takes pictures of the size that they have")
    resample, scale = of["resample"], of["rescale_factor"] if of["do_rescale"] is not False else 1.0
    interpolation = _INTERPOLATIONS.get(int(resample) if isinstance(resample, int) else -1)
    if interpolation is None:
        return None, _unsaid(f"it resamples by {resample}")
    geometry = _geometry(kind, of)
    if isinstance(geometry, str):
        return None, _unsaid(geometry)
    normalised = of["do_normalize"] is True
    mean = _numbers(of["image_mean"]) if normalised else (0.0,)
    std = _numbers(of["image_std"]) if normalised else (1.0,)
    if not mean or not std or not isinstance(scale, float | int):
        return None, _unsaid("it does not say its mean and std")
    return Feeding(
        size=geometry.size,
        resize="squash" if geometry.resize_to is None else "crop",
        resize_to=geometry.resize_to,
        interpolation=interpolation,
        colour="BGR" if of["do_flip_channel_order"] is True else "RGB",
        scale=float(scale),
        mean=mean,
        std=std,
    ), ()


@dataclass(frozen=True)
class _Geometry:
    """Width and height that are seen; the shorter side before they are cut out, None where pictures are stretched."""

    size: tuple[int, int]
    resize_to: int | None = None


def _geometry(kind: str, of: _Said) -> _Geometry | str:
    """Size, and how pictures get there; a text says what a Feeding cannot."""
    size, crop = of["size"], of["crop_size"]
    sides, shortest = _sides(size), _shortest(size)
    # a number alone is a square for the processors that say so, and the shorter side for the others
    if isinstance(size, int) and (of["default_to_square"] is False or kind in ("CLIP", "ChineseCLIP", "Bit")):
        sides, shortest = None, size
    if kind in _SHARES:
        side, share = shortest or (sides[0] if sides is not None and sides[0] == sides[1] else None), of["crop_pct"]
        if side is None or not isinstance(share, float | int) or not share:
            return f"it cuts out a share of {share} of {size}"
        stretched = kind == "ConvNext" and side >= _UNDISTORTED
        return _Geometry((side, side), None if stretched else int(side / share))
    if of["do_center_crop"] is not True:
        return "it takes pictures of any proportions" if sides is None else _Geometry(sides)
    seen = _sides(crop)
    if seen is None:
        return f"it does not say what it cuts out: {crop}"
    if sides is not None and sides != seen:
        return f"it stretches pictures to {sides[0]}x{sides[1]} and cuts out {seen[0]}x{seen[1]}"
    if sides is None and shortest is None:
        return f"it does not say its size: {size}"
    return _Geometry(seen, shortest)


def _sides(size: object) -> tuple[int, int] | None:
    """Width and height."""
    if isinstance(size, int) and not isinstance(size, bool):
        return size, size
    if isinstance(size, Mapping) and isinstance(size.get("width"), int) and isinstance(size.get("height"), int):
        return size["width"], size["height"]
    return None


def _shortest(size: object) -> int | None:
    side = size.get("shortest_edge") if isinstance(size, Mapping) else None
    return side if isinstance(side, int) else None


def _numbers(values: object) -> tuple[float, ...]:
    """Numbers a channel; none where it says something else."""
    listed = values if isinstance(values, list | tuple) else ()
    return tuple(map(float, listed)) if all(isinstance(v, int | float) for v in listed) else ()


def _unsaid(why: str) -> tuple[str, ...]:
    return (f"how pictures are fed is not known: {why}",)
