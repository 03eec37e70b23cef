"""What changed around the layers: features, preprocessing, labels, metadata, versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from coreproof.difference.label_change import label_words
from coreproof.model.base import Model
from coreproof.model.features import Feature

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
class Change:
    """Something that is not a layer, before and after; None where it was not there. ``words`` say what it amounts to."""

    section: Section
    what: str
    before: str | None
    after: str | None
    words: str = ""


def changes_around(before: Model, after: Model) -> tuple[Change, ...]:
    """Everything but layers and weights, in the order in which a reader wants it."""
    changes = [Change("format", "format", before.format, after.format)] if before.format != after.format else []
    changes += _features(before, after)
    changes += _labels(before.signature.labels, after.signature.labels)
    comparable = before.format == after.format
    for section, left, right in zip(
        ("format", "preprocessing", "metadata", "settings"), _facts(before), _facts(after), strict=True
    ):
        if comparable:
            changes += _facts_changed(section, left, right)  # type: ignore[arg-type]
    order = ["format", "features", "preprocessing", "labels", "settings", "metadata"]
    return tuple(sorted(changes, key=lambda change: order.index(change.section)))


# features


def _features(before: Model, after: Model) -> list[Change]:
    left, right = before.signature, after.signature
    changes: list[Change] = []
    for word, mine, theirs in (
        ("input", left.inputs, right.inputs),
        ("output", left.outputs, right.outputs),
        ("state", left.states, right.states),
    ):
        for old, new in _paired(mine, theirs):
            changes += _feature(word, old, new)
    for what, old_name, new_name in (
        ("predicted label", left.predicted_label, right.predicted_label),
        ("probabilities", left.probabilities, right.probabilities),
    ):
        if old_name != new_name:
            changes.append(Change("features", what, old_name, new_name))
    return changes


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


def _feature(word: str, old: Feature | None, new: Feature | None) -> list[Change]:
    if old is None or new is None:
        present = new if old is None else old
        assert present is not None
        what = f"{word} {present.name!r}"
        return [Change("features", what, None if old is None else _type(old), None if new is None else _type(new))]
    what, changes = f"{word} {old.name!r}", []
    if old.name != new.name:
        changes.append(Change("features", what, old.name, new.name, "renamed"))
    texts = [_type(f) for f in (old, new)]
    if texts[0] != texts[1]:
        changes.append(Change("features", what, texts[0], texts[1], _feature_words(old, new)))
    for field in ("optional", "default", "enumerated", "ranges", "description"):
        values = [_shown(getattr(f, field)) for f in (old, new)]
        if values[0] != values[1] and not (field in ("enumerated", "ranges") and texts[0] != texts[1]):
            changes.append(Change("features", f"{what} {field}", values[0] or None, values[1] or None))
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


def _labels(before: Sequence[object] | None, after: Sequence[object] | None) -> list[Change]:
    if before == after:
        return []
    if before is None or after is None:
        old, new = (None if side is None else f"{len(side)} labels" for side in (before, after))
        return [Change("labels", "labels", old, new)]
    words = label_words(list(map(str, before)), list(map(str, after)))
    places = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
    first = places[0] if places else min(len(before), len(after))
    ends = [
        f"{len(side)} labels" + (f", [{first}] {side[first]}" if first < len(side) else "") for side in (before, after)
    ]
    return [Change("labels", "labels", ends[0], ends[1], words)]


# everything else that a file says


def _facts(model: Model) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    """Of one model: versions, preprocessing, metadata, other settings."""
    if model.is_onnx:
        return _onnx_facts(model.ir)  # type: ignore[attr-defined]
    spec = getattr(model, "spec", None)
    if spec is None:
        return {}, {}, dict(model.signature.metadata), {}
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


def _onnx_facts(model: Any) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    versions = {f"opset {domain or 'ai.onnx'}": str(version) for domain, version in model.opset_imports.items()}
    versions["IR version"] = str(model.ir_version)
    metadata = {k: v for k in ("producer_name", "producer_version", "domain", "doc_string") if (v := getattr(model, k))}
    metadata |= {f"metadata {k}": _clipped(str(v)) for k, v in model.metadata_props.items()}
    settings = {"functions": str(len(model.functions))} if len(model.functions) else {}
    return versions, {}, {k: str(v) for k, v in metadata.items()}, settings


def _facts_changed(section: Section, before: Mapping[str, str], after: Mapping[str, str]) -> Iterable[Change]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(section, name, before.get(name), after.get(name))


def flatten(message: Any, path: str = "", skip: Iterable[str] = ()) -> dict[str, str]:
    """path -> value, for everything in a Core ML message but layers and labels; long lists as a digest."""
    facts: dict[str, str] = {}
    for descriptor, value in message.ListFields():
        name = f"{path}.{descriptor.name}" if path else descriptor.name
        if name in skip or descriptor.name in _LAYERS or _is_program(descriptor):
            continue
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            for key in sorted(value, key=str):
                entry = value[key]
                nested = (
                    flatten(entry, f"{name}[{key}]") if hasattr(entry, "ListFields") else {f"{name}[{key}]": str(entry)}
                )
                facts.update(nested)
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


def _is_program(descriptor: Any) -> bool:
    return bool(descriptor.message_type is not None and descriptor.message_type.full_name.endswith("MILSpec.Program"))


def _entries(name: str, entries: Sequence[Any]) -> dict[str, str]:
    if len(entries) > 64:
        digest = blake2b(digest_size=3)
        for entry in entries:
            digest.update(entry.SerializeToString(deterministic=True))
        return {name: f"{len(entries):,} entries #{digest.hexdigest()}"}
    facts: dict[str, str] = {}
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
