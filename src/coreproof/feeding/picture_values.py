"""What a model's input gets of a picture: pixels where it takes a picture, else the numbers that its feeding makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt
from PIL import Image

from coreproof.errors import InputError
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import pixels, resize_and_crop, to_tensor

_FIX = "give them: --size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --scale 1/255"


def picture_value(picture: Image.Image, feature: Feature, feeding: Feeding) -> npt.NDArray[Any]:
    """[1, C, H, W]: an image feature's pixels 0-255, cut out as the feeding says; else numbers as the feeding makes them."""
    if feature.image is not None:
        return pixels(resize_and_crop(picture, feeding), feature.image.colour)
    return to_tensor(picture, feeding)


def at_size_of(feature: Feature, feeding: Feeding | None = None) -> Feeding:
    """The feeding at the size of the picture that an image feature declares; None: the picture is just covered, and cut."""
    assert feature.image is not None
    return replace(feeding or Feeding(), size=(feature.image.width, feature.image.height))


def unknown_feeding(model: str, feature: Feature, fix: str = _FIX) -> InputError:
    """Nobody says how pictures become the numbers that this input takes."""
    return InputError(
        "how photos are fed to this model is not known",
        where=model,
        expected="size, mean and std that it was trained with",
        found=f"a plain tensor input, {feature}",
        fix=fix,
    )
