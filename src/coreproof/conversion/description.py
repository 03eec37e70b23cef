"""What a Core ML model tells of itself: author, licence, version, what it and its features are for, and which may be left out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coreproof.errors import InputError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import FeatureTypes_pb2, Model_pb2
from coreproof.model.formats import classic

FIELDS = {"author": "author", "license": "license", "version": "versionString", "description": "shortDescription"}
"""What the metadata may hold, and what Core ML calls it (Model.proto, Metadata)."""
_ARRAY = FeatureTypes_pb2.ArrayFeatureType
_SINCE = 5
"""Specification version from which on arrays may have a default: iOS 14 (FeatureTypes.proto)."""


@dataclass(frozen=True)
class Description:
    """``metadata``: texts by ``FIELDS``; ``features``: a text for each input, output or state that it names.

    ``defaults``: inputs that may be left out, and the number that they hold then.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InputError for what the metadata does not hold, and numbers that are none."""
        for argument, given in (("metadata", self.metadata), ("describe", self.features), ("defaults", self.defaults)):
            if not isinstance(given, Mapping):
                raise InputError(f"{argument} is a dictionary by names", found=repr(given)[:80])
        unknown = sorted(set(self.metadata) - set(FIELDS))
        if unknown:
            raise InputError("the metadata does not hold that", expected=", ".join(FIELDS), found=", ".join(unknown))
        for name, value in self.defaults.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"the default of {name!r} is no number", found=repr(value))

    def __bool__(self) -> bool:
        return bool(self.metadata or self.features or self.defaults)

    def write(self, model: CoreMLModel) -> None:
        """Writes it into the model's description. Raises InputError, all names at once, for features that it does not have."""
        spec, where = model.spec, model.name
        for key, text in self.metadata.items():
            setattr(spec.description.metadata, FIELDS[key], text)
        described = spec.description
        every = [*described.input, *described.output, *described.state]
        found = _features_by_name(self.features, every, where, _classes(model) if self.features else {})
        for name, text in self.features.items():
            found[name].shortDescription = text
        inputs = _features_by_name(self.defaults, described.input, where, {})
        if self.defaults and classic.is_pipeline(spec):
            raise InputError(
                "inputs of a pipeline have no defaults", where=where, fix="thresholds: --detection ...:iou=0.6"
            )
        for name, value in self.defaults.items():
            _set_default(spec, inputs[name], value, where)
        vars(model).pop("signature", None)  # which was read before


def _features_by_name(
    asked: Mapping[str, object],
    features: Sequence[Model_pb2.FeatureDescription],
    where: str,
    became: Mapping[str, str],
) -> dict[str, Model_pb2.FeatureDescription]:
    """The features by the names that were asked for: those that they have, had in the source, or that theirs ``became``."""
    known = {feature.name: feature for feature in features}
    found = {name: known.get(name) or known.get(became.get(name) or _identifier(name)) for name in asked}
    missing = [name for name, feature in found.items() if feature is None]
    if missing:
        raise InputError(
            "the model has no such features", where=where, expected=", ".join(known), found=", ".join(missing)
        )
    return {name: feature for name, feature in found.items() if feature is not None}


def _classes(model: CoreMLModel) -> dict[str, str]:
    """What the source calls the scores that a classifier hands out by label."""
    probabilities = model.signature.probabilities
    if probabilities is None:
        return {}
    network = model.spec.neuralNetworkClassifier.labelProbabilityLayerName
    made_of = [node.inputs[0] for node in model.graph.nodes if node.operator == "classify"]
    return {model.provenance.get(scores, scores): probabilities for scores in (*made_of, network) if scores}


def _identifier(name: str) -> str:
    """How a name of the source is spelled in Core ML."""
    spelled = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"var_{spelled}" if spelled[:1].isdigit() else spelled


def _set_default(spec: Model_pb2.Model, feature: Model_pb2.FeatureDescription, value: float, where: str) -> None:
    if feature.type.WhichOneof("Type") != "multiArrayType":
        raise InputError(
            f"the input {feature.name!r} has no default",
            where=where,
            expected="an array",
            found="a picture or a number",
        )
    if spec.specificationVersion < _SINCE:
        raise InputError("inputs have defaults from iOS 14 on", where=where, fix="--target iOS14 or newer")
    array = feature.type.multiArrayType
    if array.dataType == _ARRAY.INT32:
        if value != int(value) or not -(2**31) <= value < 2**31:
            raise InputError(f"the default of {feature.name!r} is no whole number", where=where, found=str(value))
        array.intDefaultValue = int(value)
    else:
        array.floatDefaultValue = value
    feature.type.isOptional = True
