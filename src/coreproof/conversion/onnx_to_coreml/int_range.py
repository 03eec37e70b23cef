"""Core ML's integers have 32 bits, ONNX's mostly 64: a constant that does not fit is refused by name, and never clipped.

It is looked at where it is read. What is computed of integers is looked at in ``magnitudes``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Array
from coreproof.conversion.operators import ONNX
from coreproof.errors import ConversionError

_LIMITS = np.iinfo(np.int32)
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
