"""Logarithms of sums of exponentials, and steps that a graph counts itself: written out, float16 holds neither.

The exponential of 12 is beyond float16 already, and its logarithm is 12 again. A quantisation that is written out divides by a
scale that is computed, and rounds: in float16 the quotient lies at another step. Both are computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.paths import Use, is_shaped, leading_to, names_of

_SUMS = ("ReduceSum", "ReduceMean", "Add", "Sum", "CumSum")
_COUNTED = ("Round", "Add", "Sub", "Clip", "Max", "Min", "Identity")
_MEASURED = ("Div", "Mul", "Add", "Sub", "Max", "Min", "Clip", "ReduceMax", "ReduceMin", "Abs", "Neg", "Round")
_BYTES = (ir.DataType.UINT8, ir.DataType.INT8)
_MOST = 8
"""So many operators lie between the two ends at most."""


def logarithms_of_exponentials(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """The values from an exponential through sums to its logarithm."""
    for node in graph:
        if node.op_type == "Exp" and (path := leading_to(node.outputs[0], _is_logarithm, _is_sum, _MOST)):
            yield from names_of((node, *path))


def _is_logarithm(use: Use) -> list[ir.Node]:
    return [use.node] if use.node.op_type == "Log" else []


def _is_sum(use: Use) -> bool:
    return use.node.op_type in _SUMS or is_shaped(use.node.op_type)


def counted_steps(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What is rounded and cast to bytes, with all that its quotient is made of; and what the standard counts so."""
    for node in graph:
        if node.op_type in ("DynamicQuantizeLinear", "NonMaxSuppression"):  # an overlap is compared with a threshold
            yield from (o.name or "" for o in node.outputs)
        elif node.op_type == "Cast" and node.attributes["to"].as_int() in _BYTES:
            rounded = _rounded(node.inputs[0])
            if rounded is not None:
                yield from names_of((*rounded, *_measured(rounded[-1].inputs[0])))


def _rounded(value: ir.Value | None) -> list[ir.Node] | None:
    """The operators from a rounding to ``value``, the rounding last; None where there is none."""
    path: list[ir.Node] = []
    while value is not None and (node := value.producer()) is not None and len(path) < _MOST:
        if node.op_type not in _COUNTED:
            return None
        path.append(node)
        if node.op_type == "Round":
            return path
        value = node.inputs[0]
    return None


def _measured(value: ir.Value | None) -> list[ir.Node]:
    """What a quotient is made of: the scale, and the range that it comes from."""
    found: dict[ir.Node, None] = {}
    waiting = [value]
    while waiting and len(found) < 4 * _MOST:
        one = waiting.pop()
        node = None if one is None else one.producer()
        if node is not None and node not in found and (node.op_type in _MEASURED or is_shaped(node.op_type)):
            found[node] = None
            waiting.extend(node.inputs)
    return list(found)
