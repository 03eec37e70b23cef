"""Core ML's integers have 32 bits, ONNX's mostly 64: what does not fit is refused by name, and never clipped or wrapped.

A constant is looked at where it is read. A product whose factors, each of which may be any integer that can be fed, reach beyond
32 bits is looked at while the model runs (``checked_products``), or refused in a NeuralNetwork, unless it only picks elements or
says a shape: there what is too large is wrong in the source as well.
Sums are let through: they leave 32 bits only from the very edge of what can be fed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.operators import ONNX, meaning
from coreproof.errors import ConversionError

_LIMITS = np.iinfo(np.int32)
_ANY = float(2**31)
_LENGTH = 0.0
"""The size of lengths and positions: what is made of them is within memory, however often they are multiplied."""

_WIDE = (ir.DataType.INT64, ir.DataType.UINT64, ir.DataType.UINT32)
_TO_THE_END = {"Slice": (1, 2), "Trilu": (1,), "Min": (0, 1), "Max": (0, 1), "Clip": (1, 2), "Loop": (0,)}
"""Operands in which a number beyond 32 bits means the end, or does not bound at all."""


def check_constants(node: ir.Node, operands: Sequence[object], *, is_network: bool) -> None:
    """Raises ConversionError for an integer constant that the program cannot hold where this node reads it."""
    if node.op_type == "DequantizeLinear" and all(o is None or isinstance(o, np.ndarray) for o in operands):
        return  # the integers of a bias, of which only their numbers are written
    for place, (operand, value) in enumerate(zip(operands, node.inputs, strict=True)):
        if not isinstance(operand, np.ndarray) or operand.dtype.kind not in "iu" or not operand.size:
            continue
        name = value.name if value is not None else "?"
        if operand.dtype.itemsize > 4 or operand.dtype == np.uint32:
            if _means_an_end(node, place, operand) or _is_pattern(node, operand):
                continue
            check_fits(operand, f"node {node.name!r} ({node.op_type}), constant {name!r}")
        if (
            is_network
            and place not in _TO_THE_END.get(node.op_type, ())
            and place not in ONNX.traits(node.op_type).get("places", ())
        ):
            lost = operand[operand.astype(np.float32).astype(np.int64) != operand.astype(np.int64)]
            if lost.size:
                raise _beyond(int(lost[0]), f"node {node.name!r} ({node.op_type}), constant {name!r}", "a NeuralNetwork",
                              "integers that float32 holds exactly, up to 16777216")  # fmt: skip


def check_fits(array: Array, where: str) -> None:
    """Raises ConversionError for integers beyond 32 bits; ``where`` says what holds them."""
    beyond = array[(array > _LIMITS.max) | (array < _LIMITS.min)] if array.dtype.kind in "iu" else array.reshape(-1)[:0]
    if beyond.size:
        raise _beyond(int(beyond.reshape(-1)[0]), where, "Core ML", f"integers from {_LIMITS.min} to {_LIMITS.max}")


def _beyond(value: int, where: str, holder: str, expected: str) -> ConversionError:
    return ConversionError(
        f"{holder} cannot hold the integer {value}",
        where=where,
        expected=expected,
        found=str(value),
        fix="number what it stands for anew, in 32 bits, or do this part outside the model",
    )


def _means_an_end(node: ir.Node, place: int, constant: Array) -> bool:
    """Whether numbers beyond 32 bits in this operand mean "to the end", or bound from the side on which nothing is."""
    if place not in _TO_THE_END.get(node.op_type, ()):
        return False
    if node.op_type in ("Slice", "Trilu"):
        return True
    upper = node.op_type in ("Min", "Loop") or (node.op_type == "Clip" and place == 2)
    return bool((constant >= _LIMITS.min).all() if upper else (constant <= _LIMITS.max).all())


def _is_pattern(node: ir.Node, constant: Array) -> bool:
    """Whether a constant without a sign counts by its bits: of all that are set from some place on the lowest 32 say the same.

    PyTorch's exporter writes an arithmetic shift (x >> 1) as one without a sign, and puts the sign's bits in with such a mask.
    """
    if node.op_type not in ("BitwiseAnd", "BitwiseOr", "BitwiseXor") or constant.dtype.kind != "u":
        return False
    held = constant.view(f"i{constant.dtype.itemsize}")
    mask = (held < _LIMITS.min) & (held & -held == -held)
    return bool((mask | ((held >= _LIMITS.min) & (held <= _LIMITS.max))).all())


class Magnitudes:
    """How large the integers of a graph may become, value by value as it is walked."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        self._dtypes: dict[str, ir.DataType | None] = {}

    def follow(self, node: ir.Node, operands: Sequence[object], *, is_network: bool) -> bool:
        """Notes a node's results; whether it is a product that 32 bits may not hold, which a NeuralNetwork refuses."""
        sizes = [self._size(o, v) for o, v in zip(operands, node.inputs, strict=True)]
        found = self._result(node, sizes)
        dtype = self._dtype_of(node)
        picked = node.op_type not in ("Mul", "Pow", "ReduceProd") or _only_picks(node.outputs[0])
        unsure = dtype in _WIDE and found > _ANY and not picked
        if unsure and is_network:
            raise ConversionError(
                f"{node.op_type} of 64-bit integers may not fit the 32 bits that Core ML has",
                where=f"node {node.name!r}, value {node.outputs[0].name!r}",
                expected="factors whose product stays below 2147483648, whatever is fed",
                found="; ".join(str(v.name) for v in node.inputs if v is not None),
                fix="bound the factors (Clip, Mod), or cast them to float before they are multiplied",
            )
        for value in node.outputs:
            self._known[value.name or ""] = min(found, _ANY)
            self._dtypes[value.name or ""] = dtype if value.dtype is None else value.dtype
        return unsure

    def _dtype_of(self, node: ir.Node) -> ir.DataType | None:
        """The dtype of a node's results, where the file does not say it: as it is cast to, or as what it reads."""
        declared = node.outputs[0].dtype
        if declared is not None:
            return declared
        if node.op_type == "Cast":
            return ir.DataType(node.attributes["to"].as_int())
        if meaning(node.op_type).get("truths", False):
            return ir.DataType.BOOL
        if node.op_type in ("Shape", "Size", "ArgMax", "ArgMin", "NonZero"):
            return ir.DataType.INT64
        read = [v for v in (node.inputs[1:] if node.op_type == "Where" else node.inputs[:1]) if v is not None]
        return next((d for v in read if (d := v.dtype or self._dtypes.get(v.name or "")) is not None), None)

    def _size(self, operand: object, value: ir.Value | None) -> float:
        if isinstance(operand, np.ndarray):
            whole = operand.dtype.kind in "iub" and operand.size
            return float(np.abs(operand.astype(np.float64)).max()) if whole else 0.0
        if value is None:
            return 0.0
        name = value.name or ""
        dtype = value.dtype or self._dtypes.get(name)
        if dtype is not None and not dtype.is_integer():
            return 1.0 if dtype == ir.DataType.BOOL else _ANY
        narrow = _ANY if dtype is None else float(2 ** min(dtype.bitwidth, 31))
        return min(self._known.get(name, _ANY), narrow)

    def _result(self, node: ir.Node, sizes: list[float]) -> float:
        operator = node.op_type
        if meaning(operator).get("positions", False):
            return _LENGTH
        if operator in ("CumSum", "ReduceSum"):  # they count what is true
            return _LENGTH if sizes[0] <= 1 else _ANY
        if _hands_on(operator):
            return max(sizes) if operator == "Concat" else sizes[0] if sizes else _ANY
        if operator in ("Mul", "ReduceProd"):
            if operator == "ReduceProd":
                return _LENGTH if sizes[0] == _LENGTH else 1.0 if sizes[0] <= 1 else 2 * _ANY
            # a length times a small number is a length: of a flattened tensor, of an axis that is doubled
            return _LENGTH if _LENGTH in sizes and max(sizes) < 2**16 else max(sizes[0], 1) * max(sizes[1], 1)
        if operator == "Pow":
            # x to the 0 and to the 1, and powers of 0 and 1
            if min(sizes) <= 1:
                return sizes[0]
            # compared by logarithms: the power itself may be beyond any float
            return sizes[0] ** sizes[1] if sizes[1] * log2(sizes[0]) <= 31 else 2 * _ANY
        if operator in ("Add", "Sub", "Sum"):
            return min(sum(sizes), _ANY)
        if operator in ("Mod", "BitwiseAnd"):
            # a remainder is below its divisor, and no more than what is divided; so are common bits
            return min(sizes)
        if operator == "Div":
            return sizes[0]
        if operator == "Clip" and len(sizes) == 3:
            return min(sizes[0], max(sizes[1:]))
        if operator in ("Where", "Max", "Min"):
            return max(sizes[1:] if operator == "Where" else sizes)
        return _ANY


def _hands_on(operator: str) -> bool:
    """Whether what it gives is no larger than its operand (of a Concat, its operands); a scatter has others' numbers too."""
    return operator in ("ReduceMean", "Sign") or (
        "hands_on" in meaning(operator) and not operator.startswith("Scatter")
    )


def _only_picks(value: ir.Value) -> bool:
    """Whether a value is read as positions, lengths or shapes alone."""
    waiting, seen = [value], {id(value)}
    while waiting:
        one = waiting.pop()
        if one.is_graph_output() or not one.uses():
            return False
        for use in one.uses():
            operator = use.node.op_type
            if use.idx in ONNX.traits(operator).get("places", ()):
                continue
            if not _hands_on(operator) and operator not in ("Add", "Sub", "Mul", "Where"):
                return False
            if id(use.node.outputs[0]) not in seen:
                seen.add(id(use.node.outputs[0]))
                waiting.append(use.node.outputs[0])
    return True
