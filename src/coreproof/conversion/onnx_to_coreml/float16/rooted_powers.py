"""Roots of sums of powers that a model writes out (RMS norms, deviations), of which float16 holds the ends alone.

The square of 256 is beyond float16, so that ``x / sqrt(mean(x^2))`` becomes zero for a row of 300s, and a deviation infinite.
What lies between the powers and what their root divides is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.paths import Use, is_shaped, leading_to, names_of, to_operators
from coreproof.model.onnx.constants import known_tensor

_SUMS = ("ReduceSum", "ReduceMean", "Add", "Max", "Clip")
_SCALES = ("Mul", "Div")
_MOST = 16
"""So many operators lie between a power and its root at most."""


def roots_of_powers(graph: ir.Graph, constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """The values between the powers of something, summed up or averaged, and what their root divides."""
    for node in graph:
        if not _is_power(node, constants):
            continue
        path = _to_root(node.outputs[0], constants)
        if path:
            yield from names_of((*_centred(node), node, *path))


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


def _to_root(value: ir.Value, constants: Mapping[str, np.ndarray]) -> list[ir.Node]:
    """The operators from ``value`` to a root and what that divides; none where no root is reached."""

    def ends(use: Use) -> list[ir.Node]:
        return [use.node, *_divided(use.node.outputs[0])] if _is_root(use.node, use.idx, constants) else []

    def passes(use: Use) -> bool:
        operator = use.node.op_type
        scales = operator in _SCALES and _by_constant(use.node, use.idx, constants)
        return scales or operator in _SUMS or is_shaped(operator)

    return leading_to(value, ends, passes, _MOST)


def _by_constant(node: ir.Node, at: int, constants: Mapping[str, np.ndarray]) -> bool:
    other = node.inputs[1 - at] if len(node.inputs) == 2 else None
    # divided by a number, a sum stays one; a number divided by it does not
    return other is not None and (other.name or "") in constants and (node.op_type == "Mul" or at == 0)


def _divided(root: ir.Value) -> list[ir.Node]:
    """What divides by the root, or multiplies by its reciprocal, which may be too small a number for float16."""

    def ends(use: Use) -> list[ir.Node]:
        if use.node.op_type == "Div" and use.idx == 1:
            return [*_centred(use.node), use.node]
        inverse = use.node.op_type == "Reciprocal"
        return [use.node, *to_operators(use.node.outputs[0], "Mul")] if inverse else []

    return leading_to(
        root, ends, lambda use: use.node.op_type in ("Add", "Max", "Clip") or is_shaped(use.node.op_type), _MOST
    )
