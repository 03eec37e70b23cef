"""What changed around the layers: features, preprocessing, labels, metadata, versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from coreproof.difference.label_change import label_words
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature
from coreproof.model.onnx.model import OnnxModel

Section = Literal["format", "features", "preprocessing", "labels", "metadata", "settings"]

_LONGEST = 8
"""Elements of a list that are shown; longer ones show their first, their number and a digest."""
_ELSEWHERE = {
    "description.input", "description.output", "description.state", "description.functions", "description.metadata",
    "description.predictedFeatureName", "description.predictedProbabilitiesName",
    "specificationVersion",
}  # fmt: skip
"""What the sections on features, metadata and format say already."""
_LAYERS = {"layers", "stringClassLabels", "int64ClassLabels"}


@dataclass(frozen=True)
class FeatureChange:
    """Something that is not a layer, before and after; None where it was not there. ``words`` say what it amounts to."""

    section: Section
    what: str
    before: str | None
    after: str | None
    words: str = ""


def changes_around(before: Model, after: Model) -> tuple[FeatureChange, ...]:
    """Everything but layers and weights, in the order in which a reader wants it."""
    changes = [FeatureChange("format", "format", before.format, after.format)] if before.format != after.format else []
    changes += _features(before, after)
    changes += _labels(before.signature.labels, after.signature.labels)
    if before.format == after.format:
        sections: tuple[Section, ...] = ("format", "preprocessing", "metadata", "settings")
        for section, was, now in zip(sections, _facts(before), _facts(after), strict=True):
            changes += [
                FeatureChange(section, name, was.get(name), now.get(name))
                for name in dict.fromkeys([*was, *now])
                if was.get(name) != now.get(name)
            ]
    order = ["format", "features", "preprocessing", "labels", "settings", "metadata"]
    return tuple(sorted(changes, key=lambda change: order.index(change.section)))


# features


def _features(before: Model, after: Model) -> list[FeatureChange]:
    old, new = before.signature, after.signature
    changes: list[FeatureChange] = []
    for word, features, others in (
        ("input", old.inputs, new.inputs),
        ("output", old.outputs, new.outputs),
        ("state", old.states, new.states),
    ):
        for was, now in _paired(features, others):
            changes += _feature(word, was, now)
    names = (
        ("predicted label", old.predicted_label, new.predicted_label),
        ("probabilities", old.probabilities, new.probabilities),
    )
    return changes + [FeatureChange("features", what, was, now) for what, was, now in names if was != now]


def _paired(before: Sequence[Feature], after: Sequence[Feature]) -> Iterable[tuple[Feature | None, Feature | None]]:
    """By name; what is left over, in order where both sides have as many."""
    names = {f.name: f for f in after}
    rest_before = [f for f in before if f.name not in names]
    rest_after = [f for f in after if f.name not in {b.name for b in before}]
    renamed = dict(zip((f.name for f in rest_before), rest_after, strict=False))
    for feature in before:
        yield feature, names.get(feature.name) or renamed.get(feature.name)
    for feature in rest_after[len(rest_before) :]:
        yield None, feature


def _feature(word: str, old: Feature | None, new: Feature | None) -> list[FeatureChange]:
    if old is None or new is None:
        present = new if old is None else old
        assert present is not None
        what = f"{word} {present.name!r}"
        return [
            FeatureChange("features", what, None if old is None else _type(old), None if new is None else _type(new))
        ]
    what, changes = f"{word} {old.name!r}", []
    if old.name != new.name:
        changes.append(FeatureChange("features", what, old.name, new.name, "renamed"))
    texts = [_type(f) for f in (old, new)]
    if texts[0] != texts[1]:
        changes.append(FeatureChange("features", what, texts[0], texts[1], _feature_words(old, new)))
    for field in ("optional", "default", "enumerated", "ranges", "description"):
        values = [_shown(getattr(f, field)) for f in (old, new)]
        if values[0] != values[1] and not (field in ("enumerated", "ranges") and texts[0] != texts[1]):
            changes.append(FeatureChange("features", f"{what} {field}", values[0] or None, values[1] or None))
    return changes


def _type(feature: Feature) -> str:
    """What the feature is, without its name; of many shapes, the first ones."""
    text = str(feature).removeprefix(f"{feature.name}: ")
    options = text.split(" or ")
    return text if len(options) <= 4 else f"{' or '.join(options[:3])} or {len(options) - 3} more]"


def _feature_words(old: Feature, new: Feature) -> str:
    if old.image is not None and new.image is not None:
        if (old.image.width, old.image.height) == (new.image.width, new.image.height):
            return "channel order" if {old.image.colour, new.image.colour} == {"RGB", "BGR"} else "colour"
        return "size of the picture"
    if old.kind != new.kind:
        return f"{old.kind} became {new.kind}"
    if old.shape == new.shape:
        return "width of the numbers" if old.dtype != new.dtype else ""
    return "shape"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)
    return "" if value is None else str(value)


# labels


def _labels(before: Sequence[object] | None, after: Sequence[object] | None) -> list[FeatureChange]:
    if before == after:
        return []
    if before is None or after is None:
        old, new = (None if side is None else f"{len(side)} labels" for side in (before, after))
        return [FeatureChange("labels", "labels", old, new)]
    words = label_words(list(map(str, before)), list(map(str, after)))
    places = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
    first = places[0] if places else min(len(before), len(after))
    ends = [
        f"{len(side)} labels" + (f", [{first}] {side[first]}" if first < len(side) else "") for side in (before, after)
    ]
    return [FeatureChange("labels", "labels", ends[0], ends[1], words)]


# everything else that a file says


def _facts(model: Model) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    """Of one model: versions, preprocessing, metadata, other settings."""
    if isinstance(model, OnnxModel):
        return _onnx_facts(model.ir)
    if not isinstance(model, CoreMLModel):
        return {}, {}, dict(model.signature.metadata), {}
    spec = model.spec
    facts = flatten(spec, skip=_ELSEWHERE)
    preprocessing = {k: v for k, v in facts.items() if ".preprocessing" in k or "imageInputShapeMapping" in k}
    metadata = flatten(spec.description.metadata)
    versions = {"model type": str(spec.WhichOneof("Type")), "specification version": str(spec.specificationVersion)}
    if model.is_program:
        used = sorted({f.opset for f in spec.mlProgram.functions.values()})
        versions["operation set"] = ", ".join(used)
    settings = {_without_kind(k): v for k, v in facts.items() if k not in preprocessing and "." in k}
    return versions, {_without_kind(k): v for k, v in preprocessing.items()}, metadata, settings


def _without_kind(path: str) -> str:
    kind, _, rest = path.partition(".")
    return rest or path if kind.startswith("neuralNetwork") else path


def _onnx_facts(model: ir.Model) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    versions = {f"opset {domain or 'ai.onnx'}": str(version) for domain, version in model.opset_imports.items()}
    versions["IR version"] = str(model.ir_version)
    metadata = {k: v for k in ("producer_name", "producer_version", "domain", "doc_string") if (v := getattr(model, k))}
    metadata |= {f"metadata {k}": _clipped(str(v)) for k, v in model.metadata_props.items()}
    settings = {"functions": str(len(model.functions))} if len(model.functions) else {}
    return versions, {}, {k: str(v) for k, v in metadata.items()}, settings


def flatten(message: Message, path: str = "", skip: Iterable[str] = ()) -> dict[str, str]:
    """path -> value, for everything in a Core ML message but layers and labels; long lists as a digest."""
    facts: dict[str, str] = {}
    for descriptor, value in message.ListFields():
        name = f"{path}.{descriptor.name}" if path else descriptor.name
        if name in skip or descriptor.name in _LAYERS or _is_program(descriptor):
            continue
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            for key in sorted(value, key=str):
                entry, called = value[key], f"{name}[{key}]"
                facts |= flatten(entry, called) if isinstance(entry, Message) else {called: str(entry)}
        elif descriptor.message_type is not None and descriptor.is_repeated:
            facts.update(_entries(name, value))
        elif descriptor.message_type is not None:
            facts.update(flatten(value, name, skip) or {name: "set"})
        elif descriptor.is_repeated:
            facts[name] = _listed(list(value))
        elif descriptor.enum_type is not None:
            known = descriptor.enum_type.values_by_number.get(value)
            facts[name] = known.name if known is not None else f"unknown ({value})"
        else:
            facts[name] = _clipped(f"{value:.9g}" if isinstance(value, float) else str(value))
    return facts


def _is_program(descriptor: FieldDescriptor) -> bool:
    return bool(descriptor.message_type is not None and descriptor.message_type.full_name.endswith("MILSpec.Program"))


def _entries(name: str, entries: Sequence[Message]) -> dict[str, str]:
    if len(entries) > 64:
        digest = blake2b(digest_size=3)
        for entry in entries:
            digest.update(entry.SerializeToString(deterministic=True))
        return {name: f"{len(entries):,} entries #{digest.hexdigest()}"}
    facts: dict[str, str] = {}
    # by name where they have one: one more in front is no change of all others
    for index, entry in enumerate(entries):
        key = getattr(entry, "name", "") or getattr(entry, "featureName", "") or str(index)
        facts.update(flatten(entry, f"{name}[{key}]") or {f"{name}[{key}]": "set"})
    return facts


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(f"{v:.9g}" if isinstance(v, float) else str(v) for v in values[:_LONGEST])
    if len(values) <= _LONGEST:
        return f"[{shown}]"
    return f"[{shown}, ...] {len(values):,} values #{blake2b(repr(values).encode(), digest_size=3).hexdigest()}"


def _clipped(text: str) -> str:
    if len(text) <= 200:
        return text
    return f"{text[:80]}... {len(text):,} characters #{blake2b(text.encode(), digest_size=3).hexdigest()}"
