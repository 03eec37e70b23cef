"""Compressed weights: how far those of one side lie from the other's, and whether the bits that they are stored in explain it.

A weight in 8 or 4 bits, in a table, or with its small numbers left out is not the source's any more, and is not meant to be. How
far it may lie from it is no matter of a rule of thumb: the steps between the numbers that it could have held are in the file
(``layer_weights``), and the weight that it was made from stands in the other model. Where the steps explain the distance, the
reference is run with the numbers that the candidate stores (``stored_weights``), so that all else is judged by rounding alone;
where it cannot be, the distance is carried on as the error that it is. Where the steps do not explain it, it is none: the
layer is judged as if its weight were whole, and differs.

The weight that it was made from is the one of the same size that it resembles most, in any order of its first or last two axes,
and with a factor for each channel (a converter folds normalisations into weights). A resemblance excuses nothing but what is
left of the distance behind it, so that a wrong one does no harm. Numbers that were left out (pruning) are off by all that they
were. Where they are the small ones, that is the error of the weight as it is of any compressed one; where it is half of the
weight, what is made with it proves little, as after any error of that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from coreproof.conversion.operators import canonical_op
from coreproof.model.base import Model
from coreproof.model.layer_weights import WeightRef, all_weights, may_hold_steps
from coreproof.model.numbers import UNIT_ROUNDOFF, rms
from coreproof.verification.integer_products import INTEGERS, real_weight
from coreproof.verification.rounded_weights import altered, explains, off_steps
from coreproof.verification.scaled_layers import Scales, known_factors, scales_beside

Array = npt.NDArray[np.float64]

_ALIKE = 0.5
"""From this mean cosine of their rows on, one weight was made from the other: a half lies between noise and compression."""

_HINT = 0.25
"""From this one on it may have been, where its bits explain it: four numbers that became one of two are no more alike."""

_SURE = 3.0
"""Deviations from which on a channel's factor is none by chance."""

_BIASED = 3.0
"""Times what a weight and the one that it was made from lack in likeness, by which factors that are guessed from them are off
besides: few numbers make large slices smaller, and small ones anything (measured, means and even steps of 2 and 4 bits)."""

_HANDICAP = 1.1
"""By so much nearer guessed factors have to bring a weight: a number for each channel fits some of the rounding too."""

_EQUAL = 1e-9
"""Two likenesses that differ by less differ by how they were summed."""

_LONG = 8
"""Numbers of which a cosine by chance is small on the average: 0.3."""

_ROWS, _COLUMNS = 16, 256
"""So much of a weight is looked at to find the one that it was made from."""


class Distance(NamedTuple):
    """How far a weight lies from the one that it was made from: a share of its scale, and the root mean square itself."""

    share: float = 0.0
    absolute: float = 0.0


class GateBlock(NamedTuple):
    """A gate of a recurrent layer's weight: which of how many, and the shape of the whole."""

    gate: int
    gates: int
    shape: tuple[int, ...]


class Stored(NamedTuple):
    """A constant of the reference, or a ``block`` of it, and the numbers that a layer of the candidate stores in its place."""

    constant: str
    layer: str
    parameter: str
    read: Callable[[], Array]
    block: GateBlock | None = None


class Compressed(NamedTuple):
    """The compressed weights of a comparison: by the candidate's layers, the distance that the weight's bits explain.

    ``unexplained`` are layers whose weight lies further from the other side's than its bits explain, each with what is known of
    where (empty where nothing is); ``pruned`` those whose small numbers were left out, which is counted in the distance.
    ``stored``: what the reference's weights become where they are exchanged for the candidate's numbers. ``exchanged`` are the
    layers of which that was done. ``unsure``: how far the exchanged numbers may be off where a factor between the two weights had
    to be guessed from them.
    """

    explained: Mapping[str, Distance] = {}
    unexplained: Mapping[str, str] = {}
    pruned: tuple[str, ...] = ()
    stored: tuple[Stored, ...] = ()
    exchanged: frozenset[str] = frozenset()
    unsure: Mapping[str, Distance] = {}

    @property
    def allowed(self) -> Mapping[str, Distance]:
        """By how much the candidate's compressed layers may differ for it: hardly, where the reference has their numbers too."""
        return {
            n: self.unsure.get(n, Distance()) if n in self.exchanged else distance
            for n, distance in self.explained.items()
        }

    def to_json(self) -> dict[str, object]:
        """The same as JSON can hold it."""
        shares = {layer: distance.share for layer, distance in self.explained.items()}
        return {
            "explained": shares,
            "unexplained": list(self.unexplained),
            "altered": {layer: where for layer, where in self.unexplained.items() if where},
            "pruned": list(self.pruned),
            "compared_as_stored": sorted(self.exchanged),
        }


class _Weight(NamedTuple):
    layer: str
    parameter: str
    reference: WeightRef
    gates: int
    scales: Scales
    """What the layer reads or makes is multiplied by beside it: that may have come from the weight, or be in the other one."""
    block: GateBlock | None = None


def compressed_weights(reference: Model, candidate: Model) -> Compressed:
    """The weights that either side holds compressed, measured against the other's."""
    # most models hold none, which looking at each weight says late
    if not (may_hold_steps(reference) or may_hold_steps(candidate)):
        return Compressed()
    own = list(_weights(candidate))
    squeezed = [w for w in own if w.reference.steps is not None]
    if squeezed:
        return _measured(squeezed, list(_weights(reference)))
    if not _may_be_compressed(reference):
        return Compressed()
    others = [w for w in _weights(reference) if w.reference.steps is not None]
    return _measured(others, own, turned=True) if others else Compressed()


def _may_be_compressed(model: Model) -> bool:
    """Whether it is worth reading what a model's weights are stored as: plain formats need no look."""
    return model.is_program or model.is_network or model.is_onnx


def _weights(model: Model) -> Iterator[_Weight]:
    """The weights that layers compute with; an operation that decompresses one computes nothing."""
    if not (_may_be_compressed(model) or model.is_torch):
        return
    nodes = {node.name: node for node in model.graph.nodes}
    known = all_weights(model)
    beside = scales_beside(model.graph, known)
    for layer, parameters in known.items():
        operator = nodes[layer].operator if layer in nodes else ""
        if operator.startswith("constexpr_") or operator in ("DequantizeLinear", "const"):
            continue
        gates = {"lstm": 4, "gru": 3}.get(canonical_op(operator), 0)
        scales = beside.get(layer, Scales())
        for parameter, weight in parameters.items():
            if weight.size <= 1:
                continue
            held = weight
            if operator in INTEGERS:
                held = real_weight(nodes[layer], parameter, parameters)
            # the scale of integers that an operator reads without one (ConvInteger) is multiplied on somewhere
            raw = "int" in held.dtype and held.steps is None
            yield _Weight(layer, parameter, held, gates, scales._replace(unknown=scales.unknown or raw))


def _measured(squeezed: Sequence[_Weight], others: Sequence[_Weight], *, turned: bool = False) -> Compressed:
    """How far each lies from the one that it was made from; ``turned``: the others are the candidate's."""
    by_size: dict[int, list[_Sketched]] = {}
    sizes = {weight.reference.size for weight in squeezed}
    # a layer that is written out step by step holds its gates one by one
    for other in (*others, *(block for weight in others for block in _blocks(weight))):
        if other.reference.size in sizes:
            by_size.setdefault(other.reference.size, []).append((other, {}))
    explained: dict[str, Distance] = {}
    unexplained: dict[str, str] = {}
    pruned: list[str] = []
    stored: list[Stored] = []
    taken = set[tuple[str, str]]()
    unsure: dict[str, Distance] = {}
    bound = set[str]()  # layers with a weight whose numbers cannot be put into the reference
    for weight in squeezed:
        now = _dense(weight.reference)
        # zeros (a recurrent layer's initial state) are stored as they are: nothing is excused, and nothing left to exchange
        if not now.any():
            continue
        assert weight.reference.steps is not None
        steps = np.broadcast_to(np.asarray(weight.reference.steps(), np.float64), now.shape)
        found = _made_from(weight, now, by_size.get(weight.reference.size, []), taken)
        fits = [] if found is None else _nearest_first(weight, found, now, steps)
        fit = next((f for f in fits if explains(now, f.meant, steps, f.unsure)), None)
        if found is None or (fit is None and found.alike < _ALIKE):
            if not turned:
                explained[weight.layer] = max(_by_steps(now, steps), explained.get(weight.layer, Distance()))
                bound.add(weight.layer)
            continue
        other, order = found.weight, found.order
        layer = other.layer if turned else weight.layer
        if fit is None:
            where = next(filter(None, (altered(now, f.meant, steps, f.unsure) for f in fits)), "")
            unexplained[layer] = unexplained.get(layer) or where
        elif not np.isfinite(steps).all():
            pruned.append(layer)
        # a share of the reference's weight, which is larger than what pruning leaves of it
        off, scale = (0.0, 0.0) if fit is None else (rms(now - fit.meant), rms(now if turned else fit.meant))
        distance = Distance(off / (scale or 1.0), off)
        explained[layer] = max(distance, explained.get(layer, Distance()))
        constant = other.reference.constant
        if fit is None or turned or not distance.share:
            continue
        if constant is None:
            bound.add(layer)
        else:
            # a factor that was found by comparing is known no better than the numbers that it was found from
            unsure[layer] = max(Distance(fit.doubt, fit.doubt * scale), unsure.get(layer, Distance()))
            read = partial(_as_stored, weight.reference, other.reference, order, fit.factors)
            stored.append(Stored(constant, layer, weight.parameter, read, other.block))
    free = tuple(each for each in stored if each.layer not in bound)
    return Compressed(explained, unexplained, tuple(dict.fromkeys(pruned)), free, unsure=unsure)


def _blocks(weight: _Weight) -> Iterator[_Weight]:
    """The gates of a recurrent layer's weight, [..., gates * units, read], each as one by itself, and its two directions."""
    shape = weight.reference.shape
    if not weight.gates or len(shape) < 2 or shape[-2] % weight.gates:
        return
    if len(shape) == 3 and shape[0] == 2:
        for at in range(2):

            def half(at: int = at) -> Array:
                direction: Array = np.asarray(weight.reference.read())[at]
                return direction

            block = replace(weight.reference, shape=shape[1:], read=half, steps=None)
            name = f"{weight.parameter}/direction{at}"
            yield weight._replace(parameter=name, reference=block, block=GateBlock(at, 2, shape))
    units = shape[-2] // weight.gates
    count = weight.reference.size // (units * shape[-1])
    for index in range(count):

        def read(index: int = index) -> Array:
            gate: Array = np.asarray(weight.reference.read()).reshape(count, units, shape[-1])[index]
            return gate

        block = replace(weight.reference, shape=(units, shape[-1]), read=read, steps=None)
        name = f"{weight.parameter}/{index}"
        yield weight._replace(parameter=name, reference=block, gates=0, block=GateBlock(index, count, shape))


def _as_stored(weight: WeightRef, other: WeightRef, order: _Order, factors: Array | None) -> Array:
    """What a weight stores, as the one that it was made from would: without the factors, and in its order of elements.

    A channel that was multiplied by 0 tells nothing of what it was.
    """
    now = _dense(weight)
    if factors is not None:
        meant = order.of(_dense(other), now.shape)
        now = np.where(factors != 0, np.divide(now, factors, out=meant.copy(), where=factors != 0), meant)
    # integers are stored whole: what a factor leaves beside one is its rounding
    return order.back(np.rint(now) if "int" in other.dtype else now, other.shape)


def _dense(weight: WeightRef) -> Array:
    read: Array = np.asarray(weight.read()).astype(np.float64)
    return read


def _by_steps(now: Array, steps: Array) -> Distance:
    """What rounding to the nearest step changes, where nothing says what the weight was made from: a step over sqrt(12)."""
    scale = rms(now)
    off = min(scale, rms(np.nan_to_num(steps, posinf=0.0)) / math.sqrt(12.0))
    return Distance(off / scale, off) if scale > 0 else Distance()


def _made_from(weight: _Weight, now: Array, others: Sequence[_Sketched], taken: set[tuple[str, str]]) -> _Source | None:
    """The weight that this one resembles most.

    Of several that are all the same (a table of words that is a classifier too) each is ``taken`` once.
    """
    rows, columns = _places(now.shape)
    seen = _looked_at(now, rows, columns)
    kept = seen != 0 if np.any(seen) else True  # of a pruned weight nothing else says what it was made from
    best: tuple[float, bool, _Weight, _Order] | None = None
    for other, sketches in others:
        if now.shape not in sketches:
            dense = _dense(other.reference)
            orders = _orders(dense, now.shape, gated=bool(weight.gates or other.gates))
            sketches[now.shape] = [(o, _looked_at(o.of(dense, now.shape), rows, columns)) for o in orders]
        fresh = (other.layer, other.parameter) not in taken
        for order, sketch in sketches[now.shape]:
            alike = _likeness(seen, np.where(kept, sketch, 0.0))
            if best is None or (alike > best[0] + _EQUAL) or (alike > best[0] - _EQUAL and fresh > best[1]):
                best = alike, fresh, other, order
    if best is None or best[0] < _HINT:
        return None
    alike, _, made_from, chosen = best
    taken.add((made_from.layer, made_from.parameter))
    return _Source(made_from, chosen.of(_dense(made_from.reference), now.shape), chosen, alike)


class _Order(NamedTuple):
    """An order in which another tool may keep a weight: two axes exchanged, or the gates of a recurrent layer otherwise."""

    axes: tuple[int, int] | None = None
    gates: tuple[int, ...] = ()

    def of(self, weight: Array, shape: tuple[int, ...]) -> Array:
        """The weight in this order."""
        moved = (weight if self.axes is None else weight.swapaxes(*self.axes)).reshape(shape)
        if not self.gates:
            return moved
        blocks = moved.reshape(len(self.gates), -1)
        return blocks[list(self.gates)].reshape(shape)

    def back(self, moved: Array, shape: tuple[int, ...]) -> Array:
        """What ``of`` made of a weight of ``shape``, as it was."""
        if self.gates:
            moved = moved.reshape(len(self.gates), -1)[np.argsort(self.gates)]
        if self.axes is None:
            return moved.reshape(shape)
        exchanged = list(shape)
        first, second = self.axes
        exchanged[first], exchanged[second] = exchanged[second], exchanged[first]
        return moved.reshape(exchanged).swapaxes(*self.axes)


class _Source(NamedTuple):
    """A weight that another was made from, its numbers in the other's order of elements, which order that is, and how alike."""

    weight: _Weight
    meant: Array
    order: _Order
    alike: float


_GATES = (*permutations(range(4)), *permutations(range(3)))
"""Orders of gates, an LSTM's and a GRU's: PyTorch, ONNX and Core ML have each their own, and either side may be of any."""

_Sketched: TypeAlias = tuple[_Weight, dict[tuple[int, ...], list[tuple[_Order, Array]]]]
"""A weight, and what it looks like in each order, by the shape that it is to have."""


def _orders(weight: Array, shape: tuple[int, ...], *, gated: bool) -> list[_Order]:
    """The orders in which another tool may keep a weight."""
    found = [_Order(), *(_Order(axes) for axes in ((0, 1), (-1, -2)) if weight.ndim >= 2)]
    return [*found, *(_Order(None, gates) for gates in _GATES if gated and shape[0] % len(gates) == 0)]


def _places(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns, evenly spread, of a weight as [first axis, all others]."""
    rows = shape[0] if len(shape) > 1 else 1
    columns = math.prod(shape) // max(1, rows)
    return (
        np.linspace(0, rows - 1, min(rows, _ROWS)).astype(np.intp),
        np.linspace(0, columns - 1, min(columns, _COLUMNS)).astype(np.intp),
    )


def _looked_at(weight: Array, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Array:
    flat = weight.reshape(weight.shape[0] if weight.ndim > 1 else 1, -1)
    taken: Array = flat[np.ix_(rows, columns)]
    return taken


def _likeness(a: Array, b: Array) -> float:
    """The mean cosine of rows, or of columns that are long enough to say anything: factors may lie along either."""
    sides = ((a, b), (a.T, b.T)) if len(a) >= _LONG else ((a, b),)
    return max(float(np.mean(np.abs(_cosines(*side)))) for side in sides)


def _cosines(a: Array, b: Array) -> Array:
    lengths = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    cosines: Array = np.divide((a * b).sum(1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return cosines


class _Fit(NamedTuple):
    """What a weight was made from, if it holds these factors; of guessed ones, by which share each may be off, and all of it."""

    meant: Array
    factors: Array | None = None
    unsure: Array | float = 0.0
    doubt: float = 0.0
    handicap: float = 1.0


def _nearest_first(weight: _Weight, source: _Source, now: Array, steps: Array) -> list[_Fit]:
    """A few bits explain a weight without the factors that are in it as well: what is nearest, number by number too."""
    held = source.weight.reference
    # of integers that both sides keep as they are, every scale is multiplied on elsewhere, and none is in them
    mine = weight.scales._replace(unknown=weight.scales.unknown and not _is_raw(held, steps))
    other = source.weight.scales._replace(unknown=source.weight.scales.unknown and not _is_raw(held, steps))
    fits = list(_fits(now, source.meant, steps, mine, other))
    # coremltools cuts a table's entries off where they are integers, which makes them smaller by half of one on the average
    if weight.reference.grain is not None and (grain := weight.reference.grain()) is not None:
        sizes = np.abs(source.meant) - np.minimum(grain / 2, np.abs(source.meant))
        fits.append(_Fit(np.copysign(sizes, source.meant)))
    if len(fits) > 1:
        fits.sort(key=lambda f: rms(now - f.meant) * f.handicap * (1 + off_steps(now, f.meant, steps, f.unsure)))
    return fits


def _is_raw(weight: WeightRef, steps: Array) -> bool:
    """Whether a weight holds integers without a scale, and one with these steps as well."""
    return "int" in weight.dtype and weight.steps is None and bool(np.all(steps == 1))


def _fits(now: Array, meant: Array, steps: Array, mine: Scales, other: Scales) -> Iterator[_Fit]:
    """The weight as it is; with the known scales beside either layer; and with factors that are guessed, along an axis.

    Those are guessed only where a scale beside a layer is not known, and most channels have one: where most have none, a
    channel that has one is a fault.
    """
    yield _Fit(meant)
    for along in known_factors(now, meant, mine, other):
        yield _Fit(meant * along, along)
    if not (mine.unknown or other.unknown or not mine.fit(now.shape) or not other.fit(now.shape)):
        return
    # what is left out says nothing of the factor
    kept = np.where(np.isfinite(steps), meant, 0.0)
    for axis in range(min(2, now.ndim) if now.ndim > 1 else 0):
        rest = tuple(i for i in range(now.ndim) if i != axis)
        power, size = (np.square(a).sum(rest, keepdims=True) for a in (kept, now))
        products = (now * kept).sum(rest, keepdims=True)
        told = (power > 0) & (size > 0)
        # rounding to steps adds to a weight, a table's means take from it: by as much, so that between both lies what it was
        sizes = np.sqrt(np.divide(size, power, out=np.ones_like(power), where=power > 0))
        factors = np.where(power > 0, np.copysign(sizes, products), 1.0)
        # a factor is known as well as the channel's numbers are, each rounded by a step over sqrt(12), that of float16 at least
        rounded = (
            np.square(np.hypot(np.nan_to_num(steps), 2 * UNIT_ROUNDOFF["float16"] * kept)).mean(rest, keepdims=True)
            / 12
        )
        unsure = np.sqrt(np.divide(rounded, power, out=np.zeros_like(power), where=power > 0))
        if np.median(np.abs(factors - 1) - _SURE * unsure) > 0:
            alike = np.divide(np.abs(products), np.sqrt(size * power), out=np.ones_like(power), where=told)
            shares = np.hypot(
                np.divide(unsure, sizes, out=np.zeros_like(sizes), where=told), _BIASED * (1 - np.minimum(alike, 1))
            )
            doubt = float(np.sqrt(np.sum(np.square(shares) * size) / np.sum(size)))
            yield _Fit(meant * factors, factors, shares, doubt, _HANDICAP)
