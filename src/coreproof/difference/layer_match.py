"""Which layer of one version of a model is which layer of another: by content first, then by structure, then by name.

Names alone do not do: exporters number layers, so that one layer more gives every layer behind it another one's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from coreproof.conversion.operators import canonical_op, meaning
from coreproof.model.base import Model
from coreproof.model.formats.free_name import free_name
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import WeightRef, all_weights
from coreproof.pairing.align import canonical
from coreproof.pairing.rising import alike_in_order, longest_rising


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
        node, weights = self.layers[name], self.weights.get(name, {})
        # of a program a value that nothing makes is a setting, stored or not
        return tuple(
            value
            for value in node.inputs
            if value
            and value not in weights
            and value not in node.parameters
            and (value in self.makers or not self.model.graph.is_constant(value))
            and (value in self.makers or not self.model.is_program or value in self.inputs)
        )


def index_layers(model: Model, report: Callable[[int, int], None] | None = None) -> LayerIndex:
    """The layers of a model and digests of their weights, read one weight at a time."""
    layers = {name: node for name, node in flat_layers(model.graph) if not only_holds(node)}
    # weights of layers that only hold them are listed with those that read them
    weights = {name: held for name, held in all_weights(model).items() if name in layers}
    digests = {}
    for done, (name, of_layer) in enumerate(weights.items()):
        digests[name] = tuple(_digest(w.read()) for w in of_layer.values())
        if report is not None:
            report(done + 1, len(weights))
    makers: dict[str, tuple[str, int]] = {}
    for name, node in layers.items():
        for index, output in enumerate(node.outputs):
            # the first maker counts where nested blocks use a name again
            makers.setdefault(output, (name, index))
    return LayerIndex(model, layers, weights, digests, makers, model.graph.inputs, model.graph.outputs)


def only_holds(node: Node) -> bool:
    """Whether a node computes nothing and only holds a weight, which then counts as its readers' own."""
    return node.operator == "Constant" or node.operator.startswith("constexpr_")


def flat_layers(graph: Graph) -> Iterable[tuple[str, Node]]:
    """Every layer under the name that ``all_weights`` gives it."""
    taken: set[str] = set()
    for name, node in _walk(graph, ""):
        free = free_name(name, taken, first=2, sign="#")
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
    # "V": bfloat16 and other types that numpy knows by their bytes
    widened = array.astype(np.float32) if array.dtype.kind in "fV" else array
    plain = repr(widened.tolist()) if widened.dtype == object else np.ascontiguousarray(widened)
    data = plain.encode() if isinstance(plain, str) else plain.tobytes()
    return blake2b(repr(widened.shape).encode() + data, digest_size=12).hexdigest()


# pairing


class LayerPairs:
    """Which layer of one version is which of the other; what has no partner was removed or added.

    ``partner``: layer of ``before`` -> the same layer of ``after``. Layers are paired by what they compute from the inputs on
    (with all weights), by what is computed from them to the outputs, by the same two without the numbers of weights and
    attributes, by weights that no other layer has, by name with the same operation, and by their place between layers that are
    paired.
    """

    def __init__(self, before: LayerIndex, after: LayerIndex) -> None:
        self.before, self.after = before, after
        self.partner: dict[str, str] = {}
        self._taken: set[str] = set()
        # what is equal to the last number is paired before what has the same structure can take its place
        for exact in (True, False):
            for direction in (_upstream, _downstream):
                self._pair_by(direction(before, exact), direction(after, exact), exact)
        self._pair_by(_unique_weights(before), _unique_weights(after), True)
        self._pair_by_name()
        self._pair_by_place()
        self.partner = {name: self.partner[name] for name in before.layers if name in self.partner}

    @property
    def nodes(self) -> list[tuple[Node, Node]]:
        """The two nodes of each pair."""
        return [(self.before.layers[name], self.after.layers[partner]) for name, partner in self.partner.items()]

    @property
    def added(self) -> list[str]:
        """The layers of ``after`` without a partner."""
        return [name for name in self.after.layers if name not in self._taken]

    def translate(self, value: str) -> str | None:
        """The value of ``after`` that a value of ``before`` became; None where it has no counterpart."""
        before, after = self.before, self.after
        made = before.makers.get(value)
        if made is not None:
            partner = self.partner.get(made[0])
            outputs = after.layers[partner].outputs if partner is not None else ()
            return outputs[made[1]] if made[1] < len(outputs) else None
        if value in before.inputs:
            if value in after.inputs:
                return value
            place = before.inputs.index(value)
            return after.inputs[place] if place < len(after.inputs) else None
        return value

    def _pair(self, name: str, partner: str) -> None:
        self.partner[name] = partner
        self._taken.add(partner)

    def _pair_by(self, keys: Mapping[str, str], others: Mapping[str, str], exact: bool) -> None:
        """Pairs what bears the same key; where several do, the same names first, then in order."""
        groups: dict[str, tuple[list[str], list[str]]] = {}
        for name, key in keys.items():
            if name not in self.partner:
                groups.setdefault(key, ([], []))[0].append(name)
        for name, key in others.items():
            if name not in self._taken and key in groups:
                groups[key][1].append(name)
        for names, partners in groups.values():
            # repeated blocks bear one key: their names tell them apart where both models have them
            by_name = {canonical(name): name for name in partners}
            for name in list(names):
                partner = by_name.pop(canonical(name), None)
                if partner is not None:
                    self._pair(name, partner)
                    names.remove(name)
                    partners.remove(partner)
            # layers that are alike but for their numbers are told apart by their order only where none came or went
            if exact or len(names) == len(partners):
                for name, partner in zip(names, partners, strict=False):
                    self._pair(name, partner)

    def _pair_by_name(self) -> None:
        """The same name (or the same but for spelling and storage), with the same operation and as many dimensions of weights."""
        before, after = self.before, self.after
        free = {canonical(name): name for name in self.added}
        for name, node in before.layers.items():
            partner = free.get(canonical(name))
            if name in self.partner or partner is None or partner in self._taken:
                continue
            same_operator = canonical_op(node.operator) == canonical_op(after.layers[partner].operator)
            if same_operator and (before.weights.get(name) or self._alike(name, partner)):
                self._pair(name, partner)

    def _alike(self, name: str, partner: str) -> bool:
        """Whether layers without weights have the same attributes, or read the same: a name that was counted says nothing."""
        if dict(self.before.layers[name].attributes) == dict(self.after.layers[partner].attributes):
            return True
        return self._reads(name) == list(self.after.read(partner))

    def _reads(self, name: str) -> list[str | None]:
        """What a layer of ``before`` reads, as ``after`` calls it."""
        return [self.translate(value) for value in self.before.read(name)]

    def _pair_by_place(self) -> None:
        """Between two layers that are paired: the same operations in the same order, then one layer in the place of another."""
        order = {name: i for i, name in enumerate(self.after.layers)}
        rest = self.added
        # pairs that cross each other bound no stretch
        paired = [(name, order[self.partner[name]]) for name in self.before.layers if name in self.partner]
        anchors = dict(longest_rising(paired))
        start, run = -1, list[str]()
        # "" ends the last stretch
        for name in [*self.before.layers, ""]:
            if name and name not in anchors:
                if name not in self.partner:
                    run.append(name)
                continue
            end = anchors[name] if name else len(order)
            if run:
                self._pair_run(run, [n for n in rest if start < order[n] < end])
            start, run = end, []

    def _pair_run(self, run: list[str], others: list[str]) -> None:
        keys = [_layer_key(self.before, name, False) for name in run]
        for here, there in alike_in_order(keys, [_layer_key(self.after, name, False) for name in others]):
            self._pair(run[here], others[there])
        for name in run:
            free = (n for n in others if n not in self._taken)
            if name not in self.partner and (partner := next((n for n in free if self._same_place(name, n)), None)):
                self._pair(name, partner)

    def _same_place(self, name: str, partner: str) -> bool:
        """Whether both read from partners, or both bear one name, and hand on to the same place."""
        before, after = self.before, self.after
        if canonical(name) == canonical(partner) and len(before.read(name)) == len(after.read(partner)):
            return True
        own, other = set(before.layers[name].outputs), set(after.layers[partner].outputs)
        mapped = self._reads(name)
        # what reads nothing stands at no place that could be told
        if not mapped or mapped != list(after.read(partner)) or len(own) != len(other):
            return False
        readers = {self.partner.get(n) for n, node in before.layers.items() if not own.isdisjoint(node.inputs)}
        return readers == {n for n, node in after.layers.items() if not other.isdisjoint(node.inputs)}


def _layer_key(side: LayerIndex, name: str, exact: bool) -> str:
    """What a layer is by itself: with every number, or only its operation and the shapes of its weights."""
    node = side.layers[name]
    if exact:
        # a Constant's value is its weight, which the digest stands for already
        settings = sorted(
            (k, repr(v)) for k, v in node.attributes.items() if k != "value" or not side.digests.get(name)
        )
        nested = [inner.operator for block in node.blocks for _, inner in _walk(block, "")]
        return repr((node.operator, node.domain, settings, side.digests.get(name, ()), nested))
    shapes = [w.shape for w in side.weights.get(name, {}).values() if w.shape]
    return repr((canonical_op(node.operator), sorted(shapes)))


def _transparent(node: Node, exact: bool) -> bool:
    """Whether it passes a value on; structure is compared as if it were not there."""
    return not exact and meaning(node.operator).get("hands_on") == "whole"


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
        found[name] = _hashed(_layer_key(side, name, exact), read)
        of_value.update({output: f"{found[name]}.{i}" for i, output in enumerate(node.outputs)})
    return found


def _downstream(side: LayerIndex, exact: bool) -> dict[str, str]:
    """layer -> a digest of it and of all that is computed from it."""
    found: dict[str, str] = {}
    of_value: dict[str, list[str]] = {name: [f"output {i}"] for i, name in enumerate(side.outputs)}
    # readers come behind what they read, so that backwards all of them are known
    for name in reversed(list(side.layers)):
        node = side.layers[name]
        # sorted, because the order in which readers are stored says nothing
        used = [sorted(of_value.get(output, [])) for output in node.outputs]
        read = side.read(name)
        if _transparent(node, exact) and len(read) == 1:
            of_value.setdefault(read[0], []).extend(used[0] if used else [])
            continue
        found[name] = _hashed(_layer_key(side, name, exact), used)
        for place, value in enumerate(read):
            # with the place among the inputs: a - b is not b - a
            of_value.setdefault(value, []).append(f"{place}.{found[name]}")
    return found


def _unique_weights(side: LayerIndex) -> dict[str, str]:
    """The layers whose weights no other layer of the model has."""
    keys = {
        name: repr((side.layers[name].operator, digests))
        for name, digests in side.digests.items()
        # a few numbers, ones or zeros above all, are another layer's by chance
        if name in side.layers and sum(w.size for w in side.weights[name].values()) >= 16
    }
    count = Counter(keys.values())
    return {name: key for name, key in keys.items() if count[key] == 1}
