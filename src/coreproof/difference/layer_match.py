"""Which layer of one version of a model is which layer of another: by content first, then by structure, then by name.

Names alone do not do: exporters number layers, so that one layer more gives every layer behind it another one's name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import blake2b

import numpy as np

from coreproof.conversion.operators import canonical_op
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import WeightRef, all_weights
from coreproof.pairing.align import canonical

_TRANSPARENT = {"cast", "identity", "copy", "tocopy", "dropout"}
"""Operators that pass a value on; structure is compared as if they were not there."""


@dataclass(frozen=True)
class LayerIndex:
    """One model taken apart: every layer, nested ones too, by a name that only one bears."""

    model: Model
    layers: Mapping[str, Node]
    weights: Mapping[str, Mapping[str, WeightRef]]
    digests: Mapping[str, tuple[str, ...]]
    """layer -> a digest of each of its weights' numbers; storage (float16, quantised) does not enter it."""
    makers: Mapping[str, tuple[str, int]]
    """value -> the layer that makes it, and at which of its outputs"""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def read(self, name: str) -> tuple[str, ...]:
        """The values that a layer reads, weights and settings apart."""
        node = self.layers[name]
        graph = self.model.graph
        weights = self.weights.get(name, {})
        return tuple(
            value
            for value in node.inputs
            if value
            and value not in weights
            and value not in node.parameters
            and not ((known := graph.values.get(value)) is not None and known.constant and value not in self.makers)
            and (value in self.makers or not self.model.is_program or value in self.inputs)
        )


def index_layers(model: Model, report: Callable[[int, int], None] | None = None) -> LayerIndex:
    """The layers of a model and digests of their weights, read one weight at a time."""
    layers = {name: node for name, node in flat_layers(model.graph) if not only_holds(node)}
    weights = {name: held for name, held in all_weights(model).items() if name in layers}
    digests = {}
    for done, (name, of_layer) in enumerate(weights.items()):
        digests[name] = tuple(_digest(w.read()) for w in of_layer.values())
        if report is not None:
            report(done + 1, len(weights))
    makers: dict[str, tuple[str, int]] = {}
    for name, node in layers.items():
        for index, output in enumerate(node.outputs):
            makers.setdefault(output, (name, index))
    return LayerIndex(model, layers, weights, digests, makers, model.graph.inputs, model.graph.outputs)


def only_holds(node: Node) -> bool:
    """Whether a node computes nothing and only holds a weight, which then counts as its readers' own."""
    return node.operator == "Constant" or node.operator.startswith("constexpr_")


def flat_layers(graph: Graph) -> Iterable[tuple[str, Node]]:
    """Every layer under the name that ``all_weights`` gives it."""
    taken: set[str] = set()
    for name, node in _walk(graph, ""):
        free, count = name, 1
        while free in taken:
            count += 1
            free = f"{name}#{count}"
        taken.add(free)
        yield free, node


def _walk(graph: Graph, prefix: str) -> Iterable[tuple[str, Node]]:
    is_pipeline = graph.name.startswith("pipeline")
    for node in graph.nodes:
        yield prefix + node.name, node
        for block in node.blocks:
            yield from _walk(block, f"{prefix}{node.name}/" if is_pipeline else prefix)


def _digest(array: np.ndarray) -> str:
    """The same for the same numbers in the same shape, whatever width they are stored in."""
    widened = array.astype(np.float32) if array.dtype.kind in "fV" else array
    plain = repr(widened.tolist()) if widened.dtype == object else np.ascontiguousarray(widened)
    data = plain.encode() if isinstance(plain, str) else plain.tobytes()
    return blake2b(repr(widened.shape).encode() + data, digest_size=12).hexdigest()


# pairing


def pair_layers(before: LayerIndex, after: LayerIndex) -> dict[str, str]:
    """layer of ``before`` -> the same layer of ``after``; what has no partner was removed or added.

    Layers are paired by what they compute from the inputs on (with all weights), by what is computed from them to the
    outputs, by the same two without the numbers of weights and attributes, by weights that no other layer has, by name
    with the same operation, and by their place between layers that are paired.
    """
    pairs: dict[str, str] = {}
    for exact in (True, False):
        for direction in (_upstream, _downstream):
            _pair_by(pairs, before, after, direction(before, exact), direction(after, exact), exact)
    _pair_by(pairs, before, after, _unique_weights(before), _unique_weights(after), True)
    _pair_by_name(pairs, before, after)
    _pair_by_place(pairs, before, after)
    return {name: pairs[name] for name in before.layers if name in pairs}


def _pair_by(
    pairs: dict[str, str],
    before: LayerIndex,
    after: LayerIndex,
    left: Mapping[str, str],
    right: Mapping[str, str],
    exact: bool,
) -> None:
    """Pairs what bears the same key; where several do, the same names first, then in order."""
    taken = set(pairs.values())
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for name, key in left.items():
        if name not in pairs:
            groups.setdefault(key, ([], []))[0].append(name)
    for name, key in right.items():
        if name not in taken and key in groups:
            groups[key][1].append(name)
    for mine, theirs in groups.values():
        by_name = {canonical(name): name for name in theirs}
        for name in list(mine):
            partner = by_name.pop(canonical(name), None)
            if partner is not None:
                pairs[name] = partner
                mine.remove(name)
                theirs.remove(partner)
        if exact or len(mine) == len(theirs):
            pairs.update(zip(mine, theirs, strict=False))


def _own(side: LayerIndex, name: str, exact: bool) -> str:
    """What a layer is by itself: with every number, or only its operation and the shapes of its weights."""
    node = side.layers[name]
    if exact:
        settings = sorted(
            (k, repr(v)) for k, v in node.attributes.items() if k != "value" or not side.digests.get(name)
        )
        nested = [inner.operator for block in node.blocks for _, inner in _walk(block, "")]
        return repr((node.operator, node.domain, settings, side.digests.get(name, ()), nested))
    shapes = [w.shape for w in side.weights.get(name, {}).values() if w.shape]
    return repr((canonical_op(node.operator), sorted(shapes)))


def _transparent(node: Node, exact: bool) -> bool:
    return not exact and canonical_op(node.operator) in _TRANSPARENT


def _hashed(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def _upstream(side: LayerIndex, exact: bool) -> dict[str, str]:
    """layer -> a digest of all that is computed before it and in it."""
    found: dict[str, str] = {}
    of_value = {name: f"input {i}" for i, name in enumerate(side.inputs)}
    for name, node in side.layers.items():
        read = [of_value.get(value, "constant") for value in side.read(name)]
        if _transparent(node, exact) and len(read) == 1:
            of_value.update(dict.fromkeys(node.outputs, read[0]))
            continue
        found[name] = _hashed(_own(side, name, exact), read)
        of_value.update({output: f"{found[name]}.{i}" for i, output in enumerate(node.outputs)})
    return found


def _downstream(side: LayerIndex, exact: bool) -> dict[str, str]:
    """layer -> a digest of it and of all that is computed from it."""
    found: dict[str, str] = {}
    of_value: dict[str, list[str]] = {name: [f"output {i}"] for i, name in enumerate(side.outputs)}
    for name in reversed(list(side.layers)):
        node = side.layers[name]
        used = [sorted(of_value.get(output, [])) for output in node.outputs]
        read = side.read(name)
        if _transparent(node, exact) and len(read) == 1:
            of_value.setdefault(read[0], []).extend(used[0] if used else [])
            continue
        found[name] = _hashed(_own(side, name, exact), used)
        for place, value in enumerate(read):
            of_value.setdefault(value, []).append(f"{place}.{found[name]}")
    return found


def _unique_weights(side: LayerIndex) -> dict[str, str]:
    """The layers whose weights no other layer of the model has."""
    keys = {
        name: repr((side.layers[name].operator, digests))
        for name, digests in side.digests.items()
        if name in side.layers and sum(w.size for w in side.weights[name].values()) >= 16
    }
    count: dict[str, int] = {}
    for key in keys.values():
        count[key] = count.get(key, 0) + 1
    return {name: key for name, key in keys.items() if count[key] == 1}


def _pair_by_name(pairs: dict[str, str], before: LayerIndex, after: LayerIndex) -> None:
    """The same name (or the same but for spelling and storage), with the same operation and as many dimensions of weights."""
    taken = set(pairs.values())
    free = {canonical(name): name for name in after.layers if name not in taken}
    for name in before.layers:
        partner = free.get(canonical(name))
        if name in pairs or partner is None or partner in pairs.values():
            continue
        if canonical_op(before.layers[name].operator) != canonical_op(after.layers[partner].operator):
            continue
        if before.weights.get(name) or _alike(pairs, before, after, name, partner):
            pairs[name] = partner


def _alike(pairs: Mapping[str, str], before: LayerIndex, after: LayerIndex, name: str, partner: str) -> bool:
    """Whether layers without weights have the same attributes, or read the same values: a name that was counted says nothing."""
    if dict(before.layers[name].attributes) == dict(after.layers[partner].attributes):
        return True
    return [translate(pairs, before, after, v) for v in before.read(name)] == list(after.read(partner))


def _pair_by_place(pairs: dict[str, str], before: LayerIndex, after: LayerIndex) -> None:
    """Between two layers that are paired: the same operations in the same order, then one layer in the place of another."""
    order = {name: i for i, name in enumerate(after.layers)}
    taken = set(pairs.values())
    rest = [name for name in after.layers if name not in taken]
    anchors = _rising([(name, order[pairs[name]]) for name in before.layers if name in pairs])
    start, run = -1, list[str]()
    for name in [*before.layers, ""]:
        if name and name not in anchors:
            if name not in pairs:
                run.append(name)
            continue
        end = anchors[name] if name else len(order)
        if run:
            _pair_run(pairs, before, after, run, [n for n in rest if start < order[n] < end])
        start, run = end, []


def _rising(places: list[tuple[str, int]]) -> dict[str, int]:
    """The longest part of the pairs that keeps its order in both models."""
    ends: list[int] = []
    at: list[int] = []
    back: list[int] = []
    for index, (_, place) in enumerate(places):
        length = bisect_left(ends, place)
        back.append(at[length - 1] if length else -1)
        if length == len(ends):
            ends.append(place)
            at.append(index)
        else:
            ends[length], at[length] = place, index
    kept: list[tuple[str, int]] = []
    index = at[-1] if at else -1
    while index >= 0:
        kept.append(places[index])
        index = back[index]
    return dict(reversed(kept))


def _pair_run(pairs: dict[str, str], before: LayerIndex, after: LayerIndex, mine: list[str], theirs: list[str]) -> None:
    left = [_own(before, n, False) for n in mine]
    right = [_own(after, n, False) for n in theirs]
    for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        for k in range(block.size):
            pairs[mine[block.a + k]] = theirs[block.b + k]
    taken = set(pairs.values())
    for name in mine:
        if name in pairs:
            continue
        for partner in theirs:
            if partner not in taken and _same_place(pairs, before, after, name, partner):
                pairs[name] = partner
                taken.add(partner)
                break


def _same_place(pairs: Mapping[str, str], before: LayerIndex, after: LayerIndex, name: str, partner: str) -> bool:
    """Whether both read from partners, or both bear one name, and hand on to the same place."""
    left, right = before.layers[name], after.layers[partner]
    if canonical(name) == canonical(partner) and len(before.read(name)) == len(after.read(partner)):
        return True
    mapped = [translate(pairs, before, after, v) for v in before.read(name)]
    if not mapped or mapped != list(after.read(partner)) or len(left.outputs) != len(right.outputs):
        return False
    readers = {pairs.get(n) for n, node in before.layers.items() if set(node.inputs) & set(left.outputs)}
    others = {n for n, node in after.layers.items() if set(node.inputs) & set(right.outputs)}
    return readers == others


def translate(pairs: Mapping[str, str], before: LayerIndex, after: LayerIndex, value: str) -> str | None:
    """The value of ``after`` that a value of ``before`` became; None where it has no counterpart."""
    made = before.makers.get(value)
    if made is not None:
        partner = pairs.get(made[0])
        outputs = after.layers[partner].outputs if partner is not None else ()
        return outputs[made[1]] if made[1] < len(outputs) else None
    if value in before.inputs:
        if value in after.inputs:
            return value
        place = before.inputs.index(value)
        return after.inputs[place] if place < len(after.inputs) else None
    return value
