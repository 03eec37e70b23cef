"""Logarithms of sums of exponentials, and steps that a graph counts itself: written out, float16 holds neither.

The exponential of 12 is beyond float16 already, and its logarithm is 12 again. A quantisation that is written out divides by a
scale that is computed, and rounds: in float16 the quotient lies at another step. Both are computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

_SHAPED = frozenset(("Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Flatten"))
_SUMS = frozenset(("ReduceSum", "ReduceMean", "Add", "Sum", "CumSum")) | _SHAPED
_COUNTED = frozenset(("Round", "Add", "Sub", "Clip", "Max", "Min", "Identity"))
_MEASURED = (
    frozenset(("Div", "Mul", "Add", "Sub", "Max", "Min", "Clip", "ReduceMax", "ReduceMin", "Abs", "Neg", "Round"))
    | _SHAPED
)
_BYTES = (ir.DataType.UINT8, ir.DataType.INT8)
_MOST = 8
"""So many operators lie between the two ends at most."""


def logarithms_of_exponentials(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """The values from an exponential through sums to its logarithm."""
    for node in graph:
        if node.op_type == "Exp" and (path := _to_logarithm(node.outputs[0], _MOST)):
            yield from (o.name or "" for n in (node, *path) for o in n.outputs)


def _to_logarithm(value: ir.Value, depth: int) -> list[ir.Node]:
    found: list[ir.Node] = []
    for use in value.uses() if depth else ():
        reader = use.node
        if reader.op_type == "Log":
            found.append(reader)
        elif reader.op_type in _SUMS:
            further = _to_logarithm(reader.outputs[0], depth - 1)
            found += [reader, *further] if further else []
    return found


def counted_steps(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What is rounded and cast to bytes, with all that its quotient is made of; and what the standard counts so."""
    for node in graph:
        if node.op_type in ("DynamicQuantizeLinear", "NonMaxSuppression"):  # an overlap is compared with a threshold
            yield from (o.name or "" for o in node.outputs)
        elif node.op_type == "Cast" and node.attributes["to"].as_int() in _BYTES:
            rounded = _rounded(node.inputs[0])
            if rounded is not None:
                yield from (o.name or "" for n in (*rounded, *_measured(rounded[-1].inputs[0])) for o in n.outputs)


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
        if node is not None and node not in found and node.op_type in _MEASURED:
            found[node] = None
            waiting.extend(node.inputs)
    return list(found)
