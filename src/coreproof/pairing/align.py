"""Which value of one model is which value of the other: by provenance, then by name, then by structure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Literal

from coreproof.model.base import Model
from coreproof.model.graph import Graph, Node
from coreproof.pairing.operators import stem

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
class Side:
    """One model as alignment sees it: its graph, the values that can be brought out, and where they came from."""

    graph: Graph
    tappable: Collection[str]
    sizes: Mapping[str, int]
    origin: Mapping[str, str]

    @cached_property
    def made(self) -> tuple[str, ...]:
        """The inner values that can be brought out, in topological order."""
        return tuple(
            output
            for node in self.graph.nodes
            for output in node.outputs
            if output and output in self.tappable and not _is_constant(self.graph, output)
        )


def side(model: Model, tappable: Collection[str], shapes: Mapping[str, tuple[int, ...]] | None = None) -> Side:
    """``shapes``: what the engine knows beyond what the file declares."""
    sizes = {name: _elements(shape) for name, shape in (shapes or {}).items()}
    for name, value in model.graph.values.items():
        if value.shape is not None and all(isinstance(d, int) for d in value.shape):
            sizes[name] = _elements(tuple(d for d in value.shape if isinstance(d, int)))
    return Side(model.graph, tappable, sizes, getattr(model, "provenance", None) or {})


def align(reference: Side, candidate: Side, values: Iterable[Pair] = ()) -> list[Pair]:
    """Pairs of inner values, in the candidate's order; each value is in one pair at most.

    What a fusion swallowed has no partner and is left out. Values are paired

    1. by provenance, where a converter noted which value equals which (in either direction, or both from a third);
    2. by the same name, or the same but for spelling ("layer1.0/conv" and "layer1_0_conv_cast_fp16");
    3. by value, where the caller found them so (``values``, see ``coreproof.verification.match_by_value``);
    4. by structure, between pairs already found: the same operations in the same order with as many elements.

    A pair by name or structure needs as many elements on both sides, where both numbers are known.
    """
    meaningless = _counted_apart(reference, candidate)
    by_origin = {m: (t, how) for m, t, how in _by_origin(reference, candidate) if t not in meaningless}
    pairs = {mine: theirs for mine, (theirs, _) in by_origin.items()}
    taken = set(pairs.values())
    for mine, theirs in _by_name(reference, candidate):
        if mine not in pairs and theirs not in taken and theirs not in meaningless:
            pairs[mine] = theirs
            taken.add(theirs)
    known: dict[str, How] = dict.fromkeys(pairs, "name")
    known |= {mine: how for mine, (_, how) in by_origin.items()}
    axes: dict[str, tuple[int, ...] | None] = {}
    for pair in values:
        if pair.candidate not in pairs and pair.reference not in taken:
            pairs[pair.candidate], axes[pair.candidate] = pair.reference, pair.axes
            known[pair.candidate] = "value"
            taken.add(pair.reference)
    for mine, theirs in _by_structure(reference, candidate, pairs):
        pairs[mine] = theirs
        known[mine] = "structure"
    order = _order(candidate)
    return [
        Pair(theirs, mine, known[mine], axes.get(mine))
        for mine, theirs in sorted(pairs.items(), key=lambda p: order.get(p[0], len(order)))
    ]


def _order(of: Side) -> dict[str, int]:
    return {output: i for i, node in enumerate(of.graph.nodes) for output in node.outputs}


def made_values(of: Side) -> list[str]:
    """The inner values that can be brought out, in topological order."""
    return list(of.made)


def _is_constant(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    return value is not None and value.constant


def _fits(reference: Side, candidate: Side, theirs: str, mine: str) -> bool:
    left, right = reference.sizes.get(theirs), candidate.sizes.get(mine)
    return left is None or right is None or left == right


def _by_origin(reference: Side, candidate: Side) -> Iterable[tuple[str, str, How]]:
    """(candidate value, reference value, how that is known) that converters noted.

    What only the reference's converter noted is a name: the candidate may be what the reference was made from, or be made by
    another tool that counts its values alike ("transpose_7").
    """
    values = made_values(reference)
    there = set(values)
    of_reference = {reference.origin[name]: name for name in values if name in reference.origin}
    seen: set[str] = set()
    for name in made_values(candidate):
        origin = candidate.origin.get(name)
        partner: str | None = None
        how: How = "provenance"
        if origin is not None and origin in there:
            partner = origin
        elif origin is not None and origin in of_reference:
            partner = of_reference[origin]
        elif name in of_reference and _fits(reference, candidate, of_reference[name], name):
            partner, how = of_reference[name], "name"
        if partner is not None and partner not in seen:
            seen.add(partner)
            yield name, partner, how


def _counted_apart(reference: Side, candidate: Side) -> frozenset[str]:
    """The reference's counter names ("getitem_6"), where the two models were traced and numbered apart.

    PyTorch numbers the results of operators that have several by a counter that depends on how far a program was
    decomposed: the same name is then another value. It shows in that each side has numbers which the other has not.
    """
    theirs = {n for n in made_values(reference) if _COUNTED.match(n)}
    mine = {o for n in made_values(candidate) if _COUNTED.match(o := candidate.origin.get(n, canonical(n)))}
    return frozenset(theirs) if theirs - mine and mine - theirs else frozenset()


def canonical(name: str) -> str:
    """A name without the marks of storage ("_cast_fp16") and without the spelling that one format allows.

    Core ML's names begin with no digit: "474_quantized" becomes "var_474_quantized".
    """
    bare = name
    while (shorter := _STORAGE_SUFFIX.sub("", bare)) != bare and shorter:
        bare = shorter
    return re.sub(r"^var_(?=\d)", "", re.sub(r"[^A-Za-z0-9_]", "_", bare))


def _by_name(reference: Side, candidate: Side) -> Iterable[tuple[str, str]]:
    theirs = made_values(reference)
    mine = made_values(candidate)
    exact = set(theirs)
    for name in mine:
        if name in exact and _fits(reference, candidate, name, name):
            yield name, name
    spelled = _unique(theirs)
    for key, name in _unique(mine).items():
        if key in spelled and _fits(reference, candidate, spelled[key], name):
            yield name, spelled[key]


def _unique(names: Iterable[str]) -> dict[str, str]:
    """canonical name -> name, for those that only one value bears."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(canonical(name), []).append(name)
    return {key: group[0] for key, group in groups.items() if len(group) == 1}


# structure


def _by_structure(reference: Side, candidate: Side, found: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Aligns the operations that have no partner yet, segment by segment between pairs that are known.

    Only operations of which the number of elements is known on both sides are paired this way.
    """
    theirs, mine = _tails(reference), _tails(candidate)
    place_there = {value: i for i, (value, _) in enumerate(theirs)}
    anchors = [
        (i, place_there[found[value]])
        for i, (value, _) in enumerate(mine)
        if value in found and found[value] in place_there
    ]
    start_mine = start_there = 0
    partnered = set(found.values())
    for end_mine, end_there in [*_increasing(anchors), (len(mine), len(theirs))]:
        left = [t for t in theirs[start_there:end_there] if t[0] not in partnered]
        right = [m for m in mine[start_mine:end_mine] if m[0] not in found]
        matcher = SequenceMatcher(None, [t[1] for t in left], [m[1] for m in right], autojunk=False)
        for block in matcher.get_matching_blocks():
            for k in range(block.size):
                yield right[block.b + k][0], left[block.a + k][0]
        start_mine, start_there = end_mine + 1, end_there + 1


def _increasing(anchors: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The anchors that do not cross an earlier one."""
    kept: list[tuple[int, int]] = []
    for mine, there in anchors:
        if not kept or there > kept[-1][1]:
            kept.append((mine, there))
    return kept


def _tails(of: Side) -> list[tuple[str, tuple[str, int]]]:
    """(value, (operation, elements)) of each group that fusions make one of: the value at its end.

    Convolution or matrix product, then bias, then batch normalisation count as one operation, because a
    converter may fold the later parts into the weights of the first.
    """
    tails = []
    graph, swallowed = of.graph, set[str]()
    for node in graph.nodes:
        if not node.outputs or node.outputs[0] in swallowed:
            continue
        last, word = node, stem(node.operator)
        if word in ("conv", "linear"):
            while (following := _folds_into(graph, last)) is not None:
                swallowed.update(following.outputs)
                last = following
        value = last.outputs[0]
        if value in of.tappable and value in of.sizes and not _is_constant(graph, value):
            tails.append((value, (word, of.sizes[value])))
    return tails


def _folds_into(graph: Graph, node: Node) -> Node | None:
    """The single consumer of ``node`` when it is a bias or a batch normalisation, or unpacks one."""
    consumers = graph.consumers(node.outputs[0])
    if len(consumers) != 1 or node.outputs[0] in graph.outputs:
        return None
    following = consumers[0]
    word = stem(following.operator)
    if word in ("norm", "getitem", "builtinfunctiongetitem"):
        return following
    others = [n for n in following.inputs if n != node.outputs[0]]
    constant = all(_is_constant(graph, n) or n in following.parameters for n in others)
    return following if word in ("add", "bias") and others and constant else None


def _elements(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
