"""What a model makes of a picture's pixels before its first layer, as a factor and an offset a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coreproof.doctor.finding import Repair
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.feeding.own_preprocessing import own_feedings
from coreproof.model.base import Model
from coreproof.model.features import Colour, Feature
from coreproof.model.feeding import TORCHVISION_FEEDING, Feeding
from coreproof.runtime.open import session


@dataclass(frozen=True)
class Affine:
    """``value = factor * pixel + offset`` for each channel, pixels 0-255, channels in the order in which the network has them."""

    factor: tuple[float, ...]
    offset: tuple[float, ...]

    def close_to(self, other: Affine, tolerance: float = 1e-3) -> bool:
        """Whether both give the same values for all pixels, within a share of the range of the values."""
        own, theirs = (np.asarray([f * pixel for pixel in (0.0, 255.0)]).T for f in (self._f, other._f))
        span = np.abs(other._f).max() * 255 or 1.0
        ends = np.abs((own + self._o[:, None]) - (theirs + other._o[:, None]))
        return bool(ends.max() <= tolerance * span)

    @property
    def _f(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.factor)

    @property
    def _o(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.offset)

    def reversed(self) -> Affine:
        """The same for channels in the opposite order."""
        return Affine(self.factor[::-1], self.offset[::-1])

    def __str__(self) -> str:
        return f"pixel * {_list(self.factor)} + {_list(self.offset)}"


def _list(values: Sequence[float]) -> str:
    rounded = [f"{v:.4g}" for v in values]
    return rounded[0] if len(set(rounded)) == 1 else f"({', '.join(rounded)})"


@dataclass(frozen=True)
class Plausible:
    """A preprocessing that models are trained with. ``colour`` is the order of the channels."""

    words: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    colour: Colour = "RGB"

    def affine(self, channels: int) -> Affine:
        """For so many channels; grey models get the mean of the three."""
        factor = [self.scale / s for s in self.std]
        offset = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        if channels == len(factor):
            return Affine(tuple(factor), tuple(offset))
        return Affine((float(np.mean(factor)),) * channels, (float(np.mean(offset)),) * channels)


PLAUSIBLE = (
    Plausible("bare pixels, 0 to 255", 1.0, (0, 0, 0), (1, 1, 1)),
    Plausible("pixels from 0 to 1", 1 / 255, (0, 0, 0), (1, 1, 1)),
    Plausible("pixels from -1 to 1", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    Plausible("(pixel - 127) / 128", 1.0, (127, 127, 127), (128, 128, 128)),
    Plausible(
        "torchvision's mean and std",
        1 / 255,
        tuple(TORCHVISION_FEEDING.mean),  # type: ignore[arg-type]
        tuple(TORCHVISION_FEEDING.std),  # type: ignore[arg-type]
    ),
    Plausible("Caffe's means, blue first", 1.0, (104, 117, 123), (1, 1, 1), "BGR"),
    Plausible("torchvision's mean, std left out", 1 / 255, tuple(TORCHVISION_FEEDING.mean), (1, 1, 1)),  # type: ignore[arg-type]
)
"""What the field's models are trained with (torchvision, Keras' modes "torch", "tf" and "caffe", EfficientNet-Lite)."""


def picture_input(model: Model) -> Feature | None:
    """The one picture that a model takes; None where it takes something else."""
    inputs = model.signature.inputs
    return inputs[0] if len(inputs) == 1 and inputs[0].image is not None else None


def own_affine(model: Model) -> Affine | None:
    """What a model that takes one picture does to its pixels first, all of it; None where that cannot be told."""
    return next(iter(own_affines(model)), None)


def own_affines(model: Model) -> tuple[Affine, ...]:
    """The same step by step, all steps first: the last ones may be the network's own (a quantisation divides as well).

    Empty where that cannot be told.
    """
    feature = picture_input(model)
    if feature is None or feature.image is None:
        return ()
    try:
        with session(model) as running:
            found = own_feedings(running, feature)
            return tuple(wanted_affine(feeding, feature.image.channels) for feeding in found)
    except CoreproofError:
        return ()


def wanted_affine(feeding: Feeding, channels: int) -> Affine:
    """What a feeding does to pixels, in the feeding's own order of channels."""
    std = feeding.std * channels if len(feeding.std) == 1 else feeding.std
    mean = feeding.mean * channels if len(feeding.mean) == 1 else feeding.mean
    return Affine(tuple(feeding.scale / s for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True)))


def repairs(model: Model, own: Affine, right: Affine, colour: Colour) -> tuple[Repair, ...]:
    """Ways to make the model do ``right`` to its pixels (channels in the order ``colour``) in place of ``own``."""
    feature = picture_input(model)
    assert feature is not None
    assert feature.image is not None
    before: tuple[Edit, ...] = ()
    words = f"make it {right}"
    if colour != feature.image.colour and colour in ("RGB", "BGR") and feature.image.colour in ("RGB", "BGR"):
        before = (Edit("retype", {"feature": feature.name, "kind": "image", "colour": colour}),)
        words = f"{words}, {colour}"
    if own.close_to(right):
        return (Repair(words, before),) if before else ()
    found = []
    if model.is_network and np.ptp(right.factor) <= 1e-6 * max(map(abs, right.factor)):
        step = Edit(
            "retype",
            {
                "feature": feature.name,
                "kind": "image",
                "scale": right.factor[0],
                "bias": list(right.offset),
                **({"colour": colour} if before else {}),
            },
        )
        found.append(Repair(words, (step,)))
    found.extend(Repair(words, (*before, *steps)) for steps in _stored_numbers(model, feature, right))
    found.append(Repair(words, (*before, *_correction(model, feature, own, right))))
    return tuple(found)


def _stored_numbers(model: Model, feature: Feature, right: Affine) -> list[tuple[Edit, ...]]:
    """For an ML Program that multiplies, then adds: the constants set, an addition put behind a product alone."""
    if not model.is_program:
        return []
    graph, value, steps = model.graph, feature.name, dict[str, str]()
    while len(readers := graph.consumers(value)) == 1 and readers[0].operator in ("mul", "add", "cast"):
        node = readers[0]
        if node.operator != "cast":
            if node.operator in steps or (node.operator == "mul" and "add" in steps):
                return []
            steps[node.operator] = node.name
        value = node.outputs[0]
    if "mul" not in steps:
        return []
    shape = (1, len(right.factor), 1, 1)
    factor, offset = (np.asarray(n, np.float32).reshape(shape) for n in (right.factor, right.offset))
    scale = Edit("set", {"layer": steps["mul"], "attribute": "y", "value": factor})
    if "add" in steps:
        return [(scale, Edit("set", {"layer": steps["add"], "attribute": "y", "value": offset}))]
    if not offset.any():
        return [(scale,)]
    moved = {"operator": "add", "name": f"{feature.name}_corrected", "after": value, "y": offset}
    return [(scale, Edit("insert", moved))]


def _correction(model: Model, feature: Feature, own: Affine, right: Affine) -> tuple[Edit, ...]:
    """New layers behind the model's own preprocessing that turn what it makes into what it should be."""
    channels = len(right.factor)
    factor = np.asarray(right.factor) / np.where(np.asarray(own.factor) == 0, 1, own.factor)
    offset = np.asarray(right.offset) - np.asarray(own.offset) * factor
    after = _last_own(model, feature)
    if model.is_network:
        return (
            Edit(
                "insert",
                {
                    "operator": "scale",
                    "name": f"{feature.name}_corrected",
                    "after": after,
                    "shapeScale": [channels],
                    "scale": factor.astype(np.float32),
                    "hasBias": True,
                    "shapeBias": [channels],
                    "bias": offset.astype(np.float32),
                },
            ),
        )
    shape = (1, channels, 1, 1)
    scaled, moved = f"{feature.name}_corrected_scale", f"{feature.name}_corrected"
    return (
        Edit(
            "insert",
            {"operator": "mul", "name": scaled, "after": after, "y": factor.astype(np.float32).reshape(shape)},
        ),
        Edit(
            "insert",
            {"operator": "add", "name": moved, "after": scaled, "y": offset.astype(np.float32).reshape(shape)},
        ),
    )


_OWN = {
    "mlprogram": ("mul", "add", "sub", "real_div", "cast"),
    "neuralnetwork": ("multiply", "add", "multiplyBroadcastable", "addBroadcastable", "scale", "bias"),
}
"""Layers that preprocess a picture within the model."""


def _last_own(model: Model, feature: Feature) -> str:
    """The value behind the model's own preprocessing layers; the picture itself where it has none, or stores numbers."""
    graph, value = model.graph, feature.name

    def stored(name: str) -> bool:
        known, maker = graph.values.get(name), graph.producer(name)
        return (known is not None and known.constant) or (maker is not None and not any(maker.inputs))

    while len(readers := graph.consumers(value)) == 1:
        node = readers[0]
        if node.operator not in _OWN[model.format] or not all(n == value or stored(n) for n in node.inputs):
            break
        value = node.outputs[0]
    return value
