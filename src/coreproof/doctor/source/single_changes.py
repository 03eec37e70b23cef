"""Single changes: what a layer ought to hold by the source's own nodes, where no conversion shows it layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from coreproof.difference.settings import set_edit
from coreproof.difference.weight_change import weight_change
from coreproof.doctor.case import Case
from coreproof.doctor.source.layer_differences import LayerDifference, kind_of_array, same_weight
from coreproof.model.graph import Node
from coreproof.verification.row import Row

Array = np.ndarray

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_TAKES_BIAS = {
    "Conv": "B", "ConvTranspose": "B", "Gemm": "C", "conv": "bias", "conv_transpose": "bias", "linear": "bias",
    "convolution": "bias", "innerProduct": "bias", "batchedMatmul": "bias",
}  # fmt: skip
"""operator -> the name of its bias, in the three formats."""
_EPSILONS = (1e-5, 1e-6, 1e-3, 1e-12, 1e-8, 1e-7, 1e-4)
_AXES = ("axis", "axes", "dim", "dims")
_PERMUTATIONS = ("perm", "axes", "axis")
_MOST_WEIGHTS = 1 << 26
"""Elements of a weight beyond which no variant of it is tried."""


@dataclass(frozen=True)
class SourceArray:
    """An array that the source's nodes hold, or that comes from folding them; ``words`` say which it is, and of what."""

    array: Array
    role: str
    owner: str

    @property
    def words(self) -> str:
        """What the number is and whose, for an error or a finding."""
        return f"{self.role} of {self.owner}"


def single_changes(case: Case, row: Row) -> Iterator[LayerDifference]:
    """Single changes of the stretch's layers that would undo a plausible mistake, the likeliest first.

    Weights and biases are the source's own, as they are or with batch normalisation folded in; attributes are those
    of the source's nodes in the stretch, then what is commonly confused with the value that is there.
    """
    layers, nodes = case.evidence.stretch(row)
    held = holdings(case, nodes)
    weights = {node.name: case.weights(node.name) for node in layers}
    for node in layers:
        yield from _of_weights(node, weights[node.name], held)
    for node in layers:
        yield from _of_bias(node, weights[node.name], held)
    for node in layers:
        yield from of_attributes(case, node, nodes)


def holdings(case: Case, nodes: Sequence[Node]) -> list[SourceArray]:
    """The float arrays that ONNX nodes hold, each also as a converter may have folded it."""
    held: list[SourceArray] = []
    for place, node in enumerate(nodes):
        weights = _in_order(node, case.evidence.source_weights(node.name))
        for key, array in weights.items():
            held.append(SourceArray(array, key, repr(node.name)))
        if node.operator in LINEAR and weights:
            held.extend(_folded(case, node, weights, nodes[place + 1 :]))
        if node.operator == "BatchNormalization" and len(weights) == 4:
            factor, offset = _normalisation(node, weights)
            held.append(SourceArray(factor, "the factor", repr(node.name)))
            held.append(SourceArray(offset, "the offset", repr(node.name)))
    return [h for h in held if h.array.dtype.kind == "f" and h.array.size <= _MOST_WEIGHTS]


def _in_order(node: Node, weights: dict[str, Array]) -> dict[str, Array]:
    return {key: weights[key] for key in node.inputs if key in weights} | weights


def _folded(case: Case, node: Node, weights: dict[str, Array], after: Sequence[Node]) -> Iterator[SourceArray]:
    """A linear operator's weight and bias with what follows it folded in, step by step."""
    arrays = list(weights.values())
    weight = arrays[0].astype(np.float64)
    bias = arrays[1].astype(np.float64) if len(arrays) > 1 and arrays[1].ndim <= 1 else None
    axis = _output_axis(node)
    made = node.outputs[0]
    for step in after:
        if made not in step.inputs:
            continue
        found = _affine(case, step, weight.shape[axis])
        if found is None:
            return
        factor, offset = found
        shape = [1] * weight.ndim
        shape[axis] = -1
        weight = weight * factor.reshape(shape)
        bias = (0.0 if bias is None else bias * factor) + offset
        made = step.outputs[0]
        words = f"{node.name!r} with {step.name!r} folded in"
        yield SourceArray(weight.astype(np.float32), "weight", words)
        yield SourceArray(np.asarray(bias, np.float32), "bias", words)


def _output_axis(node: Node) -> int:
    if node.operator == "Gemm":
        return 0 if node.attributes.get("transB") else 1
    return {"Conv": 0, "ConvTranspose": 1}.get(node.operator, -1)


def _affine(case: Case, node: Node, channels: int) -> tuple[Array, Array] | None:
    """The factor and offset a channel that a node applies; None where it does something else."""
    weights = _in_order(node, case.evidence.source_weights(node.name))
    one, zero = np.ones(channels), np.zeros(channels)
    if node.operator == "BatchNormalization" and len(weights) == 4:
        factor, offset = _normalisation(node, {key: w.astype(np.float64) for key, w in weights.items()})
        return (factor, offset) if factor.size == channels else None
    if node.operator not in ("Add", "Mul", "Sub", "Div") or len(weights) != 1:
        return None
    constant = next(iter(weights.values())).astype(np.float64).reshape(-1)
    # a constant that something is taken away from, or divided by, turns the sign or the fraction round
    turned = node.inputs[0] in weights and node.operator in ("Sub", "Div")
    if constant.size not in (1, channels) or turned:
        return None
    constant = constant * one
    return {
        "Add": (one, constant),
        "Sub": (one, -constant),
        "Mul": (constant, zero),
        "Div": (1.0 / np.where(constant == 0, 1.0, constant), zero),
    }[node.operator]


def _normalisation(node: Node, weights: dict[str, Array]) -> tuple[Array, Array]:
    """Factor and offset of a BatchNormalization: gamma (x - mean) / sqrt(variance + epsilon) + beta, epsilon 1e-5 by default."""
    gamma, beta, mean, variance = weights.values()
    factor = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
    return factor, beta - mean * factor


# weights


def _of_weights(node: Node, weights: dict[str, Array], held: Sequence[SourceArray]) -> Iterator[LayerDifference]:
    """Each weight that is none of the source's, as each of those that fit in its place; then all of them together.

    A square weight of the source's may still be turned the wrong way, so it is tried the other way last.
    """
    unknown: list[LayerDifference] = []
    turned: list[LayerDifference] = []
    for key, array in _own_arrays(node, weights):
        fitting = [(h, fit) for h in held if h.array.size == array.size for fit in _fits(h.array, array.shape)]
        known = any(same_weight(array, fit) for _, fit in fitting)
        for origin, fit in fitting:
            if not same_weight(array, fit) and (not known or array.ndim > 1):
                (turned if known else unknown).append(_replaced(node, key, array, origin, fit))
    yield from unknown
    yield from _together(node, weights, held)
    yield from turned


def _replaced(node: Node, key: str, array: Array, origin: SourceArray, fit: Array) -> LayerDifference:
    words = f"{key} is not {origin.words} of the source: {weight_change(key, fit, array).words or 'other numbers'}"
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and the trial shows it
        value = fit.astype(array.dtype) if key in node.parameters else fit.reshape(-1).tolist()
    return LayerDifference(node, kind_of_array(node, key, array), key, words, (set_edit(node.name, key, value),))


def _together(node: Node, weights: dict[str, Array], held: Sequence[SourceArray]) -> Iterator[LayerDifference]:
    """All weights of a layer as one node of the source, or one fold of its nodes, holds them."""
    own = dict(_own_arrays(node, weights))
    if len({array.size for array in own.values()}) != len(own) or len(own) < 2:
        return
    for owner in dict.fromkeys(h.owner for h in held):
        parts = [
            _replaced(node, key, array, h, next(_fits(h.array, array.shape)))
            for key, array in own.items()
            for h in held
            if h.owner == owner and h.array.size == array.size
        ]
        if len(parts) == len(own):
            edits = tuple(step for part in parts for step in part.edits)
            words = "; ".join(part.words for part in parts)
            yield LayerDifference(node, "weight", " and ".join(own), words, edits)


def _own_arrays(node: Node, weights: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """The layer's weights, and the short ones that are shown among its attributes."""
    for key, array in weights.items():
        if array.dtype.kind == "f" and array.size > 1 and not any(word in key for word in ("epsilon", "shape")):
            yield key, array
    for key, value in node.attributes.items():
        if isinstance(value, tuple) and len(value) > 1 and all(isinstance(v, float) for v in value):
            yield key, np.asarray(value, np.float32)


def _fits(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """An array of the source in a shape that the layer wants, in each order of axes that a format may store."""
    # formats order the two axes of channels differently; kernels keep theirs behind them
    orders = [array] if array.ndim < 2 else [array, array.swapaxes(0, 1)]
    exact = [o for o in orders if o.shape == shape]
    for order in exact + [o for o in orders if o.shape != shape]:
        yield np.ascontiguousarray(order).reshape(shape)


def _of_bias(node: Node, weights: dict[str, Array], held: Sequence[SourceArray]) -> Iterator[LayerDifference]:
    """The source's biases, for a layer that could have one and has none."""
    key = _TAKES_BIAS.get(node.operator)
    # ONNX's third input may bear any name
    has = len(node.inputs) > 2 if node.operator in LINEAR else key in weights or key in node.attributes
    if key is None or not weights or has:
        return
    shapes = {n for array in weights.values() for n in array.shape}
    # folded ones stand behind the bare ones, and are what a layer with a fold before it needs
    for origin in reversed(held):
        if origin.array.ndim == 1 and origin.array.size in shapes:
            words = f"{key} is missing; the source has {origin.words}"
            yield LayerDifference(node, "bias", key, words, (set_edit(node.name, key, origin.array),))


def missing_biases(case: Case, row: Row) -> Iterator[LayerDifference]:
    """The source's biases for linear layers just before the stretch: without its bias, such a layer agrees with a bare MatMul.

    They lie before what ``Case.error_with`` runs: the whole model has to be run to judge them.
    """
    layers, nodes = case.evidence.stretch(row)
    held = holdings(case, nodes)
    made = {name for node in layers for name in node.outputs}
    for name in dict.fromkeys(n for node in layers for n in node.inputs if n not in made):
        node = case.graph.producer(name)
        if node is not None:
            yield from _of_bias(node, case.weights(node.name), held)


# attributes


def of_attributes(case: Case, node: Node, nodes: Sequence[Node]) -> Iterator[LayerDifference]:
    """A layer with one attribute as one of the source's nodes has it, or as what is commonly confused with its value."""
    for key, value in node.attributes.items():
        for fresh in _variants(case, node, key, value, nodes):
            if fresh != (list(value) if isinstance(value, tuple) else value):
                words = f"{key} is {value}, and {fresh} does what the source does"
                yield LayerDifference(node, "attribute", key, words, (set_edit(node.name, key, fresh),))


def _variants(case: Case, node: Node, key: str, value: object, nodes: Sequence[Node]) -> Iterator[object]:
    name = key.rsplit(".", 1)[-1]
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, float):
        yield from _floats(case, name, nodes)
    elif isinstance(value, int) and name in _AXES:
        rank = _rank(case, node)
        yield from range(rank) if value >= 0 else range(-rank, 0)
    elif isinstance(value, int) and name in ("ceil_mode", "count_include_pad"):  # ONNX has no truth values
        yield 1 - value
    elif isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
        yield from _integers(case, node, name, list(value), nodes)
    elif name == "borderAmounts":
        for pads in _pads(nodes, interleaved=True):
            ends = zip(pads[::2], pads[1::2], strict=True)
            yield [{"startEdgeSize": start, "endEdgeSize": end} for start, end in ends]


def _floats(case: Case, name: str, nodes: Sequence[Node]) -> Iterator[float]:
    if "eps" in name.lower():
        yield from dict.fromkeys(
            (*(float(n.attributes["epsilon"]) for n in nodes if "epsilon" in n.attributes), *_EPSILONS)
        )
        return
    # any float of the source's nodes: what the formats call it differs too much (alpha, slope, beta)
    found = [v for n in nodes for v in n.attributes.values() if isinstance(v, float)]
    factors = [
        float(array.reshape(-1)[0])
        for n in nodes
        if n.operator == "Mul"
        for array in case.evidence.source_weights(n.name).values()
        if array.size == 1 and array.dtype.kind == "f"
    ]
    # two of them as one: a conversion scales the queries of attention by what scales the keys, too
    found += [a * b for a, b in combinations(factors, 2)]
    yield from dict.fromkeys((*found, 1.0))


def _integers(case: Case, node: Node, name: str, value: list[int], nodes: Sequence[Node]) -> Iterator[list[int]]:
    """Pads and permutations: the source's own first, in the candidate's order."""
    if name in ("pad", "pads"):
        yield from ([*pads] for pads in _pads(nodes, interleaved=name == "pad") if len(pads) == len(value))
    elif name in _PERMUTATIONS and sorted(v % len(value) for v in value) == list(range(len(value))) and len(value) > 1:
        for other in nodes:
            if len(perm := other.attributes.get("perm", ())) == len(value):
                yield list(perm)
        for a, b in combinations(range(len(value)), 2):
            swapped = list(value)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            yield swapped
    elif name in _AXES:
        rank = _rank(case, node)
        yield from (list(axes) for axes in combinations(range(-rank, 0), len(value)))
    elif name in ("strides", "dilations", "stride", "dilation", "dilationFactor"):
        for other in nodes:
            for key in ("strides", "dilations"):
                if len(found := other.attributes.get(key, ())) == len(value):
                    yield list(found)


def _pads(nodes: Sequence[Node], *, interleaved: bool) -> Iterator[list[int]]:
    """The pads of the source's nodes; ``interleaved``: start and end of each axis side by side, as MIL has them."""
    for node in nodes:
        pads = list(node.attributes.get("pads", ()))
        if not pads and node.operator in ("Conv", "AveragePool", "MaxPool"):
            pads = [0] * 2 * len(node.attributes.get("kernel_shape", (0, 0)))
        half = len(pads) // 2
        if pads:
            yield [n for pair in zip(pads[:half], pads[half:], strict=True) for n in pair] if interleaved else pads


def _rank(case: Case, node: Node) -> int:
    shapes = case.evidence.shapes
    return max((len(shapes[n]) for n in (*node.inputs, *node.outputs) if n in shapes), default=4) or 1
