"""An input that becomes a picture: which one it is, of what size, and what of its feeding goes into the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coreproof.conversion.onnx_to_coreml.features import ImageInput
from coreproof.conversion.shapes import with_batch
from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.features import Feature
from coreproof.model.feeding import Feeding


def picture_input(model: Model, asked: str) -> Feature:
    """The one input that can be a picture: rank 4 with one or three channels. ``asked`` is how the caller said it."""
    shaped = [(feature, feature.shape or ()) for feature in model.signature.inputs]
    fitting = [feature for feature, shape in shaped if len(shape) == 4 and shape[1] in (1, 3)]
    if len(fitting) != 1:
        raise InputError(
            f"{asked} needs a model with exactly one input of shape [N, 1 or 3, height, width]",
            where=model.name,
            found="; ".join(str(f) for f in model.signature.inputs),
        )
    return fitting[0]


def as_picture(
    model: Model, picture: Feature, fed: Feeding, batch: int | str | None, *, sized: bool
) -> tuple[dict[str, ImageInput], dict[str, object]]:
    """The picture as the conversion takes it, and the shape that it gets: with ``sized``, free sides are those of ``fed``.

    The model's own feeding becomes ``fed``: the file that is made notes it.
    """
    told = picture_of_size(picture, fed) if sized else None
    model.feeding = _of_declared_size(fed, told or picture)
    # a picture is one at a time where no batch was asked for
    shapes: dict[str, object] = (
        {} if told is None else {told.name: with_batch(told, "1" if batch is None else str(batch))}
    )
    return {picture.name: ImageInput.from_feeding(fed)}, shapes


def pictures_of(
    model: Model, feeding: Feeding | None, batch: int | str | None, shapes: Mapping[str, object] | None
) -> tuple[dict[str, ImageInput], Mapping[str, object] | None]:
    """What ``images=True`` means: the one input that can be a picture, fed as ``feeding`` or as the model itself says.

    Raises InputError where it is not known which numbers the pixels become, and where not exactly one input can be a picture.
    """
    picture = picture_input(model, "images=True")
    fed = feeding if feeding is not None else model.feeding
    if fed is None:
        raise InputError(
            "how pictures become this model's numbers is not known",
            where=model.name or None,
            expected="the scale, mean and std that it was trained with: (pixel * scale - mean) / std, pixels 0-255",
            fix="feeding=coreproof.Feeding(size=(224, 224), scale=1/255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)) "
            "is what most PyTorch models take, scale=1 the pixels as they are",
        )
    if picture.shape is not None and picture.shape[1] == 1:
        # of one channel there is no other picture
        fed = replace(fed, colour="GRAY")
    images, own = as_picture(model, picture, fed, batch, sized=feeding is not None)
    return images, {**own, **(shapes or {})} or None


def picture_of_size(picture: Feature, said: Feeding) -> Feature | None:
    """The input with a height and a width of the size that was said; None where they were not free."""
    if picture.shape is None:
        return None
    sides = (said.size[1], said.size[0])  # a feeding's size is width and height, a shape ends in height and width
    if any(isinstance(d, int) and d > 0 and d != side for d, side in zip(picture.shape[2:], sides, strict=True)):
        raise InputError(
            "the size is not what the model takes", expected=str(picture), found=f"{said.size[0]}x{said.size[1]}"
        )
    if all(isinstance(d, int) and d > 0 for d in picture.shape[2:]):
        return None
    return replace(picture, shape=(*picture.shape[:2], *sides))


def _of_declared_size(fed: Feeding, picture: Feature) -> Feeding:
    """The feeding with the size that the model declares, which goes before one that nobody said."""
    sides = () if picture.shape is None else picture.shape[2:]
    width_height = tuple(d for d in reversed(sides) if isinstance(d, int) and d > 0)
    return replace(fed, size=(width_height[0], width_height[1])) if len(width_height) == 2 else fed
