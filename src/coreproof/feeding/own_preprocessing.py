"""A picture on one side, numbers on the other: what the second is fed, so that both see the same thing.

A Core ML model that takes a picture mostly holds the scale and the bias that its source was fed with. Where nobody says
how the source is fed, they are read from there: the network is then compared, and the preprocessing taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from coreproof.conversion.operators import meaning
from coreproof.errors import CoreproofError
from coreproof.feeding.picture_values import in_rank
from coreproof.model.base import Model
from coreproof.model.features import Feature, ImageLayout
from coreproof.model.feeding import Feeding
from coreproof.model.numbers import relative_rms, rms
from coreproof.model.onnx.constants import constant_of
from coreproof.pairing.align import Pair, align, value_index
from coreproof.pairing.taps import as_array, engine_shapes, match_outputs, taps_of
from coreproof.runtime.executable import Executable, compile_model
from coreproof.runtime.session import Session

Array = np.ndarray


def numbers(planes: Array, layout: ImageLayout, feeding: Feeding, feature: Feature) -> Array:
    """The picture ``planes`` ([1, C, H, W], 0-255, channels in the layout's order) as ``feeding`` feeds it to ``feature``."""
    values = np.asarray(planes, np.float32).reshape((1, *np.shape(planes)[-3:]))
    if {layout.colour, feeding.colour} == {"RGB", "BGR"}:
        values = values[:, ::-1]
    values = (values * np.float32(feeding.scale) - _each(feeding.mean)) / _each(feeding.std)
    if _channels_last(feature, feeding):
        values = values.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(in_rank(values, feature))


def pixels_of(values: Array, layout: ImageLayout, feeding: Feeding, feature: Feature) -> Array:
    """The picture, in the layout's channels, of which ``feeding`` made ``values``: the inverse of ``numbers``."""
    values = np.asarray(values, np.float32)
    values = values.reshape((1, *values.shape[-3:]))
    if _channels_last(feature, feeding):
        values = values.transpose(0, 3, 1, 2)
    planes = np.rint((values * _each(feeding.std) + _each(feeding.mean)) / np.float32(feeding.scale))
    if {layout.colour, feeding.colour} == {"RGB", "BGR"}:
        planes = planes[:, ::-1]
    return np.ascontiguousarray(np.clip(planes, 0, 255), np.float32)


def _each(figures: Sequence[float]) -> Array:
    return np.asarray(figures, np.float32).reshape(1, -1, 1, 1)


def _channels_last(feature: Feature, feeding: Feeding) -> bool:
    shape = feature.shape or ()
    # the shape tells where one end alone can be channels: grey or three colours; else what was said of the layout counts
    if len(shape) >= 3 and (shape[-1] in (1, 3)) != (shape[-3] in (1, 3)):
        return shape[-1] in (1, 3)
    return feeding.layout == "NHWC"


# what a picture's own model does to it first


def own_feedings(running: Session, feature: Feature) -> tuple[Feeding, ...]:
    """What the model itself does to a picture first, step by step, as feedings: all of its steps first, none of them last.

    Steps are products and sums with constants, one for all pixels or one a channel. None but the last ("pixels as they
    are") where the engine's graph cannot be read, or the model begins with other things. A saved run tells what was
    found when it was recorded.
    """
    assert feature.image is not None
    layout = feature.image
    bare = Feeding(size=(layout.width, layout.height), resize="squash", colour=layout.colour)
    recording = running.recording
    if recording is not None:
        return recording.feedings.get(feature.name, ()) or (bare,)
    executable = running.executable or _lowered(running.model)
    if executable is None:
        return (bare,)
    name = executable.values.get(feature.name, feature.name)
    value = next((v for v in executable.graph.graph.inputs if v.name == name), None)
    found: dict[tuple[tuple[float, ...], tuple[float, ...]], None] = {}
    for factor, bias in _steps(value, layout.channels):
        std = 1.0 / factor  # x * factor + bias is (x - mean) / std
        found[_plain(-bias * std), _plain(std)] = None
    return (*(replace(bare, mean=mean, std=std) for mean, std in reversed(found)), bare)


def _lowered(model: Model | None) -> Executable | None:
    """The graph of a model that another engine runs, Apple's own; None where it cannot be lowered."""
    if model is None or not model.is_coreml:
        return None
    try:
        return compile_model(model, "stored")
    except CoreproofError:
        return None


def _plain(figures: Array) -> tuple[float, ...]:
    """One figure where all channels share it; without the last digits that only float32 has put there."""
    # + 0.0 makes 0.0 of -0.0
    rounded = [float(f"{x:.7g}") + 0.0 for x in figures]
    return tuple(rounded[:1] if len(set(rounded)) == 1 else rounded)


def _steps(value: ir.Value | None, channels: int) -> Iterator[tuple[Array, Array]]:
    """(factor, bias) a channel of everything done so far, after each operation on the picture and constants alone."""
    factor, bias = np.ones(channels), np.zeros(channels)
    # what is read twice is no step of preprocessing any more
    while value is not None and len(uses := list(value.uses())) == 1:
        node = uses[0].node
        if meaning(node.op_type).get("hands_on") != "whole":
            step = _step(node, value, channels)
            if step is None:
                return
            factor, bias = factor * step[0], bias * step[0] + step[1]
            if not np.all(np.isfinite(factor)) or not np.all(factor):
                return
            yield factor, bias
        value = node.outputs[0]


def _step(node: ir.Node, value: ir.Value, channels: int) -> tuple[Array, Array] | None:
    """(factor, bias) of one operation; None where it is no product or sum with a constant a channel."""
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or len(node.inputs) != 2:
        return None
    first = node.inputs[0] is value
    constant = constant_of(node.inputs[1 if first else 0])
    if constant is None or constant.size not in (1, channels):
        return None
    if constant.size > 1 and (constant.ndim < 3 or constant.shape[-3] != channels):
        return None
    c = np.broadcast_to(constant.reshape(-1), (channels,)).astype(np.float64)
    one, none = np.ones(channels), np.zeros(channels)
    if node.op_type == "Mul":
        return c, none
    if node.op_type == "Add":
        return one, c
    if node.op_type == "Sub":
        return (one, -c) if first else (-one, c)
    return (1.0 / c, none) if first and np.all(c) else None


def are_pixels(feeding: Feeding) -> bool:
    """Whether the numbers of a feeding are the pixels as they are."""
    return feeding.scale == 1.0 and not any(feeding.mean) and all(s == 1.0 for s in feeding.std)


def in_words(feeding: Feeding) -> str:
    """The numbers of a feeding, without its geometry: "BGR pixels 0-255", "(RGB pixel*0.00392157 - 0.5) / 0.25"."""
    if are_pixels(feeding):
        return f"{feeding.colour} pixels 0-255"
    text = f"{feeding.colour} pixel" + ("" if feeding.scale == 1.0 else f"*{feeding.scale:.6g}")
    if any(feeding.mean):
        text = f"{text} - {_listed(feeding.mean)}"
    if all(s == 1.0 for s in feeding.std):
        return text
    return f"{f'({text})' if any(feeding.mean) else text} / {_listed(feeding.std)}"


def _listed(figures: Sequence[float]) -> str:
    return f"{figures[0]:.6g}" if len(set(figures)) == 1 else "(" + ", ".join(f"{f:.6g}" for f in figures) + ")"


@dataclass(frozen=True)
class Taker:
    """One of two models, ready to run, and its input that is in question."""

    model: Model
    running: Session
    feature: Feature


def likeliest(picture: Taker, other: Taker, feedings: Sequence[Feeding], planes: Array) -> Feeding:
    """Of several ``feedings`` the first, or another with which both sides clearly lie closer; both run once each.

    Held against each other are the first inner values that both have, and the outputs; what counts is the median, because
    a fault somewhere in one of the models is what this is all about. Raises what the picture's model raises.
    """
    if len(feedings) == 1:
        return feedings[0]
    assert picture.feature.image is not None
    pairs = _shared(picture, other)
    wanted = _values(picture, planes, [p.reference for p in pairs])
    apart = []
    for feeding in feedings:
        try:
            fed = numbers(planes, picture.feature.image, feeding, other.feature)
            made = _values(other, fed, [p.candidate for p in pairs])
        except CoreproofError:
            apart.append(np.inf)
            continue
        apart.append(float(np.median([_apart(wanted[p.reference], made[p.candidate]) for p in pairs])))
    best = int(np.argmin(apart))
    return feedings[best] if apart[best] < apart[0] / CLEARLY else feedings[0]


CLEARLY = 3.0
"""How many times closer another feeding has to bring the two models, to be taken for what was meant."""

COMPARED = 8
"""So many inner values are held against each other to find the feeding."""


def _shared(picture: Taker, other: Taker) -> list[Pair]:
    """The first inner values that both have, and the outputs; "reference" is the side that takes the picture."""
    a, b = (value_index(t.model, t.running.tappable, engine_shapes(t.running)) for t in (picture, other))
    outputs = match_outputs(picture.running, other.running)
    ends = {p.candidate for p in outputs}
    inner = [p for p in align(a, b) if p.candidate not in ends]
    return [*inner[:COMPARED], *outputs]


def _values(of: Taker, value: Array, names: Sequence[str]) -> dict[str, Array]:
    made = of.running.run({of.feature.name: value}, taps_of(of.running, names))
    return {name: as_array(made[name]) for name in names}


def _apart(a: Array, b: Array) -> float:
    """The difference of two values as a share of their scale; infinite where they cannot be compared."""
    if a.dtype.kind in "OSU" or b.dtype.kind in "OSU":
        return np.inf
    return relative_rms(a, b, max(rms(a.astype(np.float64)), rms(b.astype(np.float64))))
