"""LoweredModel: a Core ML model as ONNX, and which of its values is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from coreproof.model.features import Dimension, Feature, Signature


@dataclass(frozen=True)
class DictionaryOutput:
    """A dictionary that is no classifier's: its keys, or the ONNX output that holds them, and the output of its values.

    ``sparse``: what is zero is not in it.
    """

    keys: tuple[str, ...] | tuple[int, ...] | str
    values: str
    sparse: bool = False


@dataclass(frozen=True)
class LoweredModel:
    """The ONNX form of a Core ML model.

    ``model`` has one input a Core ML input (pictures as float32 [1, C, H, W], 0-255) and one output a Core ML output; a
    classifier's scores are the output ``signature.scores``. ``values`` maps Core ML value names to ONNX value names.
    ``states`` maps each state (an ONNX input of that name) to the ONNX output that holds it after the run. A dictionary that
    enters is two inputs, ``name/keys`` and ``name/values``; ``dictionaries`` says how those that leave are put together.
    """

    model: ir.Model
    signature: Signature
    values: Mapping[str, str]
    states: Mapping[str, str] = field(default_factory=dict)
    dictionaries: Mapping[str, DictionaryOutput] = field(default_factory=dict)


def varying(feature: Feature, lengths: Sequence[Dimension]) -> list[bool]:
    """Which of an input's lengths (of a picture: its height and width) may be other than they are declared."""
    others = [s for s in feature.enumerated if len(s) == len(lengths)]
    ranges = feature.ranges if len(feature.ranges) == len(lengths) else ()
    return [
        len({length, *(s[i] for s in others)}) > 1 or (bool(ranges) and ranges[i].low != ranges[i].high)
        for i, length in enumerate(lengths)
    ]


def named_lengths(feature: Feature) -> list[Dimension] | None:
    """An input's shape, of a picture [1, C, H, W], with a name for each length that may vary; None where it does not say one."""
    if feature.image is not None:
        declared: list[Dimension] = [feature.image.height, feature.image.width]
    elif feature.shape is not None:
        declared = list(feature.shape)
    else:
        return None
    named = [
        f"{feature.name}_{i}" if varies else n
        for i, (n, varies) in enumerate(zip(declared, varying(feature, declared), strict=True))
    ]
    return named if feature.image is None else [1, feature.image.channels, *named]
