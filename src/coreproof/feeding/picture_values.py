"""A picture as a model's input takes it: pixels where it takes a picture, else the numbers that its feeding makes of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import pixels, resize_and_crop, to_tensor

_GIVE_ARRAYS = "give the inputs as arrays: --inputs FILE.npz"


class PictureInput(NamedTuple):
    """The one input of a model of pictures, and how a picture comes to it: its geometry, and numbers where it takes those."""

    feature: Feature
    feeding: Feeding

    def value(self, picture: Image.Image) -> npt.NDArray[np.float32]:
        """What the model is fed for a picture."""
        found = picture_value(picture, self.feature, self.feeding)
        return found if self.feature.image is not None else in_rank(found, self.feature)


def picture_input(model: Model, feeding: Feeding | None = None, fix: str | None = None) -> PictureInput:
    """How a model of pictures is fed: as ``feeding`` says, else as the model itself does.

    Raises InputError for a model that takes something else than one input, or numbers of which nobody says how pictures
    become them; ``fix`` is then what to do.
    """
    feature = lone_input(model)
    feeding = feeding or model.feeding
    if feature.image is not None:
        # scale, mean and std of such a model are part of its network
        seen = replace(at_size_of(feature, feeding), colour=feature.image.colour, scale=1.0, mean=(0.0,), std=(1.0,))
        return PictureInput(feature, replace(seen, layout="NCHW"))
    if feeding is None:
        raise unknown_feeding(model.name, feature, fix)
    return PictureInput(feature, feeding)


def lone_input(model: Model, fix: str = _GIVE_ARRAYS) -> Feature:
    """The one input that has to be fed. Raises InputError where there are others."""
    declared = model.signature.inputs
    required = [f for f in declared if not f.optional] or declared
    if len(required) != 1:
        raise no_picture_input(model, fix)
    return required[0]


def no_picture_input(model: Model, fix: str = _GIVE_ARRAYS) -> InputError:
    """Photos are given for a model that is not one of a single picture."""
    return InputError(
        "photos can only be fed to a model with one input, a picture",
        where=model.name,
        found="; ".join(map(str, model.signature.inputs)),
        fix=fix,
    )


def picture_value(picture: Image.Image, feature: Feature, feeding: Feeding) -> npt.NDArray[np.float32]:
    """[1, C, H, W]: an image feature's pixels 0-255, cut out as the feeding says; else numbers as the feeding makes them."""
    if feature.image is not None:
        return pixels(resize_and_crop(picture, feeding), feature.image.colour)
    return to_tensor(picture, feeding)


def in_rank(value: np.ndarray, feature: Feature) -> np.ndarray:
    """A picture's numbers in the rank that an input declares: without the batch, with leading lengths of 1, or in a row."""
    shape = feature.shape or value.shape
    if len(shape) == value.ndim:
        return value
    fixed = [d if isinstance(d, int) and d > 0 else 1 for d in shape]
    if math.prod(fixed) == value.size:
        return value.reshape(fixed)
    return value.reshape(value.shape[1:] if len(shape) < value.ndim else (1,) * (len(shape) - value.ndim) + value.shape)


def at_size_of(feature: Feature, feeding: Feeding | None = None) -> Feeding:
    """The feeding at the size of the picture that an image feature declares; None: the picture is just covered, and cut."""
    assert feature.image is not None
    return replace(feeding or Feeding(), size=(feature.image.width, feature.image.height))


def at_declared_size(feature: Feature, feeding: Feeding) -> Feeding:
    """The feeding at the size that the input declares, where it does, and in its layout."""
    shape = feature.shape or ()
    if len(shape) < 3:
        return feeding
    # where both ends could be channels they stand in front, as PyTorch and Core ML have them
    channels_last = shape[-1] in (1, 3) and shape[-3] not in (1, 3)
    height, width = (shape[-3], shape[-2]) if channels_last else (shape[-2], shape[-1])
    layout = feeding.layout if len(shape) == 4 and not channels_last else "NHWC" if channels_last else "NCHW"
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return replace(feeding, size=(width, height), layout=layout)
    return replace(feeding, layout=layout)


def declared_geometry(model: Model) -> Feeding:
    """Size and layout that a model's picture of numbers declares, and no more; 224 and channels first where it has none."""
    pictures = [f for f in model.signature.inputs if f.image is None and f.shape is not None and len(f.shape) == 4]
    return at_declared_size(pictures[0], Feeding()) if len(pictures) == 1 else Feeding()


def unknown_feeding(model: str, feature: Feature, fix: str | None = None) -> InputError:
    """Nobody says how pictures become the numbers that this input takes; the options are proposed, filled in from its shape."""
    return InputError(
        "how photos are fed to this model is not known",
        where=model,
        expected="size, scale, mean and std that it was trained with",
        found=f"a plain tensor input, {feature}",
        fix=fix or _proposed(feature),
    )


def _proposed(feature: Feature) -> str:
    """What to type and what to write, as most PyTorch models of this shape were trained."""
    width, height, channels = _shape_of_pictures(feature)
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((0.5,), (0.5,))
    argument = "" if channels == 3 else ', colour="GRAY"'
    line = f"feeding=cp.Feeding(size=({width}, {height}){argument}, scale=1 / 255, mean={mean}, std={std})"
    return f"give them, for example: {_options(feature)}; in the function of a PyTorch model: cp.Source(..., {line})"


def _options(feature: Feature) -> str:
    width, height, channels = _shape_of_pictures(feature)
    size = str(width) if width == height else f"{width}x{height}"
    return f"--size {size}{'' if channels == 3 else ' --colour GRAY'} {proposed_numbers(feature)}"


def proposed_numbers(feature: Feature | None) -> str:
    """The options of what most PyTorch models of so many channels were trained on; of three where no feature says how many."""
    if feature is not None and _shape_of_pictures(feature)[2] == 1:
        return "--scale 1/255 --mean 0.5 --std 0.5"
    return "--scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


def lacking_options(feature: Feature, classes: int | None) -> str:
    """The options that a file with this input lacks on the command line, filled in from its shape; of unnamed classes too."""
    said = f"add {_options(feature)}, which is what most PyTorch models of this shape take; --scale 1 is the pixels as they are"
    return said if classes is None else f"{said}; and --labels FILE with {classes} class names, or an app shows numbers"


def _shape_of_pictures(feature: Feature) -> tuple[int, int, int]:
    """Width, height and channels that an input declares, 224, 224 and 3 where it does not."""
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in feature.shape or ())
    # the channels stand in front, or behind where that is where a 1 or a 3 stands
    *_, depth, high, wide = (None, None, None, *shape)
    if depth not in (1, 3) and wide in (1, 3):
        depth, high, wide = wide, depth, high
    return wide or 224, high or 224, 1 if depth == 1 else 3
