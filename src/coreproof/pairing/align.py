"""Which value of one model is which value of the other: by provenance, then by name, then by structure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from coreproof.conversion.operators import canonical_op
from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.pairing.rising import alike_in_order, longest_rising

How = Literal["output", "provenance", "name", "value", "structure"]

_STORAGE_SUFFIX = re.compile(r"(_cast|_to)?_?(fp16|fp32|float16|float32)(_\d+)?$")

_COUNTED = re.compile(r"getitem(_\d+)?$")


@dataclass(frozen=True)
class Pair:
    """A value of the reference and the value of the candidate that should equal it, and how that is known.

    ``axes``: the order of the reference's axes (lengths of 1 left out) in the candidate, where that is another one.
    """

    reference: str
    candidate: str
    how: How
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ValueIndex:
    """One model as alignment sees it: its graph, the values that can be brought out, and where they came from.

    ``made_from``: the outlines of the graphs whose values ``origin`` names; empty where that is not known.
    """

    graph: Graph
    tappable: Collection[str]
    sizes: Mapping[str, int]
    origin: Mapping[str, str]
    made_from: frozenset[str] = frozenset()

    def with_sizes(self, sizes: Mapping[str, int]) -> ValueIndex:
        """The same, with the numbers of elements that were seen at work."""
        return replace(self, sizes={**self.sizes, **sizes})

    @cached_property
    def inner_values(self) -> tuple[str, ...]:
        """The inner values that can be brought out, in topological order."""
        return tuple(
            output
            for node in self.graph.nodes
            for output in node.outputs
            if output
            and output in self.tappable
            and not self.graph.is_constant(output)
            and not self._is_text(node, output)
        )

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Those that the model itself names: what a reader called after its operation is another value elsewhere."""
        values = self.graph.values
        return tuple(name for name in self.inner_values if name not in values or not values[name].unnamed)

    def _is_text(self, node: Node, output: str) -> bool:
        """Whether it holds the names of classes, which no number is compared with."""
        value = self.graph.values.get(output)
        if value is not None and value.dtype is not None:
            return value.dtype == "str"
        return output == node.outputs[0] and bool(node.attributes.get("classlabels_strings"))


def value_index(
    model: Model, tappable: Collection[str], shapes: Mapping[str, tuple[int, ...]] | None = None
) -> ValueIndex:
    """``shapes``: what the engine knows beyond what the file declares."""
    sizes = {name: math.prod(shape) for name, shape in (shapes or {}).items()}
    for name, value in model.graph.values.items():
        if value.shape is not None and all(isinstance(d, int) for d in value.shape):
            sizes[name] = math.prod(d for d in value.shape if isinstance(d, int))
    return ValueIndex(model.graph, tappable, sizes, model.provenance, model.made_from)


def align(reference: ValueIndex, candidate: ValueIndex, values: Iterable[Pair] = ()) -> list[Pair]:
    """Pairs of inner values, in the candidate's order; each value is in one pair at most.

    What a fusion swallowed has no partner and is left out. Values are paired

    1. by provenance, where a converter noted which value equals which (in either direction, or both from a third);
    2. by the same name, or the same but for spelling ("layer1.0/conv" and "layer1_0_conv_cast_fp16");
    3. by value, where the caller found them so (``values``, see ``coreproof.verification.match_by_value``);
    4. by structure, between pairs already found: the same operations in the same order with as many elements.

    A pair by name or structure needs as many elements on both sides, where both numbers are known.
    """
    # counters that mean another value in each model are no names
    meaningless = _counted_apart(reference, candidate)
    by_origin = {
        own: (partner, how) for own, partner, how in _by_origin(reference, candidate) if partner not in meaningless
    }
    pairs = {own: partner for own, (partner, _) in by_origin.items()}
    taken = set(pairs.values())
    for own, partner in _by_name(reference, candidate):
        # what a converter noted goes before what is only called the same
        if own not in pairs and partner not in taken and partner not in meaningless:
            pairs[own] = partner
            taken.add(partner)
    known: dict[str, How] = dict.fromkeys(pairs, "name")
    known |= {own: how for own, (_, how) in by_origin.items()}
    axes: dict[str, tuple[int, ...] | None] = {}
    for pair in values:
        if pair.candidate not in pairs and pair.reference not in taken:
            pairs[pair.candidate], axes[pair.candidate] = pair.reference, pair.axes
            known[pair.candidate] = "value"
            taken.add(pair.reference)
    for own, partner in _by_structure(reference, candidate, pairs):
        pairs[own] = partner
        known[own] = "structure"
    order = {output: i for i, node in enumerate(candidate.graph.nodes) for output in node.outputs}
    return [
        Pair(partner, own, known[own], axes.get(own))
        for own, partner in sorted(pairs.items(), key=lambda p: order.get(p[0], len(order)))
    ]


def _fits(reference: ValueIndex, candidate: ValueIndex, partner: str, own: str) -> bool:
    wanted, found = reference.sizes.get(partner), candidate.sizes.get(own)
    return wanted is None or found is None or wanted == found


def _by_origin(reference: ValueIndex, candidate: ValueIndex) -> Iterable[tuple[str, str, How]]:
    """(candidate value, reference value, how that is known) that converters noted.

    What only the reference's converter noted is a name: the candidate may be what the reference was made from, or be made by
    another tool that counts its values alike ("transpose_7"). And what was noted of one graph says nothing of another that
    calls other values the same.
    """
    values = reference.inner_values
    own, others = candidate.made_from, reference.made_from
    known = set(values) if not own or reference.graph.outline in own else set[str]()
    akin = not own or not others or not own.isdisjoint(others)
    of_reference = {reference.origin[name]: name for name in values if name in reference.origin}
    seen, named = set[str](), frozenset(candidate.named)
    for name in candidate.inner_values:
        origin = candidate.origin.get(name)
        partner: str | None = None
        how: How = "provenance"
        if origin is not None and origin in known:
            partner = origin
        elif origin is not None and akin and origin in of_reference:
            partner = of_reference[origin]
        elif name in of_reference and name in named and _fits(reference, candidate, of_reference[name], name):
            partner, how = of_reference[name], "name"
        if partner is not None and partner not in seen:
            seen.add(partner)
            yield name, partner, how


def _counted_apart(reference: ValueIndex, candidate: ValueIndex) -> frozenset[str]:
    """The reference's counter names ("getitem_6"), where the two models were traced and numbered apart.

    PyTorch numbers the results of operators that have several by a counter that depends on how far a program was
    decomposed: the same name is then another value. It shows in that each side has numbers which the other has not.
    """
    numbered = {n for n in reference.inner_values if _COUNTED.match(n)}
    own = {o for n in candidate.inner_values if _COUNTED.match(o := candidate.origin.get(n, canonical(n)))}
    return frozenset(numbered) if numbered - own and own - numbered else frozenset()


def canonical(name: str) -> str:
    """A name without the marks of storage ("_cast_fp16") and without the spelling that one format allows.

    Core ML's names begin with no digit: "474_quantized" becomes "var_474_quantized".
    """
    bare = name
    # coremltools marks a cast of a cast again: "x_cast_fp16_to_fp32"; a value called "fp16" keeps its name
    while (shorter := _STORAGE_SUFFIX.sub("", bare)) != bare and shorter:
        bare = shorter
    return re.sub(r"^var_(?=\d)", "", re.sub(r"[^A-Za-z0-9_]", "_", bare))


def _by_name(reference: ValueIndex, candidate: ValueIndex) -> Iterable[tuple[str, str]]:
    partners = reference.named
    own = candidate.named
    exact = set(partners)
    for name in own:
        if name in exact and _fits(reference, candidate, name, name):
            yield name, name
    # what two formats spell differently; not where a spelling stands for several values
    spelled = _unique(partners)
    for key, name in _unique(own).items():
        if key in spelled and _fits(reference, candidate, spelled[key], name):
            yield name, spelled[key]


def _unique(names: Iterable[str]) -> dict[str, str]:
    """canonical name -> name, for those that only one value bears."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(canonical(name), []).append(name)
    return {key: group[0] for key, group in groups.items() if len(group) == 1}


# structure


def _by_structure(reference: ValueIndex, candidate: ValueIndex, found: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Aligns the operations that have no partner yet, segment by segment between pairs that are known.

    Only operations of which the number of elements is known on both sides are paired this way.
    """
    # fused groups as one: a folded bias is no operation of its own on the other side
    reference_tails, candidate_tails = _tails(reference), _tails(candidate)
    places = {value: i for i, (value, _) in enumerate(reference_tails)}
    anchors = [
        (i, places[found[value]])
        for i, (value, _) in enumerate(candidate_tails)
        if value in found and found[value] in places
    ]
    candidate_start = reference_start = 0
    partnered = set(found.values())
    # segments between crossing anchors would overlap
    for candidate_end, reference_end in [*longest_rising(anchors), (len(candidate_tails), len(reference_tails))]:
        unpaired_reference = [t for t in reference_tails[reference_start:reference_end] if t[0] not in partnered]
        unpaired_candidate = [m for m in candidate_tails[candidate_start:candidate_end] if m[0] not in found]
        for there, here in alike_in_order([t[1] for t in unpaired_reference], [m[1] for m in unpaired_candidate]):
            yield unpaired_candidate[here][0], unpaired_reference[there][0]
        candidate_start, reference_start = candidate_end + 1, reference_end + 1


def _tails(of: ValueIndex) -> list[tuple[str, tuple[str, int]]]:
    """(value, (operation, elements)) of each group that fusions make one of: the value at its end.

    Convolution or matrix product, then bias, then batch normalisation count as one operation, because a
    converter may fold the later parts into the weights of the first.
    """
    tails = []
    graph, swallowed = of.graph, set[str]()
    for node in graph.nodes:
        if not node.outputs or node.outputs[0] in swallowed:
            continue
        last, word = node, canonical_op(node.operator)
        if word in ("conv", "linear"):  # into whose weights converters fold what follows
            while (following := _folds_into(graph, last)) is not None:
                swallowed.update(following.outputs)
                last = following
        value = last.outputs[0]
        if value in of.tappable and value in of.sizes and not graph.is_constant(value):
            tails.append((value, (word, of.sizes[value])))
    return tails


def _folds_into(graph: Graph, node: Node) -> Node | None:
    """The single consumer of ``node`` when it is a bias or a batch normalisation, or unpacks one."""
    consumers = graph.consumers(node.outputs[0])
    # a value that somebody else reads cannot be folded away
    if len(consumers) != 1 or node.outputs[0] in graph.outputs:
        return None
    following = consumers[0]
    word = canonical_op(following.operator)
    if word in ("norm", "getitem", "builtinfunctiongetitem"):
        return following
    others = [n for n in following.inputs if n != node.outputs[0]]
    # a sum with another branch is no bias
    constant = all(graph.is_constant(n) or n in following.parameters for n in others)
    return following if word in ("add", "bias") and others and constant else None
