"""What a model makes of a picture's pixels before its first layer, as a factor and an offset a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

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
        factors, offsets = (np.subtract(a, b) for a, b in ((self.factor, other.factor), (self.offset, other.offset)))
        span = 255 * max(map(abs, other.factor)) or 1.0
        # a straight line is furthest from another at one of its ends: of pixels, 0 and 255
        return bool(max(np.abs(offsets).max(), np.abs(255 * factors + offsets).max()) <= tolerance * span)

    def reversed(self) -> Affine:
        """The same for channels in the opposite order."""
        return Affine(self.factor[::-1], self.offset[::-1])

    def __str__(self) -> str:
        return f"pixel * {_list(self.factor)} + {_list(self.offset)}"


def _list(values: Sequence[float]) -> str:
    rounded = [f"{v:.4g}" for v in values]
    return rounded[0] if len(set(rounded)) == 1 else f"({', '.join(rounded)})"


PLAUSIBLE = {
    "bare pixels, 0 to 255": Feeding(),
    "pixels from 0 to 1": Feeding(scale=1 / 255),
    "pixels from -1 to 1": Feeding(scale=1 / 255, mean=(0.5,), std=(0.5,)),
    "(pixel - 127) / 128": Feeding(mean=(127,), std=(128,)),
    "torchvision's mean and std": TORCHVISION_FEEDING,
    "Caffe's means, blue first": Feeding(mean=(104, 117, 123), colour="BGR"),
    "torchvision's mean, std left out": replace(TORCHVISION_FEEDING, std=(1.0,)),
}
"""What the field's models are trained with (torchvision, Keras' modes "torch", "tf" and "caffe", EfficientNet-Lite)."""


def plausible_affine(feeding: Feeding, channels: int) -> Affine:
    """What a feeding does to the pixels of so many channels; grey models get the mean of the three."""
    own = wanted_affine(feeding, 3)
    if channels == 3:
        return own
    return Affine((float(np.mean(own.factor)),) * channels, (float(np.mean(own.offset)),) * channels)


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
    # only the order of the channels is wrong
    if own.close_to(right):
        return (Repair(words, before),) if before else ()
    found = []
    if model.is_network and np.ptp(right.factor) <= 1e-6 * max(map(abs, right.factor)):
        # a network's scaler has one scale and a bias a channel
        scaler = {"kind": "image", "scale": right.factor[0], "bias": list(right.offset)}
        recoloured = {"colour": colour} if before else {}
        found.append(Repair(words, (Edit("retype", {"feature": feature.name, **scaler, **recoloured}),)))
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
            # an addition in front of the product, or two of one kind, are not what a converter writes
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
    # right = factor * own + offset, for each channel
    factor = np.asarray(right.factor) / np.where(np.asarray(own.factor) == 0, 1, own.factor)
    offset = np.asarray(right.offset) - np.asarray(own.offset) * factor
    factor, offset = factor.astype(np.float32), offset.astype(np.float32)
    after, corrected = _last_own(model, feature), f"{feature.name}_corrected"
    if model.is_network:
        scaled = {"shapeScale": [channels], "scale": factor, "hasBias": True, "shapeBias": [channels], "bias": offset}
        return (Edit("insert", {"operator": "scale", "name": corrected, "after": after, **scaled}),)
    scale = {"name": f"{corrected}_scale", "after": after, "y": factor.reshape(1, channels, 1, 1)}
    shift = {"name": corrected, "after": f"{corrected}_scale", "y": offset.reshape(1, channels, 1, 1)}
    return Edit("insert", {"operator": "mul", **scale}), Edit("insert", {"operator": "add", **shift})


_OWN = {
    "mlprogram": ("mul", "add", "sub", "real_div", "cast"),
    "neuralnetwork": ("multiply", "add", "multiplyBroadcastable", "addBroadcastable", "scale", "bias"),
}
"""Layers that preprocess a picture within the model."""


def _last_own(model: Model, feature: Feature) -> str:
    """The value behind the model's own preprocessing layers; the picture itself where it has none, or stores numbers."""
    graph, value = model.graph, feature.name

    def stored(name: str) -> bool:
        maker = graph.producer(name)
        return graph.is_constant(name) or (maker is not None and not any(maker.inputs))

    while len(readers := graph.consumers(value)) == 1:
        node = readers[0]
        if node.operator not in _OWN[model.format] or not all(n == value or stored(n) for n in node.inputs):
            break
        value = node.outputs[0]
    return value
