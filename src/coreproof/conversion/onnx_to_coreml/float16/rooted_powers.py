"""Roots of sums of powers that a model writes out (RMS norms, deviations), of which float16 holds the ends alone.

The square of 256 is beyond float16, so that ``x / sqrt(mean(x^2))`` becomes zero for a row of 300s, and a deviation infinite.
What lies between the powers and what their root divides is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.model.onnx.constants import known_tensor

_SHAPED = frozenset(("Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Transpose", "Flatten"))
_SUMS = frozenset(("ReduceSum", "ReduceMean", "Add", "Max", "Clip")) | _SHAPED
_SCALES = frozenset(("Mul", "Div"))
_MOST = 16
"""So many operators lie between a power and its root at most."""


def roots_of_powers(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """The values between the powers of something, summed up or averaged, and what their root divides."""
    for node in graph:
        if not _is_power(node, constants):
            continue
        path = _to_root(node.outputs[0], constants, _MOST)
        if path:
            yield from (o.name or "" for n in (*_centred(node), node, *path) for o in n.outputs)


def _is_power(node: ir.Node, constants: Mapping[str, np.ndarray]) -> bool:
    if node.op_type == "ReduceSumSquare":
        return True
    # x * x, as exporters write a square
    if node.op_type == "Mul":
        return node.inputs[0] is not None and node.inputs[0] is node.inputs[1]
    exponent = _exponent(node, constants)
    # a power below 1 is a root, and makes numbers smaller
    return exponent is not None and exponent > 1


def _exponent(node: ir.Node, constants: Mapping[str, np.ndarray]) -> float | None:
    if node.op_type != "Pow" or node.inputs[1] is None:
        return None
    known = constants.get(node.inputs[1].name or "")
    if known is None and (tensor := known_tensor(node.inputs[1])) is not None:
        known = tensor.numpy()  # an integer
    return float(known.reshape(-1)[0]) if known is not None and known.size == 1 else None


def _is_root(node: ir.Node, at: int, constants: Mapping[str, np.ndarray]) -> bool:
    exponent = _exponent(node, constants)
    return node.op_type == "Sqrt" or (at == 0 and exponent is not None and exponent < 1)


def _centred(node: ir.Node) -> list[ir.Node]:
    """The difference that is squared or divided: of two numbers within float16 it may lie beyond."""
    made = node.inputs[0].producer() if node.inputs[0] is not None else None
    return [made] if made is not None and made.op_type == "Sub" else []


def _to_root(value: ir.Value, constants: Mapping[str, np.ndarray], depth: int) -> list[ir.Node]:
    """The operators from ``value`` to a root and what that divides; none where no root is reached."""
    found: list[ir.Node] = []
    for use in value.uses() if depth else ():
        reader = use.node
        if _is_root(reader, use.idx, constants):
            found += [reader, *_divided(reader.outputs[0], constants, depth - 1)]
        elif reader.op_type in _SUMS or (reader.op_type in _SCALES and _by_constant(reader, use.idx, constants)):
            further = _to_root(reader.outputs[0], constants, depth - 1)
            found += [reader, *further] if further else []
    return found


def _by_constant(node: ir.Node, at: int, constants: Mapping[str, np.ndarray]) -> bool:
    other = node.inputs[1 - at] if len(node.inputs) == 2 else None
    # divided by a number, a sum stays one; a number divided by it does not
    return other is not None and (other.name or "") in constants and (node.op_type == "Mul" or at == 0)


def _divided(root: ir.Value, constants: Mapping[str, np.ndarray], depth: int) -> list[ir.Node]:
    """What divides by the root, or multiplies by its reciprocal, which may be too small a number for float16."""
    found: list[ir.Node] = []
    for use in root.uses() if depth else ():
        reader = use.node
        if reader.op_type == "Div" and use.idx == 1:
            found += [*_centred(reader), reader]
        elif reader.op_type == "Reciprocal":
            found += [reader, *_products(reader.outputs[0], depth - 1)]
        elif reader.op_type in _SHAPED or reader.op_type in ("Add", "Max", "Clip"):
            further = _divided(reader.outputs[0], constants, depth - 1)
            found += [reader, *further] if further else []
    return found


def _products(inverse: ir.Value, depth: int) -> list[ir.Node]:
    found: list[ir.Node] = []
    for use in inverse.uses() if depth else ():
        if use.node.op_type == "Mul":
            found.append(use.node)
        elif use.node.op_type in _SHAPED:
            found += [use.node, *_products(use.node.outputs[0], depth - 1)]
    return found
