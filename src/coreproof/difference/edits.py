"""Edits that make one version of a model the other, and what of their difference no edit can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coreproof.difference.layer_match import LayerIndex, index_layers, pair_layers, translate
from coreproof.difference.settings import changed_settings, layer_arguments, set_edit, weight_name
from coreproof.editing.edit import Edit, edit
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Node

if TYPE_CHECKING:
    from coreproof.model.features import Feature


@dataclass(frozen=True)
class Edits:
    """``edits`` carried out in order on the one version give ``model``; ``unsaid`` is in what that is still not the other.

    ``refused`` are edits that could not be carried out, with the reason.
    """

    model: Model
    edits: tuple[Edit, ...]
    refused: tuple[str, ...]
    unsaid: tuple[str, ...] = ()


def edits_between(before: Model, after: Model) -> Edits:
    """The edits that make ``before`` what ``after`` is, as far as edits can; both are of one format.

    What ``after`` lacks goes first, which frees its names; then names, so that everything behind them can speak of layers and
    values as ``after`` calls them. Each stage is tried on a copy: what is refused stays a difference.
    """
    model, edits, refused = before, list[Edit](), list[str]()
    for stage in (_surplus, _names, _layers, _features):
        model, done, left = _carried_out(model, list(stage(model, after)))
        edits += done
        refused += left
    return Edits(model, tuple(edits), tuple(refused))


def _carried_out(model: Model, steps: Sequence[Edit]) -> tuple[Model, list[Edit], list[str]]:
    """All at once where that works, else each half by itself: so a refused edit costs few copies of the model."""
    if not steps:
        return model, [], []
    try:
        return edit(model, steps, check=False).model, list(steps), []
    except CoreproofError as error:
        if len(steps) == 1:
            return model, [], [f"{steps[0]}: {error.problem}"]
    middle = len(steps) // 2
    model, first, refused = _carried_out(model, steps[:middle])
    model, second, others = _carried_out(model, steps[middle:])
    return model, first + second, refused + others


def _surplus(before: Model, after: Model) -> Iterator[Edit]:
    """Layers that ``after`` lacks; one that passes a single value on is bridged."""
    left = index_layers(before)
    pairs = pair_layers(left, index_layers(after))
    for name, own in left.layers.items():
        if name not in pairs:
            yield Edit("delete", {"layer": own.name, "reconnect": len(left.read(name)) == len(own.outputs) == 1})


# names


def _names(before: Model, after: Model) -> Iterator[Edit]:
    """Layers, values and features called as they are in ``after``, in an order in which no name is taken twice."""
    left, right = index_layers(before), index_layers(after)
    pairs = pair_layers(left, right)
    wanted: dict[str, str] = {}
    for name, partner in pairs.items():
        own, other = left.layers[name], right.layers[partner]
        values = dict(zip(own.outputs, other.outputs, strict=False))
        wanted |= {old: new for old, new in values.items() if old not in left.outputs or new in right.outputs}
        if own.name not in values:  # else the edit renames both
            wanted[own.name] = other.name
    wanted |= dict(zip(left.inputs, right.inputs, strict=False))
    pending = {old: new for old, new in wanted.items() if old != new}
    taken = {*left.makers, *left.inputs, *(node.name for node in left.layers.values())}
    while pending := {old: new for old, new in pending.items() if new not in taken or new in pending}:
        # in a ring of names one steps aside
        old = next((old for old, new in pending.items() if new not in taken), None)
        if old is None:
            old = next(iter(pending))
            spare = f"{old}__renamed"
            pending[spare] = pending.pop(old)
        else:
            spare = pending.pop(old)
        taken = (taken - {old}) | {spare}
        yield Edit("rename", {"old": old, "new": spare})


# layers


def _layers(before: Model, after: Model) -> Iterator[Edit]:
    """Layers replaced, set otherwise and put in; then what reads something else is connected anew."""
    left, right = index_layers(before), index_layers(after)
    pairs = pair_layers(left, right)
    fresh = {name: node for name, node in right.layers.items() if name not in set(pairs.values())}
    inner: dict[str, str] = {}
    takeovers: list[Edit] = []
    for name, node in fresh.items():
        # first, as an output that a new layer makes is another value from then on
        if node.outputs[0] in right.outputs:
            takeovers += _insert_before_output(left, right, pairs, name, inner)
    yield from (step for step in takeovers if step.verb == "insert")
    for name, node in fresh.items():
        if node.outputs[0] not in right.outputs:
            read = [inner.get(value, value) for value in right.read(name)]
            wiring = {"after": read[0] if read else "", "inputs": read, "output": node.outputs[0], "before": []}
            yield Edit("insert", {"operator": node.operator, "name": node.name} | wiring | layer_arguments(after, node))
    yield from (step for step in takeovers if step.verb == "connect")
    for name, partner in pairs.items():
        own, other = left.layers[name], right.layers[partner]
        wanted = [inner.get(value, value) for value in right.read(partner)]
        if (own.operator, own.domain) == (other.operator, other.domain) and len(left.read(name)) == len(wanted):
            yield from _settings(left, right, name, partner)
            yield from _connected(left, right, pairs, name, partner, inner)
        else:
            arguments = {"layer": own.name, "operator": other.operator, "inputs": wanted}
            yield Edit("replace", arguments | layer_arguments(after, other))
    yield from _names_around_outputs(left, right, pairs, inner)


def _names_around_outputs(
    left: LayerIndex, right: LayerIndex, pairs: Mapping[str, str], inner: Mapping[str, str]
) -> Iterator[Edit]:
    """What made an output and does no more, the outputs, and the layers that make them now; in this order names are free."""
    for name, partner in pairs.items():
        own, other = left.layers[name], right.layers[partner]
        # a layer that bears its output's name cannot be renamed without that: such a name stays a difference
        if own.name != other.name and set(other.outputs) & set(inner) and own.name not in left.outputs:
            yield Edit("rename", {"old": own.name, "new": other.name})
    for old, new in zip(left.outputs, right.outputs, strict=False):
        if old != new:
            yield Edit("rename", {"old": old, "new": new})
    for name, node in right.layers.items():
        if name not in set(pairs.values()) and node.outputs[0] in right.outputs:
            yield Edit("rename", {"old": _provisional(node), "new": node.name})


def _provisional(node: Node) -> str:
    """What a new layer is called while the name that it will have is another's."""
    return f"{node.name}__new"


def _insert_before_output(
    left: LayerIndex, right: LayerIndex, pairs: Mapping[str, str], name: str, inner: dict[str, str]
) -> Iterator[Edit]:
    """A new layer that makes an output: it takes the output over, and what made it makes an inner value from then on.

    ``inner`` learns how the value that ``after`` has there is called then.
    """
    node = right.layers[name]
    place = right.outputs.index(node.outputs[0])
    if place >= len(left.outputs):
        return
    output = left.outputs[place]
    maker, index = left.makers.get(output, ("", 0))
    if maker in pairs:
        inner[right.layers[pairs[maker]].outputs[index]] = f"{output}_before_{_provisional(node)}"
    arguments = {"operator": node.operator, "name": _provisional(node), "after": output}
    yield Edit("insert", arguments | layer_arguments(right.model, node))
    # the verb made it read what made the output before
    read = right.read(name)
    if len(read) == 1 and read[0] not in inner:
        yield Edit("connect", {"source": read[0], "to": _provisional(node), "input": 0})


def _settings(left: LayerIndex, right: LayerIndex, name: str, partner: str) -> Iterator[Edit]:
    own, other = left.layers[name], right.layers[partner]
    mine, theirs = left.weights.get(name, {}), right.weights.get(partner, {})
    for setting in changed_settings(own, other, lambda a, b: a != a and b != b, but={*mine, *theirs}):
        yield set_edit(own.name, setting.name, setting.after)
    here = dict(zip(mine, left.digests.get(name, ()), strict=True))
    there = dict(zip(theirs, right.digests.get(partner, ()), strict=True))
    called = {key: weight_name(own, other, key) if left.model.is_onnx else key for key in theirs}
    for key, weight in theirs.items():
        if here.get(called[key]) != there[key]:
            yield set_edit(own.name, called[key], weight.read())
    for key in mine:
        if key not in called.values():
            yield set_edit(own.name, key, None)


def _connected(
    left: LayerIndex,
    right: LayerIndex,
    pairs: Mapping[str, str],
    name: str,
    partner: str,
    inner: Mapping[str, str],
) -> Iterator[Edit]:
    own = left.layers[name]
    for was, now in zip(left.read(name), right.read(partner), strict=True):
        if translate(pairs, left, right, was) != now or now in inner:
            yield Edit("connect", {"source": inner.get(now, now), "to": own.name, "input": own.inputs.index(was)})


# features


def _features(before: Model, after: Model) -> Iterator[Edit]:
    """What the model declares: pictures, shapes, dtypes, labels, the version."""
    theirs = {f.name: f for f in (*after.signature.inputs, *after.signature.outputs)}
    inputs = {f.name for f in before.signature.inputs}
    for own in (*before.signature.inputs, *before.signature.outputs):
        if own.name in theirs:
            yield from _feature(own, theirs[own.name], own.name in inputs)
    labels = after.signature.labels
    if labels is not None and labels != before.signature.labels:
        yield Edit("relabel", {"labels": list(labels)})
    if before.is_network and isinstance(before, CoreMLModel) and isinstance(after, CoreMLModel):
        yield from _of_network(before, after)


def _of_network(before: CoreMLModel, after: CoreMLModel) -> Iterator[Edit]:
    was, now = (m.spec.neuralNetworkClassifier.labelProbabilityLayerName for m in (before, after))
    if was != now and now:
        yield Edit("scores", {"value": now})
    if before.spec.specificationVersion != after.spec.specificationVersion:
        yield Edit("respecify", {"version": after.spec.specificationVersion})


def _feature(own: Feature, other: Feature, is_input: bool) -> Iterator[Edit]:
    if other.image is not None and (own.image is None or own.image.colour != other.image.colour):
        yield Edit("retype", {"feature": own.name, "kind": "image", "colour": other.image.colour})
    elif other.image is None and own.image is not None:
        yield Edit("retype", {"feature": own.name, "kind": "tensor"})
    elif own.dtype != other.dtype and other.dtype is not None:
        yield Edit("retype", {"feature": own.name, "dtype": other.dtype})
    if not is_input:
        return
    shape = (other.image.height, other.image.width) if other.image is not None else other.shape
    was = (own.image.height, own.image.width) if own.image is not None else own.shape
    if (shape, other.enumerated, other.ranges) != (was, own.enumerated, own.ranges) and shape is not None:
        arguments: dict[str, Any] = {"feature": own.name, "shape": list(shape)}
        if other.ranges:
            arguments["ranges"] = [[r.low, -1 if r.high is None else r.high] for r in other.ranges]
        elif len(other.enumerated) > 1:
            arguments["enumerated"] = [list(s) for s in other.enumerated]
        yield Edit("reshape", arguments)
