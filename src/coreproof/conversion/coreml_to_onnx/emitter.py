"""Emitter: what every handler of a stored operation puts ONNX nodes with, and asks of its operands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.errors import ConversionError

Constant: TypeAlias = np.ndarray | np.generic | int | float | bool | str
Operand: TypeAlias = ir.Value | Constant | Sequence[object] | None
"""What a handler receives for an input: a constant known now (Python number, text, array) or an ``ir.Value``.

Constant arrays keep the dtype that is stored. Values compute in carrier types: float32 for every float, int32 for an integer.
"""


@dataclass
class Emitter(ABC):
    """Operations of one block on their way to ONNX: ``operation`` and ``name`` belong to the one whose handler runs now.

    ``b`` collects the nodes, ``where`` is the model in messages. ``environment`` holds the block's values, ``parent`` is the
    block around it.
    """

    b: OnnxBuilder
    precision: str
    where: str
    operation: str = field(default="", init=False)
    name: str = field(default="", init=False)
    environment: dict[str, Operand] = field(default_factory=dict, init=False)
    parent: Emitter | None = field(default=None, kw_only=True)

    def lookup(self, name: str) -> Operand:
        """The value of that name in this block or around it."""
        scope: Emitter | None = self
        while scope is not None:
            if name in scope.environment:
                return scope.environment[name]
            scope = scope.parent
        raise ConversionError(
            f"operation {self.name!r} reads a value that nothing makes",
            where=f"{self.where}, operation {self.name!r} ({self.operation})",
            expected="an input of the function or the output of an earlier operation",
            found=name,
            fix="the program is damaged; make it again from its source",
        )

    @abstractmethod
    def operand(self, value: Operand) -> ir.Value | None:
        """A value as an input of a node; constants become initializers in their carrier type."""

    # nodes

    def op(self, operator: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """Appends an ONNX node with one output."""
        value: ir.Value = self.b.op(operator, *(self.operand(i) for i in inputs), **attributes)
        return value

    def ops(self, operator: str, *inputs: Operand, outputs: int, **attributes: object) -> tuple[ir.Value, ...]:
        """Appends an ONNX node with several outputs."""
        return self.b.op(operator, *(self.operand(i) for i in inputs), outputs=outputs, **attributes)

    # what is known

    def value(self, operand: Operand) -> ir.Value:
        """The operand as a value of the graph."""
        value = self.operand(operand)
        assert value is not None
        return value

    def shape(self, operand: Operand) -> tuple[int | None, ...]:
        """The shape, None for each length that is known at run time only."""
        if not isinstance(operand, ir.Value):
            return np.asarray(operand).shape
        if operand.shape is None:
            raise self.refuse("the rank of an input is not known")
        return tuple(d if isinstance(d, int) else None for d in operand.shape)

    def fixed(self, lengths: Sequence[int | None], problem: str = "it needs an input of known size") -> list[int]:
        """The lengths, all of them known now. Refuses, with this problem, those that are known at run time only."""
        known = [n for n in lengths if n is not None]
        if len(known) < len(lengths):
            raise self.refuse(problem, found=list(lengths))
        return known

    def rank(self, operand: Operand) -> int:
        """The number of dimensions."""
        return len(self.shape(operand))

    def is_float(self, operand: Operand) -> bool:
        """Whether the operand holds floats (of any width)."""
        if isinstance(operand, ir.Value):
            return operand.dtype == ir.DataType.FLOAT
        return np.asarray(operand).dtype.kind == "f"

    def is_bool(self, operand: Operand) -> bool:
        """Whether the operand holds booleans."""
        if isinstance(operand, ir.Value):
            return operand.dtype == ir.DataType.BOOL
        return np.asarray(operand).dtype.kind == "b"

    def constant(self, operand: Operand, name: str) -> np.ndarray:
        """The operand as an array; refuses what is known at run time only."""
        if operand is None or isinstance(operand, ir.Value):
            raise self.refuse(f"its input {name!r} has to be a constant")
        return np.asarray(operand)

    # small conversions

    def i64(self, operand: Operand) -> Operand:
        """Integers as ONNX wants its shapes and axes: int64."""
        if isinstance(operand, ir.Value):
            return operand if operand.dtype == ir.DataType.INT64 else self.op("Cast", operand, to=ir.DataType.INT64)
        return np.asarray(operand, np.int64)

    def cast(self, operand: Operand, to: ir.DataType) -> ir.Value:
        """The operand as ``to``, without a node where it is that already."""
        value = self.value(operand)
        return value if value.dtype == to else self.op("Cast", value, to=to)

    def dims(self, x: Operand) -> ir.Value:
        """The run-time shape of ``x``, int64."""
        return self.op("Shape", x)

    def reshape(self, x: Operand, shape: Sequence[int] | ir.Value) -> ir.Value:
        """Reshape in which 0 means a length of 0 only if -1 does not occur; lengths are given outright."""
        if isinstance(shape, ir.Value):
            return self.op("Reshape", x, shape, allowzero=1)
        return self.op("Reshape", x, np.asarray(shape, np.int64), allowzero=0 if -1 in shape else 1)

    def refuse(
        self, problem: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> ConversionError:
        """The error for an operation in a form that is not lowered."""
        return ConversionError(
            f"{self.operation}: {problem}",
            where=f"{self.where}, operation {self.name!r}",
            expected=expected,
            found=found,
            fix=fix,
        )
