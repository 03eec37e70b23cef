"""Edits that make one version of a model the other, and what of their difference no edit can say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coreproof.difference.layer_match import LayerPairs, index_layers
from coreproof.difference.settings import both_nan, changed_settings, layer_arguments, set_edit, weight_name
from coreproof.editing.edit import Edit, edit
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.features import Feature
from coreproof.model.graph import Node


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


def _paired(before: Model, after: Model) -> LayerPairs:
    return LayerPairs(index_layers(before), index_layers(after))


def _surplus(before: Model, after: Model) -> Iterator[Edit]:
    """Layers that ``after`` lacks; one that passes a single value on is bridged."""
    pairs = _paired(before, after)
    for name, own in pairs.before.layers.items():
        if name not in pairs.partner:
            bridged = len(pairs.before.read(name)) == len(own.outputs) == 1
            yield Edit("delete", {"layer": own.name, "reconnect": bridged})


# names


def _names(before: Model, after: Model) -> Iterator[Edit]:
    """Layers, values and features called as they are in ``after``, in an order in which no name is taken twice."""
    pairs = _paired(before, after)
    old_side, new_side = pairs.before, pairs.after
    wanted: dict[str, str] = {}
    for own, other in pairs.nodes:
        values = dict(zip(own.outputs, other.outputs, strict=False))
        # an output that an inner value becomes is renamed later, when a new layer has taken the output over
        wanted |= {old: new for old, new in values.items() if old not in old_side.outputs or new in new_side.outputs}
        if own.name not in values:  # else the edit renames both
            wanted[own.name] = other.name
    wanted |= dict(zip(old_side.inputs, new_side.inputs, strict=False))
    pending = {old: new for old, new in wanted.items() if old != new}
    taken = {*old_side.makers, *old_side.inputs, *(node.name for node in old_side.layers.values())}
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
    pairs = _paired(before, after)
    new_side = pairs.after
    inner: dict[str, str] = {}
    takeovers: list[Edit] = []
    makes_output, others = list[str](), list[str]()
    for name in pairs.added:
        (makes_output if new_side.layers[name].outputs[0] in new_side.outputs else others).append(name)
    for name in makes_output:
        # first, as an output that a new layer makes is another value from then on
        takeovers += _insert_before_output(pairs, name, inner)
    yield from (step for step in takeovers if step.verb == "insert")
    for name in others:
        node, read = new_side.layers[name], [inner.get(value, value) for value in new_side.read(name)]
        wiring = {"after": read[0] if read else "", "inputs": read, "output": node.outputs[0], "before": []}
        yield Edit("insert", {"operator": node.operator, "name": node.name} | wiring | layer_arguments(after, node))
    yield from (step for step in takeovers if step.verb == "connect")
    for name, partner in pairs.partner.items():
        own, other = pairs.before.layers[name], new_side.layers[partner]
        wanted = [inner.get(value, value) for value in new_side.read(partner)]
        if (own.operator, own.domain) == (other.operator, other.domain) and len(pairs.before.read(name)) == len(wanted):
            yield from _settings(pairs, name)
            yield from _connected(pairs, name, inner)
        else:
            arguments = {"layer": own.name, "operator": other.operator, "inputs": wanted}
            yield Edit("replace", arguments | layer_arguments(after, other))
    # what made an output and does no more, the outputs, and the layers that make them now: in this order names are free
    for own, other in pairs.nodes:
        # a layer that bears its output's name cannot be renamed without that: such a name stays a difference
        if own.name != other.name and set(other.outputs) & set(inner) and own.name not in pairs.before.outputs:
            yield Edit("rename", {"old": own.name, "new": other.name})
    for old, new in zip(pairs.before.outputs, new_side.outputs, strict=False):
        if old != new:
            yield Edit("rename", {"old": old, "new": new})
    for node in map(new_side.layers.__getitem__, makes_output):
        yield Edit("rename", {"old": _provisional(node), "new": node.name})


def _provisional(node: Node) -> str:
    """What a new layer is called while the name that it will have is another's."""
    return f"{node.name}__new"


def _insert_before_output(pairs: LayerPairs, name: str, inner: dict[str, str]) -> Iterator[Edit]:
    """A new layer that makes an output: it takes the output over, and what made it makes an inner value from then on.

    ``inner`` learns how the value that ``after`` has there is called then.
    """
    node = pairs.after.layers[name]
    place = pairs.after.outputs.index(node.outputs[0])
    if place >= len(pairs.before.outputs):
        return
    output = pairs.before.outputs[place]
    maker, index = pairs.before.makers.get(output, ("", 0))
    if maker in pairs.partner:
        made = pairs.after.layers[pairs.partner[maker]].outputs[index]
        inner[made] = f"{output}_before_{_provisional(node)}"  # as the verb insert calls it
    arguments = {"operator": node.operator, "name": _provisional(node), "after": output}
    yield Edit("insert", arguments | layer_arguments(pairs.after.model, node))
    # the verb made it read what made the output before
    read = pairs.after.read(name)
    if len(read) == 1 and read[0] not in inner:
        yield Edit("connect", {"source": read[0], "to": _provisional(node), "input": 0})


def _settings(pairs: LayerPairs, name: str) -> Iterator[Edit]:
    before, after, partner = pairs.before, pairs.after, pairs.partner[name]
    own, other = before.layers[name], after.layers[partner]
    weights, wanted = before.weights.get(name, {}), after.weights.get(partner, {})
    for setting in changed_settings(own, other, both_nan, but={*weights, *wanted}):
        yield set_edit(own.name, setting.name, setting.after)
    stored = dict(zip(weights, before.digests.get(name, ()), strict=True))
    digests = dict(zip(wanted, after.digests.get(partner, ()), strict=True))
    called = {key: weight_name(own, other, key) if before.model.is_onnx else key for key in wanted}
    for key, weight in wanted.items():
        if stored.get(called[key]) != digests[key]:
            yield set_edit(own.name, called[key], weight.read())
    for key in weights:
        if key not in called.values():
            yield set_edit(own.name, key, None)


def _connected(pairs: LayerPairs, name: str, inner: Mapping[str, str]) -> Iterator[Edit]:
    own = pairs.before.layers[name]
    for was, now in zip(pairs.before.read(name), pairs.after.read(pairs.partner[name]), strict=True):
        if pairs.translate(was) != now or now in inner:
            yield Edit("connect", {"source": inner.get(now, now), "to": own.name, "input": own.inputs.index(was)})


# features


def _features(before: Model, after: Model) -> Iterator[Edit]:
    """What the model declares: pictures, shapes, dtypes, labels, the version."""
    wanted = {f.name: f for f in (*after.signature.inputs, *after.signature.outputs)}
    inputs = {f.name for f in before.signature.inputs}
    for own in (*before.signature.inputs, *before.signature.outputs):
        if own.name in wanted:
            yield from _feature(own, wanted[own.name], own.name in inputs)
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
        arguments: dict[str, object] = {"feature": own.name, "shape": list(shape)}
        if other.ranges:
            arguments["ranges"] = [[r.low, -1 if r.high is None else r.high] for r in other.ranges]
        elif len(other.enumerated) > 1:
            arguments["enumerated"] = [list(s) for s in other.enumerated]
        yield Edit("reshape", arguments)
