"""Compressed weights: how far those of one side lie from the other's, and whether the bits that they are stored in explain it.

A weight in 8 or 4 bits, in a table, or with its small numbers left out is not the source's any more, and is not meant to be. How
far it may lie from it is no matter of a rule of thumb: the steps between the numbers that it could have held are in the file
(``layer_weights``), and the weight that it was made from stands in the other model. Where the steps explain the distance, that is
carried on as the error that it is, like any rounding. Where they do not, it is none: the layer is judged as if its weight were
whole, and differs.

The weight that it was made from is the one of the same size that it resembles most, in any order of its first or last two axes,
and with a factor for each channel (a converter folds normalisations into weights). A resemblance excuses nothing but what is
left of the distance behind it, so that a wrong one does no harm. Numbers that were left out (pruning) are off by all that they
were. Where they are the small ones, that is the error of the weight as it is of any compressed one; where it is half of the
weight, what is made with it proves little, as after any error of that size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coreproof.model.base import Model
from coreproof.model.layer_weights import WeightRef, all_weights
from coreproof.model.numbers import rms

Array = npt.NDArray[np.float64]

SAME = 2e-3
"""Relative rms difference below which two weights are the same but for rounding to float16 and folding."""

_ALIKE = 0.5
"""From this mean cosine of their rows on, one weight was made from the other: a half lies between noise and compression."""

_SURE = 3.0
"""Deviations from which on a channel's factor is none by chance."""

_ROWS, _COLUMNS = 16, 256
"""So much of a weight is looked at to find the one that it was made from."""


class Distance(NamedTuple):
    """How far a weight lies from the one that it was made from: a share of its scale, and the root mean square itself."""

    share: float = 0.0
    absolute: float = 0.0


class Compressed(NamedTuple):
    """The compressed weights of a comparison: by the candidate's layers, the distance that the weight's bits explain.

    ``unexplained`` are layers whose weight lies further from the other side's than its bits explain; ``pruned`` those whose small
    numbers were left out, which is counted in the distance.
    """

    explained: Mapping[str, Distance] = {}
    unexplained: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The same as JSON can hold it."""
        shares = {layer: distance.share for layer, distance in self.explained.items()}
        return {"explained": shares, "unexplained": list(self.unexplained), "pruned": list(self.pruned)}


class _Weight(NamedTuple):
    layer: str
    reference: WeightRef


def compressed_weights(reference: Model, candidate: Model) -> Compressed:
    """The weights that either side holds compressed, measured against the other's."""
    own = list(_weights(candidate))
    squeezed = [w for w in own if w.reference.steps is not None]
    if squeezed:
        return _measured(squeezed, list(_weights(reference)))
    if not _may_be_compressed(reference):
        return Compressed()
    others = [w for w in _weights(reference) if w.reference.steps is not None]
    return _measured(others, own, turned=True) if others else Compressed()


def explains(now: Array, meant: Array, steps: Array) -> bool:
    """Whether steps of this size, NaN where a number is left out, make ``now`` of ``meant``.

    A number becomes the nearest that can be stored, half a step away at most, or, where a tool spreads errors over its
    neighbours (GPTQ), the one beyond: root mean squares over a slice are held against the whole step. The weight as a
    whole has to be nearer to the source's than zeros are, which a step as large as the weight itself would not
    show; and of numbers that are left out each is to hold less than half of what one that is kept holds, in squares.
    """
    kept = np.isfinite(steps)
    if np.sum(np.square(now - meant)) >= np.sum(np.square(meant)):
        return False
    # pruning takes the small ones; where large ones are gone, they got lost
    if kept.any() and not kept.all() and rms(meant[~kept]) > math.sqrt(0.5) * rms(meant[kept]):
        return False
    # what lies beyond the largest that can be stored becomes that, however far away it is
    off = np.where(kept, now - meant.clip(now.min(), now.max()), 0.0)
    allowed = np.hypot(np.where(kept, steps, 0.0), SAME * np.where(kept, meant, 0.0))
    return all(bool((a <= b).all()) for a, b in zip(_slices(off), _slices(allowed), strict=True))


def _slices(array: Array) -> Iterator[Array]:
    """The sums of squares of all slices along each axis that holds channels: the first two; of a vector, of the whole."""
    squares = np.square(array)
    if array.ndim < 2:
        yield squares.sum()
        return
    for axis in (0, 1):
        yield squares.sum(tuple(i for i in range(array.ndim) if i != axis))


def _may_be_compressed(model: Model) -> bool:
    """Whether it is worth reading what a model's weights are stored as: plain formats need no look."""
    return model.is_program or model.is_network or model.is_onnx


def _weights(model: Model) -> Iterator[_Weight]:
    """The weights that layers compute with; an operation that decompresses one computes nothing."""
    if not (_may_be_compressed(model) or model.is_torch):
        return
    operators = {node.name: node.operator for node in model.graph.nodes}
    for layer, parameters in all_weights(model).items():
        if operators.get(layer, "").startswith("constexpr_") or operators.get(layer) in ("DequantizeLinear", "const"):
            continue
        for weight in parameters.values():
            if weight.size > 1:
                yield _Weight(layer, weight)


def _measured(squeezed: Sequence[_Weight], others: Sequence[_Weight], *, turned: bool = False) -> Compressed:
    """How far each lies from the one that it was made from; ``turned``: the others are the candidate's."""
    by_size: dict[int, list[tuple[_Weight, list[tuple[int, Array]]]]] = {}
    for other in others:
        if other.reference.size in {w.reference.size for w in squeezed}:
            by_size.setdefault(other.reference.size, []).append((other, []))
    explained: dict[str, Distance] = {}
    unexplained: list[str] = []
    pruned: list[str] = []
    for weight in squeezed:
        now = _dense(weight.reference)
        assert weight.reference.steps is not None
        steps = np.broadcast_to(np.asarray(weight.reference.steps(), np.float64), now.shape)
        found = _made_from(now, by_size.get(weight.reference.size, []))
        if found is None:
            if not turned:
                explained[weight.layer] = max(_by_steps(now, steps), explained.get(weight.layer, Distance()))
            continue
        other, meant = found
        layer = other.layer if turned else weight.layer
        fitting = next((fit for fit in _fits(now, meant, steps) if explains(now, fit, steps)), None)
        if fitting is None:
            unexplained.append(layer)
        elif not np.isfinite(steps).all():
            pruned.append(layer)
        # a share of the reference's weight, which is larger than what pruning leaves of it
        off, scale = (0.0, 0.0) if fitting is None else (rms(now - fitting), rms(now if turned else fitting))
        explained[layer] = max(Distance(off / (scale or 1.0), off), explained.get(layer, Distance()))
    return Compressed(explained, tuple(dict.fromkeys(unexplained)), tuple(dict.fromkeys(pruned)))


def _dense(weight: WeightRef) -> Array:
    read: Array = np.asarray(weight.read()).astype(np.float64)
    return read


def _by_steps(now: Array, steps: Array) -> Distance:
    """What rounding to the nearest step changes, where nothing says what the weight was made from: a step over sqrt(12)."""
    scale = rms(now)
    off = min(scale, rms(np.nan_to_num(steps, posinf=0.0)) / math.sqrt(12.0))
    return Distance(off / scale, off) if scale > 0 else Distance()


def _made_from(now: Array, others: Sequence[tuple[_Weight, list[tuple[int, Array]]]]) -> tuple[_Weight, Array] | None:
    """The weight that this one resembles most, in this one's order of elements."""
    rows, columns = _places(now.shape)
    seen = _looked_at(now, rows, columns)
    kept = seen != 0 if np.any(seen) else True  # of a pruned weight nothing else says what it was made from
    best: tuple[float, _Weight, int] | None = None
    for other, sketches in others:
        if not sketches:
            dense = _dense(other.reference)
            sketches.extend((at, np.asarray(order)) for at, order in enumerate(_orders(dense, now.shape)))
            sketches[:] = [(at, _looked_at(order, rows, columns)) for at, order in sketches]
        for at, sketch in sketches:
            if sketch.shape == seen.shape:
                alike = float(np.mean(np.abs(_cosines(seen, np.where(kept, sketch, 0.0)))))
                if best is None or alike > best[0]:
                    best = alike, other, at
    if best is None or best[0] < _ALIKE:
        return None
    return best[1], next(
        order for at, order in enumerate(_orders(_dense(best[1].reference), now.shape)) if at == best[2]
    )


def _orders(weight: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """A weight in the orders in which another tool may keep it: as it is, and with two axes exchanged."""
    yield weight.reshape(shape)
    if weight.ndim >= 2:
        yield weight.swapaxes(0, 1).reshape(shape)
        yield weight.swapaxes(-1, -2).reshape(shape)


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


def _cosines(a: Array, b: Array) -> Array:
    lengths = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    cosines: Array = np.divide((a * b).sum(1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return cosines


def _fits(now: Array, meant: Array, steps: Array) -> Iterator[Array]:
    """The weight as it is; and with the factors along the first or the second axis that bring it nearest.

    These only where most channels have one: where most have none, a channel that has one is a fault.
    """
    yield meant
    # what is left out says nothing of the factor
    kept = np.where(np.isfinite(steps), meant, 0.0)
    for axis in range(min(2, now.ndim) if now.ndim > 1 else 0):
        rest = tuple(i for i in range(now.ndim) if i != axis)
        power = np.square(kept).sum(rest, keepdims=True)
        products = (now * kept).sum(rest, keepdims=True)
        factors = np.divide(products, power, out=np.ones_like(power), where=power > 0)
        # a factor is known as well as the channel's numbers are, each rounded by a step over sqrt(12)
        rounded = np.square(np.nan_to_num(steps)).mean(rest, keepdims=True) / 12
        unsure = np.sqrt(np.divide(rounded, power, out=np.zeros_like(power), where=power > 0))
        if np.median(np.abs(factors - 1) - _SURE * unsure) > 0:
            yield meant * factors
