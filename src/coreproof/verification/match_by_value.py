"""Pairs values of two models that have no names in common by what is in them: the same numbers, also in another layout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from coreproof.conversion.operators import canonical_op
from coreproof.feeding.drawn import Sample, is_finite
from coreproof.model.graph import Graph
from coreproof.model.numbers import rms
from coreproof.pairing.align import Pair, ValueIndex
from coreproof.pairing.taps import as_array, batched, taps_of, value_bytes
from coreproof.runtime.session import Session

Array = np.ndarray

ALIKE = 0.05
"""Values are the same when they differ by less than this share of their scale: rounding makes less, another value more."""

_EQUAL = 1e-5
"""Values so near each other may be the same in float32."""
_CLOSER = 1e-2
"""By such a factor nearer is what another value is the same as: rounding to float16 leaves no two values so unlike."""

_SAMPLE = 256
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Sketch:
    """What is kept of a value: its lengths without those of 1, its scale, evenly spaced elements, and sums along each axis."""

    shape: tuple[int, ...]
    scale: float
    sample: Array
    axes: tuple[Array, ...]


def sketch(array: Array) -> Sketch | None:
    """None for what says nothing: a single number, a constant, text, or values that are not finite."""
    if array.dtype.kind not in "fiu" or array.size < 2:
        return None
    shape = tuple(d for d in array.shape if d != 1)
    values = array.reshape(shape).astype(np.float64)
    scale = rms(values) if np.isfinite(values).all() else 0.0
    if scale == 0.0 or values.max() == values.min() or max(shape) > _LONGEST:
        return None
    places = np.linspace(0, values.size - 1, min(_SAMPLE, values.size)).astype(np.int64)
    # the means along every axis stay what they are when axes are moved
    axes: tuple[Array, ...] = ()
    if len(shape) > 1:
        others = [tuple(j for j in range(len(shape)) if j != i) for i in range(len(shape))]
        squares = np.square(values)
        axes = tuple(np.stack([values.mean(axis=o), np.sqrt(squares.mean(axis=o))]) for o in others)
    return Sketch(shape, scale, values.reshape(-1)[places], axes)


def distance(a: Sketch, b: Sketch) -> tuple[float, tuple[int, ...] | None]:
    """How far apart two values are as a share of the scale, and the order of axes that brings ``a`` to the layout of ``b``."""
    # another scale is another value: rounding does not double it
    if a.sample.size != b.sample.size or not 0.5 < a.scale / b.scale < 2:
        return math.inf, None
    apart = rms(a.sample - b.sample)
    # numbers that are all but one number fit any others of its size: the same value goes up and down with them
    straight = apart / a.scale if apart <= rms(a.sample - a.sample.mean()) / 2 else math.inf
    if straight < ALIKE or len(a.shape) < 2 or sorted(a.shape) != sorted(b.shape):
        return straight, None
    best: tuple[float, tuple[int, ...] | None] = (straight, None)
    for order in permutations(range(len(a.shape))):
        if order == tuple(range(len(order))) or any(a.shape[i] != n for i, n in zip(order, b.shape, strict=True)):
            continue
        away = max(rms(a.axes[i] - b.axes[j]) / (_variation(a.axes[i]) + 1e-6 * a.scale) for j, i in enumerate(order))
        if away < min(best[0], ALIKE):
            best = (away, order)
    return best


@dataclass(frozen=True)
class Sketched:
    """A side's inner values: how many elements each has, and the sketches of those that say something.

    ``finite``: whether all outputs of that run are.
    """

    sizes: Mapping[str, int]
    sketches: Mapping[str, Sketch]
    finite: bool = True


def sketched(of: Session, its: ValueIndex, feed: Sample, memory: int) -> Sketched:
    """Runs the model with all its inner values, in batches that ``memory`` holds; of a value only its sketch is kept."""
    sizes: dict[str, int] = {}
    sketches: dict[str, Sketch] = {}
    groups = list(batched(its.inner_values, memory, value_bytes(of, its, [feed], memory)))
    outputs = [feature.name for feature in of.signature.outputs]
    finite = True
    for group, values in zip(groups, of.walk(feed, [taps_of(of, group) for group in groups]), strict=True):
        finite = finite and all(is_finite(values[name]) for name in outputs if name in values)
        for name in group:
            if name not in values:  # no tensor: a length, or nothing at all
                continue
            array = as_array(values.pop(name))
            sizes[name], known = array.size, sketch(array)
            if known is not None:
                sketches[name] = known
    return Sketched(sizes, sketches, finite)


def pair_by_value(
    reference: ValueIndex,
    candidate: ValueIndex,
    reference_sketches: Mapping[str, Sketch],
    candidate_sketches: Mapping[str, Sketch],
    taken: Sequence[Pair],
) -> list[Pair]:
    """Inner values of the two sides that hold the same numbers, at most one partner each, in the candidate's order.

    Among several that fit, the same operation counts first, then how close, then the next one in order. What a later value of the
    candidate is far closer to is left for that one. ``taken`` are paired already.
    """
    used = {pair.reference for pair in taken}
    paired = {pair.candidate for pair in taken}
    unpaired = {name: known for name, known in reference_sketches.items() if name not in used}
    by_size: dict[int, list[str]] = {}
    for name, known in unpaired.items():
        by_size.setdefault(math.prod(known.shape), []).append(name)
    places = {name: i for i, name in enumerate(reference.inner_values)}
    last, pairs = -1, []
    for position, (name, own) in enumerate(candidate_sketches.items()):
        if name in paired:
            continue
        options = []
        for other in by_size.get(math.prod(own.shape), []):
            away, order = distance(unpaired[other], own)
            if other not in used and away < ALIKE:
                # the same operation first, then what does not lead back, then the nearest
                unlike = _word(reference.graph, other) != _word(candidate.graph, name)
                back = places[other] <= last
                options.append(((unlike, back, round(away, 3), abs(places[other] - last)), other, order))
        if options:
            _, other, order = min(options, key=lambda option: option[0])
            away, _ = distance(unpaired[other], own)
            if away > _EQUAL and any(
                distance(unpaired[other], later)[0] < away * _CLOSER
                for at, later in enumerate(candidate_sketches.values())
                if at > position and later.sample.size == own.sample.size
            ):
                continue
            used.add(other)
            last = max(last, places[other])
            pairs.append(Pair(other, name, "value", order))
    return pairs


def arrange(array: Array, axes: tuple[int, ...] | None) -> Array:
    """The reference's value in the candidate's layout, lengths of 1 left out."""
    if axes is None:
        return array
    long = [d for d in array.shape if d != 1]
    order = _order(axes, len(long))
    return array if order is None else array.reshape(long).transpose(order)


def arrange_back(array: Array, axes: tuple[int, ...] | None, shape: tuple[int, ...]) -> Array:
    """The candidate's value in the reference's layout and ``shape``: the inverse of ``arrange``."""
    long = [d for d in array.shape if d != 1]
    order = None if axes is None else _order(axes, len(long))
    if order is not None:
        array = array.reshape(long).transpose(np.argsort(order))
    return array.reshape(shape)


def _order(axes: tuple[int, ...], rank: int) -> tuple[int, ...] | None:
    """``axes`` for a sample with more dimensions above 1 than that in which they were found: batches, which stay in front.

    None where the sample has fewer: which of them is gone is not known.
    """
    more = rank - len(axes)
    return None if more < 0 else (*range(more), *(axis + more for axis in axes))


def _word(graph: Graph, name: str) -> str:
    node = graph.producer(name)
    return "" if node is None else canonical_op(node.operator)


def _variation(sums: Array) -> float:
    """How much the sums along an axis vary over it: sums over many numbers are much alike, whatever the numbers are."""
    return rms(sums - sums.mean(axis=1, keepdims=True))
