"""Which dtype an operand has, and computing in another one where a MIL operator does not take the operand's own.

MIL's data movement takes floats and int32 everywhere, booleans only here and there, and its padding only floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result
from coreproof.conversion.onnx_to_coreml.mil import Operand, Var
from coreproof.conversion.onnx_to_coreml.packed import FEWEST

_READ_BYTES = frozenset({"DequantizeLinear", "QGemm"})
"""Operators beside those called QLinear* that take bytes; others are given int32."""


def name_of(ctx: Context, x: Operand) -> str:
    """Its dtype: "fp16" or "fp32" (whichever the program computes in), "int32" or "bool"."""
    if ctx.is_bool(x):
        return "bool"
    return float_name(ctx) if ctx.is_float(x) else "int32"


def float_name(ctx: Context) -> str:
    return "fp16" if ctx.dtype == np.float16 else "fp32"


def cast(ctx: Context, x: Operand, dtype: str) -> Operand:
    """``x`` as ``dtype``; itself where it is that already."""
    if name_of(ctx, x) == dtype:
        return x
    if isinstance(x, np.ndarray):
        return x.astype({"bool": np.bool_, "int32": np.int32}.get(dtype, ctx.dtype))
    return ctx.mb.cast(x=x, dtype=dtype)


def without_bool(ctx: Context, operands: Sequence[Operand], compute: Callable[..., Result]) -> Result:
    """``compute(*operands)``, carried out in int32 where the operands are boolean."""
    if not ctx.is_bool(operands[0]):
        return compute(*operands)
    return cast(ctx, compute(*(cast(ctx, x, "int32") for x in operands)), "bool")


def in_floats(ctx: Context, x: Operand, compute: Callable[[Operand], Result]) -> Result:
    """``compute(x)``, carried out in float32 where ``x`` is integer or boolean."""
    dtype = name_of(ctx, x)
    if dtype in ("fp16", "fp32"):
        return compute(x)
    wide = x.astype(np.float32) if isinstance(x, np.ndarray) else ctx.mb.cast(x=x, dtype="fp32")
    return ctx.mb.cast(x=compute(wide), dtype=dtype)


def expanded(ctx: Context, x: Operand, axes: list[int]) -> Operand:
    """``x`` with axes of length 1 put in at these places; itself where there are none."""
    if not axes:
        return x
    return np.expand_dims(x, tuple(axes)) if isinstance(x, np.ndarray) else ctx.mb.expand_dims(x=x, axes=axes)


def is_known(length: object) -> bool:
    """Whether a dimension is a number, not a symbol."""
    return isinstance(length, int | np.integer)


def known_elements(operand: Operand) -> list[int] | None:
    """The elements of a small integer vector; None if unknown. Free lengths are symbols, which compute like numbers."""
    if isinstance(operand, np.ndarray):
        return [int(v) for v in operand.reshape(-1)]
    symbolic = getattr(operand, "sym_val", None)
    if symbolic is None:
        return None
    return [int(v) if is_known(v) else v for v in np.asarray(symbolic).reshape(-1)]


def as_whole(ctx: Context, place: int, name: str) -> Operand:
    """An operand that counts, which opset 1 takes as floats, in whole numbers. Raises ConversionError where it holds others."""
    operand = ctx.raw[place]
    assert operand is not None
    if not isinstance(operand, np.ndarray):
        return cast(ctx, operand, "int32")
    if np.any(operand != np.rint(operand)):
        raise ctx.refuse(f"its {name} is {operand.tolist()}", "whole numbers")
    return operand.astype(np.int32)


def axis_of(axis: int, rank: int) -> int:
    return axis + rank if axis < 0 else axis


def without_elements(ctx: Context, x: Operand, axis: int) -> np.ndarray:
    """What is left of ``x`` where nothing of an axis is: known, and dropped by what joins it to others."""
    shape = [0 if i == axis else int(n) if is_known(n) else 1 for i, n in enumerate(x.shape)]
    return np.zeros(shape, {"bool": np.bool_, "int32": np.int32}.get(name_of(ctx, x), ctx.dtype))


def is_bytes(x: Operand) -> TypeGuard[Var]:
    """Whether a value of the program holds bytes, as ``quantize`` makes them."""
    if isinstance(x, np.ndarray):
        return False
    from coremltools.converters.mil.mil import types

    return x.dtype in (types.int8, types.uint8)


def read_as_bytes(value: ir.Value) -> bool:
    """Whether all that reads an ONNX value takes bytes."""
    readers = [user.op_type for user, _ in value.uses()]
    known = all(reader in _READ_BYTES or reader.startswith("QLinear") for reader in readers)
    return bool(readers) and known and not value.is_graph_output()


def stays_bytes(ctx: Context, table: np.ndarray) -> bool:
    """Whether a constant of bytes is written as it is: from iOS 17 on, where that saves anything."""
    return ctx.target >= 17 and not ctx.is_network and table.size >= FEWEST
