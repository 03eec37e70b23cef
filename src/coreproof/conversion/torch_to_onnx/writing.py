"""What every translation of a PyTorch operator into ONNX uses: the operators, numbers of a type, and lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir


class Operators(Protocol):
    """ONNX's operators as functions, which append to the graph that is being exported."""

    def __getattr__(self, operator: str) -> Callable[..., ir.Value]: ...


class NowhereRightError(NotImplementedError):
    """A form of an operator that is not written here, and that PyTorch's own exporters write as something else."""


def operators() -> Operators:
    """ONNX's operators as functions, which append to the graph that is being exported."""
    from onnxscript import opset18

    written: Operators = opset18
    return written


def lengths(value: ir.Value) -> tuple[int | ir.SymbolicDim, ...]:
    """The lengths of a value, free ones as symbols."""
    return () if value.shape is None else tuple(value.shape)


def known_length(value: ir.Value, axis: int, what: str) -> int:
    """The length of an axis along which something is written out."""
    length = lengths(value)[axis]
    if not isinstance(length, int):
        raise NotImplementedError(f"{what} asks for a known length of the axis that it goes along")
    return length


def is_float(value: ir.Value) -> bool:
    """Whether it holds floats; what is not known is taken for floats."""
    return value.dtype is None or value.dtype.is_floating_point()


def number(value: float, dtype: ir.DataType | None) -> ir.TensorProtocol:
    """A single number of a type."""
    return numbers(value, dtype)


def numbers(value: float | Sequence[float] | np.ndarray, dtype: ir.DataType | None) -> ir.TensorProtocol:
    """Numbers of a type: what is computed on the way knows its own no more."""
    if isinstance(value, np.ndarray) and dtype is not None:
        value = value.astype(dtype.numpy())
    return ir.tensor(value, dtype=dtype)


def whole(*values: int) -> ir.TensorProtocol:
    """Positions, axes or lengths."""
    return ir.tensor(list(values), dtype=ir.DataType.INT64)


def polynomial(x: ir.Value, coefficients: Sequence[float], dtype: ir.DataType | None) -> ir.Value | ir.TensorProtocol:
    """The highest power comes first."""
    op = operators()
    first, *rest = (number(coefficient, dtype) for coefficient in coefficients)
    value: ir.Value | ir.TensorProtocol = first
    for coefficient in rest:
        value = op.Add(op.Mul(value, x), coefficient)
    return value
