"""Normalisations whose epsilon float16 does not hold: they are computed in float32, where what they normalise may be small.

BERT's 1e-12 becomes 6e-8 in float16. Beside a variance of 1 that is nothing; of numbers around 1e-3 it is 6% of the variance, of
numbers around 1e-5 nearly all. Two casts around each layer normalisation are dear, and split a network between engines. So what
is known to be large enough stays in float16: what another normalisation scaled, what rows of a table are added to (embeddings,
positions), and what is made of these with stored weights. It is an estimate of a usual size, and no bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.float16.limits import LOST, share_lost
from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.onnx_to_coreml.paths import names_of
from coreproof.conversion.operators import meaning

_FACTORS = {
    "LayerNormalization": 1, "InstanceNormalization": 1, "GroupNormalization": 1, "RMSNormalization": 1, "GroupNorm": 1,
    "SimplifiedLayerNormalization": 1, "SkipLayerNormalization": 2, "SkipSimplifiedLayerNormalization": 2,
    "EmbedLayerNormalization": 5, "MeanVarianceNormalization": -1, "BatchNormalization": 1,
}  # fmt: skip
"""The normalisations, and which operand holds the factor that comes behind."""
_DEFAULTS = {
    "SkipLayerNormalization": 1e-12, "SkipSimplifiedLayerNormalization": 1e-12, "EmbedLayerNormalization": 1e-12,
    "MeanVarianceNormalization": 1e-9,
}  # fmt: skip
_ENOUGH = 1 / 64
"""A deviation beside which 6e-8 under the root is less than what rounding to float16 does."""
_LAYERS = ("MatMul", "Gemm", "Conv")
_ACTIVATIONS = ("Relu", "Gelu", "Swish", "HardSwish", "LeakyRelu")
_LEFT = 1 / 4
"""What an activation leaves of a deviation, or less than that."""
_LOOKED_AT = 64
"""So many rows say how much the numbers of a table differ along them."""


def faint_epsilons(graph: ir.Graph, constants: Mapping[str, Array]) -> Iterator[str]:
    """The results of normalisations that lose their epsilon, unless what they read is known to differ by more."""
    lost = [node for node in graph if node.op_type in _FACTORS and _is_lost(node, constants)]
    deviations = _deviations(graph, constants) if lost else {}
    for node in lost:
        if max((deviations.get(v.name or "", 0.0) for v in _normalised(node)), default=0.0) < _ENOUGH:
            yield from names_of([node])


def _is_lost(node: ir.Node, constants: Mapping[str, Array]) -> bool:
    said = node.attributes.get("epsilon")
    epsilon = _DEFAULTS.get(node.op_type, 1e-5) if said is None else said.as_float()
    if node.op_type == "BatchNormalization":
        training = node.attributes.get("training_mode")
        # with stored statistics it is a factor and an offset, made before the model runs
        if all(v is not None and v.name in constants for v in node.inputs[1:5]) and not (
            training and training.as_int()
        ):
            return False
    return share_lost(np.array([epsilon])) > LOST


def _normalised(node: ir.Node) -> list[ir.Value]:
    """What is normalised; where it is a sum that the operator makes, its terms."""
    if node.op_type == "EmbedLayerNormalization":
        return [v for v in node.inputs[2:5] if v is not None]
    count = 2 if node.op_type.startswith("Skip") else 1
    return [v for v in node.inputs[:count] if v is not None]


def _deviations(graph: ir.Graph, constants: Mapping[str, Array]) -> Mapping[str, float]:
    """By how much the numbers of values usually differ; values of which nothing is known are left out."""
    found: dict[str, float] = {}

    def known(value: ir.Value | None) -> float:
        name = "" if value is None else value.name or ""
        if name not in found and name in constants:
            found[name] = _along_rows(constants[name])
        return found.get(name, 0.0)

    for node in graph:
        size = _deviation(node, [known(v) for v in node.inputs], constants)
        if size:
            found.update((value.name or "", size) for value in node.outputs)
    return found


def _deviation(node: ir.Node, read: list[float], constants: Mapping[str, Array]) -> float:
    """Of a node's result, from those of what it reads; 0 where it is not known."""
    operator = node.op_type
    if operator in _FACTORS:
        at = _FACTORS[operator]
        return _size(node.inputs[at], constants, otherwise=1.0) if 0 <= at < len(node.inputs) else 1.0
    if operator in ("Add", "Sub", "Sum"):
        return max(read, default=0.0)
    if operator in ("Mul", "Div") and len(node.inputs) == 2:
        return _scaled(node, read, constants)
    if operator in _LAYERS:
        weight = node.inputs[1]
        added = read[2] if operator == "Gemm" and len(read) > 2 else 0.0
        return max(read[0] * _size(weight, constants) * float(np.sqrt(_summands(node, weight))), added)
    if operator in _ACTIVATIONS:
        return read[0] * _LEFT
    if operator == "Concat":
        return min(read, default=0.0)
    # of a table, a Gather picks rows
    handed = operator == "Gather" or (
        "hands_on" in meaning(operator) and not operator.startswith(("Scatter", "Reduce"))
    )
    return read[0] if read and handed else 0.0


def _scaled(node: ir.Node, read: list[float], constants: Mapping[str, Array]) -> float:
    places = (0, 1) if node.op_type == "Mul" else (1,)
    for at in places:
        if size := _size(node.inputs[at], constants):
            return read[1 - at] * size if node.op_type == "Mul" else read[0] / size
    return 0.0


def _summands(node: ir.Node, weight: ir.Value | None) -> float:
    """How many products a layer adds to one result."""
    shape = None if weight is None or weight.shape is None else [n for n in weight.shape if isinstance(n, int)]
    if not shape:
        return 1.0
    if node.op_type == "Conv":
        return float(np.prod(shape[1:]))
    turned = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int()
    return float(shape[-1 if turned or len(shape) == 1 else -2])


def _size(value: ir.Value | None, constants: Mapping[str, Array], otherwise: float = 0.0) -> float:
    """The root mean square of a stored operand, of a part of it where it is large; ``otherwise`` where it is not stored."""
    if value is None or (value.name or "") not in constants:
        return otherwise
    array = constants[value.name or ""].reshape(-1)
    some = array[:: max(array.size // 4096, 1)].astype(np.float64)
    return float(np.sqrt(np.mean(np.square(some)))) if some.size else 0.0


def _along_rows(array: Array) -> float:
    """By how much numbers of a stored array differ along its last axis, in the middle one of its rows that are not zero."""
    if array.ndim == 0 or not array.size:
        return 0.0
    rows = array.reshape(-1, array.shape[-1])
    each = rows[:: max(len(rows) // _LOOKED_AT, 1)].astype(np.float64).std(axis=1)
    each = each[each > 0]
    return float(np.median(each)) if each.size else 0.0
