"""What verification needs of two sessions: which outputs are the same, what to tap, in which format values are stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

import numpy as np

from coreproof.conversion.onnx_to_coreml.sequence_outputs import items_of
from coreproof.conversion.operators import canonical_op
from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.budget import afford
from coreproof.model.graph import Graph
from coreproof.model.numbers import UNIT_ROUNDOFF
from coreproof.model.structured import is_structured
from coreproof.pairing.align import Pair, ValueIndex
from coreproof.pairing.class_names import renamed
from coreproof.pairing.structured import leaves
from coreproof.runtime.session import Session

UNKNOWN_SIZE = 1 << 22
"""Elements that a value of unknown shape is taken to have."""


_HELD = 4
"""As often is a value held that is brought out and compared: in either engine, and as either engine handed it out."""


def afford_comparing(name: str, size: int, of: Session) -> None:
    """Raises TooLargeError where a value of ``size`` bytes is beyond the budget when it is brought out and compared."""
    afford(f"comparing {name!r}", size=_HELD * size, where=of.executable.name if of.executable else None)


def batched(items: Sequence[str], limit: int, size: Callable[[str], int]) -> Iterator[list[str]]:
    """Consecutive groups whose sizes sum to at most ``limit``; an item that is larger comes alone."""
    group: list[str] = []
    total = 0
    for item in items:
        if group and total + size(item) > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
    if group:
        yield group


def taps_of(of: Session, names: Iterable[str]) -> list[str]:
    """Of the names, what a run does not bring anyway as numbers: a classifier's scores may bear the name of its dictionary.

    A picture comes out clipped to whole pixels, with a channel of opacity; what it was made of is asked for where it is known.
    """
    pictures = {f.name for f in of.signature.outputs if f.image is not None} if of.executable is not None else set()
    declared = {f.name for f in of.signature.outputs} - {of.signature.scores} - pictures
    return [n for n in dict.fromkeys(names) if n not in declared]


def engine_shapes(of: Session) -> dict[str, tuple[int, ...]]:
    """Shapes of inner values that the engine's graph knows and the model's file does not say."""
    executable = of.executable
    if executable is None:
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in executable.graph.graph:
        for value in node.outputs:
            if value.name and value.shape is not None and value.shape.is_static():
                shapes[value.name] = value.shape.numpy()
    # under the model's own names too: those of the lowered graph are nobody's
    shapes.update({own: shapes[name] for own, name in executable.values.items() if name in shapes})
    return shapes


def value_bytes(
    of: Session, its: ValueIndex, feeds: Sequence[Mapping[str, object]], memory: int
) -> Callable[[str], int]:
    """How many bytes each inner value takes, in float32: as declared, else as measured, else as much as is taken to be likely.

    Measuring costs a run for every shape that is fed, and is done only where ``memory`` could be too small.
    """
    sizes = dict(its.sizes)
    names = its.inner_values
    unknown = [name for name in names if name not in sizes]
    if unknown and 4 * sum(sizes.get(name, UNKNOWN_SIZE) for name in names) > memory:
        measured: dict[str, int] = {}
        for feed in {repr([(n, np.asarray(v).shape) for n, v in feed.items()]): feed for feed in feeds}.values():
            for name, size in of.sizes(feed, unknown).items():
                measured[name] = max(size, measured.get(name, 0))
        sizes.update(measured)
    for name in names:
        afford_comparing(name, 4 * sizes.get(name, 0), of)
    return lambda name: 4 * sizes.get(name, UNKNOWN_SIZE)


def stored_formats(pairs: Sequence[Pair], reference: Model, candidate: Model) -> Mapping[str, str]:
    """The coarser of the two formats in which each value of the candidate, and its partner, is stored.

    A partner that is only cast has the digits of what it was cast from.
    """
    # an output's declared dtype counts more than the network's: it is what leaves the model
    stored = {name: value.dtype for name, value in candidate.graph.values.items() if value.dtype}
    stored.update({f.name: f.dtype for f in candidate.signature.outputs if f.dtype})
    for pair in pairs:
        other = _coarsest(reference.graph, pair.reference)
        if other and UNIT_ROUNDOFF.get(other, 0.0) > UNIT_ROUNDOFF.get(stored.get(pair.candidate, "float32"), 0.0):
            stored[pair.candidate] = other
    return stored


def narrowest_ranges(pairs: Sequence[Pair], reference: Model, candidate: Model) -> Mapping[str, str]:
    """The format with the fewest digits that each value of the candidate, or its partner, was ever stored in: its range counts.

    An output that is declared float32 and was computed in float16 is infinite from float16's end on.
    """
    found = {}
    for pair in pairs:
        known = (_coarsest(candidate.graph, pair.candidate), _coarsest(reference.graph, pair.reference))
        found[pair.candidate] = max((d for d in known if d), key=lambda d: UNIT_ROUNDOFF.get(d, 0.0), default="float32")
    return found


def floats_before(graph: Graph, name: str) -> list[str]:
    """The floats in other widths that a float is cast from, the nearest first: a cast to whole numbers makes another value."""
    return list(takewhile(lambda n: _is_float(graph, n), cast_from(graph, name))) if _is_float(graph, name) else []


def _is_float(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    return value is not None and value.dtype is not None and "float" in value.dtype


def cast_from(graph: Graph, name: str) -> list[str]:
    """The values that one is cast from, the nearest first."""
    found: list[str] = []
    node = graph.producer(name)
    while node is not None and node.inputs and canonical_op(node.operator) == "cast" and node.inputs[0] not in found:
        found.append(node.inputs[0])
        node = graph.producer(node.inputs[0])
    return found


def _coarsest(graph: Graph, name: str) -> str | None:
    """The format with the fewest digits among a value's own and those that it was cast from."""
    values = [graph.values.get(n) for n in (name, *cast_from(graph, name))]
    known = [value.dtype for value in values if value is not None and value.dtype]
    return max(known, key=lambda dtype: UNIT_ROUNDOFF.get(dtype, 0.0), default=None)


def match_outputs(reference: Session, candidate: Session) -> list[Pair]:
    """Outputs that are the same: by name, else by position. A classifier counts with its scores, as a tensor.

    What is its label, or its dictionary of probabilities, is so in the other model too where that has it under the same name.
    """
    order = _tensor_outputs(candidate)
    if candidate.signature.predicted_label is None and reference.signature.predicted_label is not None:
        pairs = [Pair(p.candidate, p.reference, p.how) for p in match_outputs(candidate, reference)]
        # the scores of a dictionary are an inner value there
        return sorted(pairs, key=lambda p: order.index(p.candidate) if p.candidate in order else len(order))
    partners, own = _tensor_outputs(reference), _tensor_outputs(candidate)
    label, shares, scores = (
        getattr(candidate.signature, name) for name in ("predicted_label", "probabilities", "scores")
    )
    pairs = []
    if label in partners and len(partners) > 1:
        partners.remove(label)
    zipped = _zipped(reference, shares) if shares in partners else None
    # behind a pipeline the scores have no name but that of the dictionary
    if shares in partners and scores in own and (scores not in partners or (scores == shares and zipped)):
        partners.remove(shares)
        own.remove(scores)
        pairs = [Pair(zipped or shares, scores, "output")]
    for sequence, items in _sequences(reference, partners, own).items():
        partners.remove(sequence)
        own = [name for name in own if name not in items]
        pairs += [Pair(inner, item, "output") for item, inner in items.items()]
    texts = _texts(reference), _texts(candidate)
    # of one name, and a text on one side alone: no number is compared with it
    other = {n for n in partners if n in own and (n in texts[0]) != (n in texts[1])}
    partners, own = [n for n in partners if n not in other], [n for n in own if n not in other]
    common = [n for n in own if n in partners]
    pairs += [Pair(n, n, "output") for n in common]
    rest = [n for n in partners if n not in common], [n for n in own if n not in common]
    for text in (True, False):
        left = [[n for n in rest[side] if (n in texts[side]) == text] for side in (0, 1)]
        pairs += _by_place(reference, candidate, left[0], left[1], last=not text and not pairs)
    pairs = [_of_tensors(reference, candidate, pair) for pair in pairs]
    if not pairs:
        raise InputError("the two models have no outputs that could be compared", expected=partners, found=own)
    return sorted(pairs, key=lambda p: order.index(p.candidate) if p.candidate in order else len(order))


def _of_tensors(reference: Session, candidate: Session, pair: Pair) -> Pair:
    """A dictionary beside a tensor, or one of other names, is compared as the scores that it is made of."""
    alike = _is_structure(reference, pair.reference) == _is_structure(candidate, pair.candidate)
    if alike and not renamed(reference.signature, candidate.signature):
        return pair
    one, other = _zipped(reference, pair.reference), _zipped(candidate, pair.candidate)
    return replace(pair, reference=one or pair.reference, candidate=other or pair.candidate)


def _is_structure(of: Session, name: str) -> bool:
    return any(f.name == name and f.kind in ("dictionary", "sequence") for f in of.signature.outputs)


def _by_place(
    reference: Session, candidate: Session, theirs: Sequence[str], own: Sequence[str], *, last: bool
) -> list[Pair]:
    """Outputs that have no name in common, by their position; where one side has more of them, those of a kind of their own.

    ``last``: nothing else is compared, so that what stands first is, of one sort of number where there is any.
    """
    if len(theirs) == len(own):
        return [Pair(a, b, "output") for a, b in zip(theirs, own, strict=True)]
    kinds = {a: _kind(reference, a) for a in theirs}, {b: _kind(candidate, b) for b in own}
    alone = [
        (a, b)
        for a, kind in kinds[0].items()
        for b, same in kinds[1].items()
        if kind is not None and kind == same and all(list(k.values()).count(kind) == 1 for k in kinds)
    ]
    if alone or not last:
        return [Pair(a, b, "output") for a, b in alone]
    sides = (theirs, kinds[0]), (own, kinds[1])
    sorts = [[n for n in names if (known[n] or ("float",))[0] == "float"] for names, known in sides]
    chosen = sorts if all(sorts) else [theirs, own]
    return [Pair(a, b, "output") for a, b in zip(*chosen, strict=False)]


def _kind(of: Session, name: str) -> tuple[str, tuple[object, ...]] | None:
    """The number format and the lengths of an output, those of 1 and of a batch left out; None where the file does not say."""
    feature = next((f for f in of.signature.outputs if f.name == name), None)
    if feature is None or feature.dtype is None or feature.shape is None:
        return None
    return feature.dtype.rstrip("0123456789"), tuple(n for n in feature.shape if isinstance(n, int) and n != 1)


def lone_outputs(
    reference: Session, candidate: Session, pairs: Sequence[Pair]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Outputs of the reference, and of the candidate, that are compared with nothing."""
    sides = (reference, {p.reference for p in pairs}), (candidate, {p.candidate for p in pairs})
    theirs, own = (
        tuple(
            n
            for n in _tensor_outputs(side)
            if n not in compared and _zipped(side, n) not in compared and compared.isdisjoint(_items(side, n).values())
        )
        for side, compared in sides
    )
    return theirs, own


def _tensor_outputs(of: Session) -> list[str]:
    signature = of.signature
    names = [f.name for f in signature.outputs if f.name not in (signature.predicted_label, signature.probabilities)]
    if signature.scores is not None and signature.scores not in names:
        names.append(signature.scores)
    return names


def _zipped(of: Session, dictionary: str) -> str | None:
    """The scores of which a ZipMap makes this dictionary, whose keys an engine may sort."""
    for node in of.executable.graph.graph if of.executable is not None else ():
        if node.op_type == "ZipMap" and node.outputs[0].name == dictionary and node.inputs[0] is not None:
            return node.inputs[0].name
    return None


def _items(of: Session, sequence: str) -> dict[str, str]:
    """The values of which an output is made that is a sequence, by the names that they get as outputs of a conversion."""
    graph = of.executable.graph.graph if of.executable is not None else None
    return {} if graph is None else {item: v.name or "" for item, v in items_of(graph, sequence).items()}


def _sequences(reference: Session, partners: Collection[str], own: Collection[str]) -> dict[str, dict[str, str]]:
    """Outputs of the reference that are sequences, whose tensors are outputs of the candidate: output -> tensor."""
    found = {sequence: _items(reference, sequence) for sequence in set(partners) - set(own)}
    return {sequence: items for sequence, items in found.items() if items and items.keys() <= set(own)}


def _texts(of: Session) -> set[str]:
    return {f.name for f in of.signature.outputs if f.kind == "string" or f.dtype in ("string", "str", "object")}


def as_array(value: object) -> np.ndarray:
    """A value as a session hands it out: arrays as they are, pictures as [1, C, H, W], dictionaries as a row."""
    if is_structured(value):
        return leaves(value)
    array = np.asarray(value)
    if hasattr(value, "getbands"):  # a Pillow picture; Pillow itself need not be there for it
        # RGBA: Core ML's pictures are opaque
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)[:3]
        return array[None].astype(np.float32)
    return array
