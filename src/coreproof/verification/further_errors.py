"""What values are off besides what their operator's class says: scales as normalisations, Fourier transforms, rounds of a loop.

Each is a share of the value's scale, by the names of the candidate's values.

A transform whose length is no power of two is computed by ONNX Runtime with Bluestein's algorithm: three products with
exp(i pi n^2 / N). The angles reach pi N and are rounded to float32, each to u of itself: over n = 0 ... N - 1 that is
pi N u / sqrt(3 * 5) in the root mean square, sqrt(5) times as much at the last one, and three of them make sqrt(3) times that.

A loop that computes its state T times rounds it T times. Where its body neither amplifies nor forgets, roundings in random
directions add up to sqrt(T) of one.

An engine that sums a product of matrices in the width in which the program stores it rounds each of the K partial sums to that:
u * sqrt(K / 2) of its size (rule 2 of tolerance.py, with the u of the format).

A softmax adds up K exponentials. Along the last axis engines do so in many lanes at once; along another one, PyTorch adds one
after the other. The k-th partial sum is about k / K of the whole and is rounded to u / 2 of itself, so that the sum is off by
u * sqrt(K / 12), and a whole row with it: by that share, and its logarithm by that number. Measured at K from 64 to 65,536:
0.83 of it.

An exponential linear unit of a negative number is exp(x) - 1 to engines: the exponential is rounded to u, however near to 1 it
is, while PyTorch takes the difference itself (expm1).

A stored number that is added is rounded to its format like any value. Where it and what it is added to cancel, that is more than
the result's own rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from coreproof.conversion.operators import canonical_op, error_class, operation_of
from coreproof.model.base import Model
from coreproof.model.features import Shape
from coreproof.model.graph import Graph, Node
from coreproof.model.layer_weights import weights_by_layer
from coreproof.model.numbers import UNIT_ROUNDOFF, rms
from coreproof.model.onnx.model import OnnxModel
from coreproof.pairing.align import Pair
from coreproof.pairing.operators import interpolates, summand_count
from coreproof.verification.contrast import softmax_axis
from coreproof.verification.fills import largest_finite, ordinary_part
from coreproof.verification.fused import fused_scales

_BLUESTEIN = math.pi / math.sqrt(5.0)
"""The error of a transform of length N, in units of N u: sqrt(3) * pi / sqrt(3 * 5)."""


PER_PLACE = 3.0
"""Roundings of a place at which is read, as they reach the result: a quotient and a product round it (1.4 times the place), and
neighbours differ by 1.4 of the scale, in a cubic's weights by half as much again."""


_MOST_SUMMANDS = 1 << 20
"""Of larger constants the rounding is left out of account: reading them costs more than it tells."""


class Further(NamedTuple):
    """A share of the value's scale, in the root mean square; ``uneven``: how much larger it is where it is largest.

    ``absolute``: what comes on top whatever the value's scale is.
    """

    share: float = 0.0
    uneven: float = 1.0
    absolute: float = 0.0


def further_errors(
    pairs: Sequence[Pair],
    reference: Model,
    candidate: Model,
    stored: Mapping[str, str],
    *,
    sums_as_stored: bool = False,
) -> Mapping[str, Further]:
    """By the candidate's values; ``stored`` says in which format each is kept, the coarser of the two sides'.

    ``sums_as_stored``: either side's engine sums products of matrices in that format.
    """
    found = {name: Further(share) for name, share in fused_scales(candidate).items()}
    transformed = _transforms(reference)
    found.update({p.candidate: transformed[p.reference] for p in pairs if p.reference in transformed})
    found.update(_transforms(candidate))
    found.update(_places(pairs, reference.graph, candidate.graph))
    found.update(_softmaxes(pairs, reference.graph, candidate.graph))
    found.update(_less_one(candidate.graph))
    for node, rounds in rounds_of_loops(pairs, reference.graph, candidate.graph):
        # a list that it collects says no format: it is that of the state
        unit = max(UNIT_ROUNDOFF.get(stored.get(name, ""), UNIT_ROUNDOFF["float32"]) for name in node.outputs)
        found.update(dict.fromkeys(node.outputs, Further(unit * math.sqrt(rounds))))
    if sums_as_stored:
        found.update(_sums(candidate.graph, stored))
    for name, absolute in _summands(candidate, stored):
        found[name] = found.get(name, Further())._replace(absolute=absolute)
    return found


def _summands(model: Model, stored: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """What the rounding of stored numbers adds to the results they are added to, where these are kept in less than float32."""
    read: Callable[[str], dict[str, np.ndarray]] | None = None
    for node in model.graph.nodes:
        if error_class(operation_of(node)) != "add":
            continue
        units = {
            name: UNIT_ROUNDOFF[dtype]
            for name, (dtype, shape) in node.parameters.items()
            if UNIT_ROUNDOFF.get(dtype, 0.0) > UNIT_ROUNDOFF["float32"] and math.prod(shape) <= _MOST_SUMMANDS
        }
        if units and any(stored.get(name, "float32") != "float32" for name in node.outputs):
            read = read or weights_by_layer(model)
            weights = read(node.name)
            absolute = math.hypot(*(unit * _ordinary(weights[name]) for name, unit in units.items() if name in weights))
            yield from dict.fromkeys(node.outputs, absolute).items()


def _ordinary(summands: np.ndarray) -> float:
    """The size of stored numbers beside fills, which are rounded at their own places, and take all else with them."""
    part = ordinary_part(summands, largest_finite(summands))
    return rms(summands[np.isfinite(summands)]) if part is None else part.scale


def _sums(graph: Graph, stored: Mapping[str, str]) -> Iterator[tuple[str, Further]]:
    """The products of matrices that are stored in less than float32."""
    for node in graph.nodes:
        unit = max((UNIT_ROUNDOFF.get(stored.get(name, ""), 0.0) for name in node.outputs), default=0.0)
        if canonical_op(node.operator) == "linear" and unit > UNIT_ROUNDOFF["float32"]:
            value = graph.values.get(node.inputs[0]) if node.inputs else None
            length = value.shape[-1] if value is not None and value.shape else None
            terms = length if isinstance(length, int) else summand_count(node, (), None)
            yield from dict.fromkeys(node.outputs, Further(unit * math.sqrt(terms / 2))).items()


def _softmaxes(pairs: Sequence[Pair], reference: Graph, candidate: Graph) -> Iterator[tuple[str, Further]]:
    """The softmaxes that either side computes along another axis than the last."""
    partners = {pair.candidate: pair.reference for pair in pairs}
    for pair in pairs:
        made = candidate.producer(pair.candidate)
        nodes = (made, reference.producer(pair.reference))
        # it has the shape of what it reads, on both sides: a file may say one of them alone
        names = [pair.candidate, *(made.inputs[:1] if made is not None else ())]
        values = [candidate.values.get(name) for name in names]
        values += [reference.values.get(partners.get(name, name)) for name in names]
        shape = next((value.shape for value in values if value is not None and value.shape), ())
        terms = max(_added_in_a_row(node, shape) for node in nodes)
        if terms:
            off = UNIT_ROUNDOFF["float32"] * math.sqrt(terms / 12)
            logarithm = made is not None and canonical_op(made.operator).startswith("log")
            yield pair.candidate, Further(absolute=off) if logarithm else Further(off)


_LESS_ONE = {"elu": 1.0, "celu": 1.0, "selu": 1.0507 * 1.6733}
"""By what the difference from 1 is multiplied, where the layer does not say it (``alpha``)."""


def _less_one(graph: Graph) -> Iterator[tuple[str, Further]]:
    """The exponential linear units."""
    for node in graph.nodes:
        factor = _LESS_ONE.get(canonical_op(operation_of(node)))
        if factor is not None:
            said = next((v for k, v in node.attributes.items() if k.rpartition(".")[2] == "alpha"), None)
            size = abs(said) if isinstance(said, int | float) else factor
            yield from dict.fromkeys(node.outputs, Further(absolute=UNIT_ROUNDOFF["float32"] * size)).items()


def _added_in_a_row(node: Node | None, shape: Shape) -> int:
    """How many exponentials a softmax that makes a value adds up one after the other; 0 where none does."""
    axis = None if node is None else softmax_axis(node)
    if axis is None or not -len(shape) <= axis < len(shape) or axis in (-1, len(shape) - 1):
        return 0
    length = shape[axis]
    return length if isinstance(length, int) else 0


def _places(pairs: Sequence[Pair], reference: Graph, candidate: Graph) -> Iterator[tuple[str, Further]]:
    """What the reference reads between neighbours, at places that it rounds, and the candidate by exact weights (a product)."""
    partners = {pair.reference: pair.candidate for pair in pairs}
    for pair in pairs:
        made, meant = candidate.producer(pair.candidate), reference.producer(pair.reference)
        if made is None or meant is None or not interpolates(meant.operator) or interpolates(made.operator):
            continue
        if str(meant.attributes.get("mode", "")).lower() == "nearest":
            continue
        # a file may leave out the shape of what is read, of which the other side knows it; a product of its own reads what an
        # earlier one made shorter
        read = partners.get(meant.inputs[0], "") if meant.inputs else ""
        longest = longest_place(meant, reference) or _longest(read, candidate)
        longest = longest or _longest_since(pair.candidate, candidate, set(partners.values()))
        yield pair.candidate, Further(PER_PLACE * UNIT_ROUNDOFF["float32"] * longest)


def _longest_since(name: str, graph: Graph, paired: Collection[str]) -> int:
    """The longest axis of what a value is made of, weights too, back to the nearest values that have partners."""
    found, front, seen = 0, [name], {name}
    while front:
        node = graph.producer(front.pop())
        if node is None:
            continue
        weights = (length for _, shape in node.parameters.values() for length in shape)
        found = max(found, *weights, *(_longest(read, graph) for read in node.inputs), 0)
        new = [read for read in node.inputs if read not in seen and read not in paired]
        seen.update(new)
        front += new
    return found


def longest_place(node: Node, graph: Graph) -> int:
    """The largest place at which an interpolation reads: the longest axis behind batch and channels; 0 where it is not known."""
    return _longest(node.inputs[0], graph) if node.inputs else 0


def _longest(name: str, graph: Graph) -> int:
    value = graph.values.get(name)
    lengths = [n for n in (value.shape or ())[2:] if isinstance(n, int)] if value is not None else []
    return max(lengths, default=0)


def _transforms(model: Model) -> dict[str, Further]:
    """The results of an ONNX model's Fourier transforms whose length is no power of two."""
    if not isinstance(model, OnnxModel):
        return {}
    found = {}
    for node in model.ir.graph:
        length = _length(node) if node.op_type in ("DFT", "STFT") else None
        if length is not None and length & (length - 1):
            further = Further(_BLUESTEIN * length * UNIT_ROUNDOFF["float32"], math.sqrt(5.0))
            found.update({value.name or "": further for value in node.outputs})
    return found


def _length(node: ir.Node) -> int | None:
    """The length of a transform; None where it is not known before it runs."""
    read = list(node.inputs)
    if node.op_type == "STFT":  # signal, step, window, length of a frame
        return _number(read, 3) or _lengths(read, 2, 0)
    said = _number(read, 1)
    if said is not None:
        return said
    axis = _number(read, 2)
    if axis is None:
        axis = node.attributes.get_int("axis", 1 if (node.version or 17) < 20 else -2)
    return _lengths(read, 0, axis)


def _number(read: Sequence[ir.Value | None], at: int) -> int | None:
    value = read[at] if at < len(read) else None
    known = None if value is None else ir.convenience.get_const_tensor(value)
    return int(np.asarray(known.numpy()).reshape(-1)[0]) if known is not None and known.size else None


def _lengths(read: Sequence[ir.Value | None], at: int, axis: int) -> int | None:
    value = read[at] if at < len(read) else None
    if value is None or value.shape is None or not -len(value.shape) <= axis < len(value.shape):
        return None
    length = value.shape[axis]
    return length if isinstance(length, int) else None


def rounds_of_loops(pairs: Sequence[Pair], reference: Graph, candidate: Graph) -> Iterator[tuple[Node, int]]:
    """The candidate's loops, with how often each body runs, as far as either side says it."""
    partners = {pair.candidate: pair.reference for pair in pairs}
    for node in candidate.nodes:
        if canonical_op(node.operator) not in ("whileloop", "loop", "scan") or not node.blocks:
            continue
        known = [*_listed(candidate, node)]
        for name in node.outputs:
            other = reference.producer(partners.get(name, ""))
            known += _scanned(reference, other) if other is not None and other.blocks else ()
        if known and node.outputs:
            yield node, max(known)


def _listed(graph: Graph, node: Node) -> Iterator[int]:
    """How long the lists are that a loop writes to, and what it scans."""
    yield from _scanned(graph, node)
    for name in node.inputs:
        maker = graph.producer(name)
        length = maker.attributes.get("init_length") if maker is not None and maker.operator == "make_list" else None
        if isinstance(length, int):
            yield length


def _scanned(graph: Graph, node: Node) -> Iterator[int]:
    """The lengths along which a Scan goes, and those of what it or a Loop collects."""
    if canonical_op(node.operator) not in ("scan", "loop"):
        return
    carried = len(node.blocks[0].inputs)
    scanned = int(number) if isinstance(number := node.attributes.get("num_scan_inputs"), int) else 0
    states = carried - scanned if scanned else carried - 2
    for name in (*node.inputs[len(node.inputs) - scanned :], *node.outputs[states:]):
        value = graph.values.get(name)
        if value is not None and value.shape and isinstance(value.shape[0], int):
            yield value.shape[0]
