"""diff: two versions of a model, layer by layer and weight by weight, and everything around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from coreproof.difference.edits import Edits, edits_between
from coreproof.difference.feature_change import FeatureChange, changes_around
from coreproof.difference.layer_match import LayerIndex, LayerPairs, index_layers
from coreproof.difference.settings import Setting, both_nan, changed_settings
from coreproof.difference.weight_change import WeightChange, weight_change
from coreproof.difference.weight_search import FoundWeight, find_weights
from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.graph import Node
from coreproof.model.layer_weights import WeightRef
from coreproof.model.notebook_view import Spoken
from coreproof.model.numbers import json_ready
from coreproof.model.progress import Progress, silent
from coreproof.model.public import public
from coreproof.pairing.align import canonical


@dataclass(frozen=True)
class LayerChange:
    """One layer that is in both versions and differs in more than nothing.

    ``rewired``: (before, after) of each value that it reads from elsewhere now (of all of them, where their number is
    another); a value that only got another name does not count. ``makes``: shapes and dtypes of its outputs that changed.
    """

    before: str
    after: str
    operators: tuple[str, str]
    settings: tuple[Setting, ...] = ()
    makes: tuple[Setting, ...] = ()
    rewired: tuple[tuple[str | None, str | None], ...] = ()
    weights: tuple[WeightChange, ...] = ()

    @property
    def renamed(self) -> bool:
        """Whether the layer has another name."""
        return self.before != self.after

    @property
    def replaced(self) -> bool:
        """Whether another operation stands in the layer's place."""
        return self.operators[0] != self.operators[1]

    @property
    def only_renamed(self) -> bool:
        """Whether nothing but its name is another."""
        return self.renamed and not (self.replaced or self.settings or self.makes or self.rewired or self.weights)


@dataclass(frozen=True)
class LayerNote:
    """A layer that only one of the versions has, as `coreproof show` would name it."""

    name: str
    operator: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    parameters: int


@dataclass(frozen=True, repr=False)
class Difference(Spoken):
    """What distinguishes two versions of a model. Falsy when nothing does.

    ``same_format`` False: layers are not compared one by one (the formats cut operations differently); ``weights`` then
    says which weights of one are found in the other, whatever layer holds them.
    """

    before: str
    after: str
    formats: tuple[str, str]
    around: tuple[FeatureChange, ...]
    added: tuple[LayerNote, ...] = ()
    removed: tuple[LayerNote, ...] = ()
    changed: tuple[LayerChange, ...] = ()
    unchanged: int = 0
    found: tuple[FoundWeight, ...] = ()
    lost: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()
    models: tuple[Model, Model] | None = field(default=None, repr=False, compare=False)

    def _spoken(self) -> str:
        told = {
            "added": len(self.added),
            "removed": len(self.removed),
            "changed": len(self.changed),
            "other": len(self.around),
        }
        said = ", ".join(f"{count:,} {word}" for word, count in told.items() if count)
        return f"{self.before} and {self.after}: {'nothing differs' if self.same else said or 'other weights'}"

    @property
    def same_format(self) -> bool:
        """Whether both versions are stored in one format."""
        return self.formats[0] == self.formats[1]

    @property
    def same(self) -> bool:
        """Whether there is nothing that differs."""
        return not (self.around or self.added or self.removed or self.changed or self.lost or self.gained)

    def __bool__(self) -> bool:
        return not self.same

    def to_json(self) -> dict[str, object]:
        """What ``coreproof diff --json`` prints."""
        held = asdict(replace(self, models=None))
        del held["models"]
        document: dict[str, object] = {"same": self.same, "same_format": self.same_format, **held}
        return json_ready(document)

    def edits(self) -> Edits:
        """Edits that make the one version the other, as ``coreproof.edit`` takes them, and what edits cannot say.

        The edits were carried out: ``model`` is what they make of the one version, ``unsaid`` is in what that still differs from
        the other, a line each. Raises InputError for models of different formats.
        """
        if self.models is None or not self.same_format:
            raise InputError(
                "edits change a model within its format",
                where=f"{self.before} and {self.after}",
                expected="two models of one format",
                found=" and ".join(self.formats),
                fix="`coreproof convert` carries a model to another format",
            )
        found = edits_between(*self.models)
        return replace(found, unsaid=tuple(_lines(diff(found.model, self.models[1]))))


@public
def diff(before: Model | str | Path, after: Model | str | Path, report: Progress | None = None) -> Difference:
    """Compares two versions of a model; of one format, or of two as far as they can be compared.

    Layers are paired by content, structure and name, so that renumbering is seen as renaming. Weights are compared as
    the numbers that they stand for (dequantised), two at a time. Raises InputError for models without layers to compare
    when their formats differ.

    Example:
        >>> bool(cp.diff("net.onnx", "net.onnx"))  # does anything differ?
        False

    """
    from coreproof.model.load import load

    old, new = load(before), load(after)
    tell = report or silent
    around = changes_around(old, new)
    # formats cut a network into layers differently; its weights are the same numbers in each
    if old.format != new.format:
        if "classic" in (old.format, new.format):
            raise InputError(
                "these two models have nothing that could be compared",
                where=f"{old.name} and {new.name}",
                expected="two models with layers, or two of one format",
                found=f"{old.format} and {new.format}",
            )
        found, lost, gained = find_weights(old, new, tell)
        ends = (old.name, new.name, (old.format, new.format))
        return Difference(*ends, around, found=found, lost=lost, gained=gained)
    pairs = LayerPairs(
        index_layers(old, lambda done, total: tell(f"reading {old.name}", done, total)),
        index_layers(new, lambda done, total: tell(f"reading {new.name}", done, total)),
    )
    changes = []
    for done, name in enumerate(pairs.partner):
        changes.append(_layer_change(pairs, name))
        tell("comparing layers", done + 1, len(pairs.partner))
    return Difference(
        old.name,
        new.name,
        (old.format, new.format),
        around,
        added=tuple(_note(pairs.after, name) for name in pairs.added),
        removed=tuple(_note(pairs.before, name) for name in pairs.before.layers if name not in pairs.partner),
        changed=tuple(c for c in changes if c is not None),
        unchanged=sum(c is None for c in changes),
        models=(old, new),
    )


def _lines(difference: Difference) -> Iterator[str]:
    """A difference in plain words, a line for each thing."""
    for change in difference.around:
        yield f"{change.section}: {change.what}: {change.before} -> {change.after}"
    for note in difference.removed:
        yield f"layer {note.name!r} ({note.operator}): is in the one version only"
    for note in difference.added:
        yield f"layer {note.name!r} ({note.operator}): is in the other version only"
    for layer in difference.changed:
        told = [f"is called {layer.after!r}"] if layer.renamed else []
        told += [f"is a {layer.operators[0]}, not a {layer.operators[1]}"] if layer.replaced else []
        told += [f"{s.name}: {s.before} -> {s.after}" for s in (*layer.settings, *layer.makes)]
        told += [f"reads {was!r}, not {now!r}" for was, now in layer.rewired]
        told += [f"{weight.parameter}: {weight.words}" for weight in layer.weights]
        yield f"layer {layer.before!r}: {'; '.join(told)}"


def _note(side: LayerIndex, name: str) -> LayerNote:
    node = side.layers[name]
    count = sum(weight.size for weight in side.weights.get(name, {}).values())
    return LayerNote(name, node.operator, side.read(name), node.outputs, count)


def _layer_change(pairs: LayerPairs, name: str) -> LayerChange | None:
    """How two paired layers differ; None when they do not."""
    partner = pairs.partner[name]
    old, new = pairs.before.layers[name], pairs.after.layers[partner]
    change = LayerChange(
        name,
        partner,
        (_operator(old), _operator(new)),
        settings=_settings(pairs, name),
        makes=_makes(pairs.before.model, pairs.after.model, old, new),
        rewired=_rewired(pairs, name),
        weights=_weights(pairs, name),
    )
    # compared with no change at all, so that a field that is added later counts by itself
    nothing = LayerChange(name, name, (_operator(old), _operator(old)))
    return None if change == nothing else change


def _operator(node: Node) -> str:
    # ONNX has two names for its own domain
    return f"{node.domain}.{node.operator}" if node.domain not in ("", "ai.onnx") else node.operator


def _settings(pairs: LayerPairs, name: str) -> tuple[Setting, ...]:
    """Attributes that differ, but for those that are weights, and for floats that only a narrower type rounded."""
    before, after, partner = pairs.before, pairs.after, pairs.partner[name]
    old, new = before.layers[name], after.layers[partner]
    weights = {*before.weights.get(name, {}), *after.weights.get(partner, {})}
    narrowed = _widths(before, old) != _widths(after, new)

    def alike(a: float, b: float) -> bool:
        if not (isinstance(a, float) and isinstance(b, float)):
            return False
        with np.errstate(over="ignore"):
            return both_nan(a, b) or (narrowed and bool(np.float16(a) == np.float16(b)))

    # what a Constant holds is its readers' weight
    return changed_settings(old, new, alike, but=weights | ({"value"} if old.operator == "Constant" else set()))


def _widths(side: LayerIndex, node: Node) -> tuple[str | None, ...]:
    values = side.model.graph.values
    return tuple(values[o].dtype if o in values else None for o in node.outputs)


def _makes(before: Model, after: Model, old: Node, new: Node) -> tuple[Setting, ...]:
    """Shapes and dtypes of outputs, where both files say them and they differ; and how many there are."""
    changed = []
    if len(old.outputs) != len(new.outputs):
        changed.append(Setting("outputs", ", ".join(old.outputs), ", ".join(new.outputs)))
    for was, now in zip(old.outputs, new.outputs, strict=False):
        a, b = before.graph.values.get(was), after.graph.values.get(now)
        if a is None or b is None:
            continue
        # a file that does not say a dtype or shape contradicts none
        if a.dtype and b.dtype and a.dtype != b.dtype:
            changed.append(Setting("output dtype", a.dtype, b.dtype))
        if a.shape is not None and b.shape is not None and a.shape != b.shape:
            shapes = ("x".join("?" if d is None else str(d) for d in shape) for shape in (a.shape, b.shape))
            changed.append(Setting("output shape", *shapes))
    return tuple(changed)


def _rewired(pairs: LayerPairs, name: str) -> tuple[tuple[str | None, str | None], ...]:
    old, new = pairs.before.read(name), pairs.after.read(pairs.partner[name])
    # another number of inputs: which of them went is not known by their places
    if len(old) != len(new):
        return ((", ".join(old) or None, ", ".join(new) or None),)
    return tuple((was, now) for was, now in zip(old, new, strict=True) if pairs.translate(was) != now)


def _weights(pairs: LayerPairs, name: str) -> tuple[WeightChange, ...]:
    partner = pairs.partner[name]
    old, new = pairs.before.weights.get(name, {}), pairs.after.weights.get(partner, {})
    digests = dict(zip(old, pairs.before.digests.get(name, ()), strict=True))
    others = dict(zip(new, pairs.after.digests.get(partner, ()), strict=True))
    changes = []
    for was, now in _same_parameters(old, new):
        a, b = old.get(was or ""), new.get(now or "")
        ends = (_end(a), _end(b))
        if a is None or b is None:
            words = "added" if a is None else "removed"
            changes.append(WeightChange(now or was or "", *ends, None, None, None, words))
        # equal digests are equal numbers; only those that differ are read once more
        elif digests[was or ""] != others[now or ""]:
            changes.append(weight_change(now or "", a.read(), b.read(), (a.dtype, b.dtype)))
        elif a.dtype != b.dtype:
            # a digest is of the numbers: to read them again would show nothing
            changes.append(WeightChange(now or "", *ends, 0.0, 0.0, 0.0, f"stored as {b.dtype}, the same numbers"))
    return tuple(changes)


def _end(weight: WeightRef | None) -> tuple[str, tuple[int, ...]]:
    return ("", ()) if weight is None else (weight.dtype, weight.shape)


def _same_parameters(
    before: Mapping[str, WeightRef], after: Mapping[str, WeightRef]
) -> list[tuple[str | None, str | None]]:
    """Parameters by the same name, the rest in order (ONNX names weights freely) where as many are left on both sides."""
    spelled = {canonical(name): name for name in after}
    pairs: list[tuple[str | None, str | None]] = [
        (name, name if name in after else spelled.get(canonical(name))) for name in before
    ]
    taken = {partner for _, partner in pairs}
    rest = [name for name in after if name not in taken]
    missing = [name for name, partner in pairs if partner is None]
    if len(missing) == len(rest):
        others = iter(rest)
        return [(name, partner if partner is not None else next(others)) for name, partner in pairs]
    return [*pairs, *((None, name) for name in rest)]
