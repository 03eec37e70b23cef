"""ONNX's products of integers: which operand holds weights, and where its scale and zero point stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coreproof.model.graph import Node
from coreproof.model.layer_weights import WeightRef

Array = npt.NDArray[np.float64]


class _Operand(NamedTuple):
    """Places among a node's inputs; ``axis``: along which several scales or zero points lie. None: there is none."""

    numbers: int
    scale: int | None
    zero: int | None
    axis: int


class _Product(NamedTuple):
    operands: tuple[_Operand, _Operand]
    result: int | None = None
    """Where the scale of the result stands, which is a float without one."""


_PRODUCTS = {
    "QLinearConv": _Product((_Operand(0, 1, 2, 0), _Operand(3, 4, 5, 0)), 6),
    # one for each row of the first operand, each column of the second
    "QLinearMatMul": _Product((_Operand(0, 1, 2, -2), _Operand(3, 4, 5, -1)), 6),
    "QGemm": _Product((_Operand(0, 1, 2, -2), _Operand(3, 4, 5, -1)), 7),
    "ConvInteger": _Product((_Operand(0, None, 2, 0), _Operand(1, None, 3, 0))),
    "MatMulInteger": _Product((_Operand(0, None, 2, -2), _Operand(1, None, 3, -1))),
    "MatMulIntegerToFloat": _Product((_Operand(0, 2, 4, -2), _Operand(1, 3, 5, -1))),
    "DynamicQuantizeMatMul": _Product((_Operand(0, None, None, -2), _Operand(1, 2, 3, -1))),
}
"""By the ONNX standard, and ONNX Runtime's ContribOperators.md for what is com.microsoft's."""

INTEGERS = frozenset(_PRODUCTS)


def real_weight(node: Node, parameter: str, held: Mapping[str, WeightRef]) -> WeightRef:
    """What the integers stand for that such a node reads as ``parameter``: less their zero point, times their scale.

    Where the node has no scale for them, they stay whole numbers, of which the scale is unknown.
    """
    operand = next((o for o in _operands(node) if node.inputs[o.numbers : o.numbers + 1] == (parameter,)), None)
    if operand is None:
        return held[parameter]
    parts = [_stored(node, at, held) for at in (operand.scale, operand.zero)]
    # computed while the model runs
    if any(part is None and _is_given(node, at) for part, at in zip(parts, operand[1:3], strict=True)):
        return held[parameter]
    stored, axis = held[parameter], 0 if node.attributes.get("transB") and operand.axis == -1 else operand.axis

    def read() -> Array:
        numbers = np.asarray(stored.read()).astype(np.float64)
        along = [-1 if place == axis % numbers.ndim else 1 for place in range(numbers.ndim)]
        usual = (1.0, 0.0)
        factor, first = (
            np.full(1, without) if part is None else np.asarray(part.read()).astype(np.float64).reshape(-1)
            for part, without in zip(parts, usual, strict=True)
        )
        if numbers.ndim < 2 or not {first.size, factor.size} <= {1, numbers.shape[axis]}:
            return numbers
        real: Array = (numbers - first.reshape(along)) * factor.reshape(along)
        return real

    # what is stored is another thing than these numbers, which cannot be put in its place
    return replace(stored, dtype=stored.dtype if parts[0] is None else "float32", read=read, constant=None)


def scale_beside(node: Node, held: Mapping[str, WeightRef]) -> Array | None:
    """What such a node multiplies a product of real weights by: the other operand's scale over the result's; None if unknown."""
    product = _PRODUCTS[node.operator]
    other = product.operands[1 if node.inputs[0] in held else 0]
    alpha = node.attributes.get("alpha", 1.0)
    if not isinstance(alpha, (int, float)):
        return None
    made = np.full(1, float(alpha))
    for at, over in ((other.scale, False), (product.result, True)):
        if not _is_given(node, at):
            continue
        part = _stored(node, at, held)
        scale = None if part is None else vector(part)
        if scale is None or not scale.all() or 1 not in (scale.size, made.size):
            return None
        made = made / scale if over else made * scale
    return made


def vector(weight: WeightRef) -> Array | None:
    """The numbers of a scale, one or one for each place of an axis; None for what is no such thing."""
    if sum(length > 1 for length in weight.shape) > 1:
        return None
    numbers: Array = np.asarray(weight.read()).astype(np.float64).reshape(-1)
    return numbers if numbers.size and np.isfinite(numbers).all() else None


def _operands(node: Node) -> tuple[_Operand, ...]:
    product = _PRODUCTS.get(node.operator)
    return () if product is None else product.operands


def _is_given(node: Node, at: int | None) -> bool:
    return at is not None and at < len(node.inputs) and bool(node.inputs[at])


def _stored(node: Node, at: int | None, held: Mapping[str, WeightRef]) -> WeightRef | None:
    return held.get(node.inputs[at]) if at is not None and at < len(node.inputs) else None
