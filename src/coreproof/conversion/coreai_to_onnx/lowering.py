"""CoreAILowering: where a handler of a Core AI operation finds its types and attributes, and puts its nodes.

Values compute in carrier types: float32 for floats of up to 32 bits, float64 for float64, int32 for integers of up to 32 bits,
int64 for uint32 and 64 bits, and booleans as they are; complex numbers are pairs along a last axis. What an operation makes is
then brought back into its own type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.emitter import Emitter
from coreproof.conversion.coreml_to_onnx.emitter import Operand as Operand
from coreproof.conversion.operators import COREAI
from coreproof.model.coreai.arrays import pairs
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram

lowers = COREAI.lowers

NARROW: Mapping[str, ir.DataType] = {
    "si8": ir.DataType.INT8,
    "ui8": ir.DataType.UINT8,
    "si16": ir.DataType.INT16,
    "ui16": ir.DataType.UINT16,
    "ui32": ir.DataType.UINT32,
    "f16": ir.DataType.FLOAT16,
    "bf16": ir.DataType.BFLOAT16,
    "f8E4M3FN": ir.DataType.FLOAT8E4M3FN,
    "f8E5M2": ir.DataType.FLOAT8E5M2,
}
"""Element types that are narrower than what carries them -> the ONNX type that a result is brought into and back from."""


def carrier(element: str) -> ir.DataType | None:
    """What carries values of this element type; None for those that ONNX has no numbers for."""
    if element in ("si64", "ui64", "ui32"):
        return ir.DataType.INT64
    if element == "i1":
        return ir.DataType.BOOL
    if element == "f64":
        return ir.DataType.DOUBLE
    if element[:2] in ("si", "ui"):
        return ir.DataType.INT32
    return ir.DataType.FLOAT if element.startswith(("f", "bf")) or element == "complex<f32>" else None


def to_carrier(array: np.ndarray) -> np.ndarray:
    """An array in the dtype that carries its numbers."""
    name = array.dtype.name
    if array.dtype.kind == "f" and name == "float64":
        return array
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind == "c":
        return pairs(array)
    if name == "uint64" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{array.max()} is beyond what int64 holds")
    if name in ("int64", "uint64", "uint32"):
        return array.astype(np.int64, copy=False)
    return array.astype(np.float32 if "float" in name else np.int32, copy=False)


@dataclass
class CoreAIScope:
    """What all operations of a lowering share: the program, and what each state holds now."""

    program: StoredProgram
    states: dict[str, ir.Value] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    initializers: dict[int, tuple[np.ndarray, ir.Value]] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)
    depth: int = 0


@dataclass
class CoreAILowering(Emitter):
    """One block on its way to ONNX.

    ``given`` and ``made`` are the types of the operands and results of the operation whose handler runs now; None for what is no
    tensor. ``root``: where initializers go. ``named``: values keep their names, which those of a function that is invoked do not.
    """

    function: Function
    scope: CoreAIScope
    named: bool = True
    parent: CoreAILowering | None = field(default=None, kw_only=True)
    current: StoredOperation | None = field(default=None, init=False)

    @property
    def blocks(self) -> tuple[StoredBlock, ...]:
        """The blocks of the operation at hand."""
        return () if self.current is None else self.current.blocks

    @property
    def made(self) -> tuple[TensorType | None, ...]:
        """The types of what the operation at hand makes."""
        return () if self.current is None else tuple(self.function.types.get(n) for n in self.current.results)

    @property
    def given(self) -> tuple[TensorType | None, ...]:
        """The types of what it reads."""
        return () if self.current is None else tuple(self.function.types.get(n) for n in self.current.operands)

    @property
    def element(self) -> str:
        """The element type of its first result."""
        held = self.made[0] if self.made else None
        return "" if held is None else held.element

    def attribute(self, name: str) -> str:
        """An attribute of the operation at hand without MLIR's wrapping; "" where it has none of that name."""
        stored = "" if self.current is None else self.current.attributes.get(name, "")
        inner = stored.partition("<")[2].rpartition(">")[0] if stored.startswith("#") else stored
        return inner.strip('"')

    def operand(self, value: Operand) -> ir.Value | None:
        """A value as an input of a node; constants become initializers in their carrier type."""
        if value is None or isinstance(value, ir.Value):
            return value
        if not isinstance(value, np.ndarray):
            array = np.asarray(
                value, np.int64 if isinstance(value, list | int) and not isinstance(value, bool) else None
            )
            return self._root.constant(array.astype(np.float32) if array.dtype == np.float64 else array)
        known = self.scope.initializers.get(id(value))
        if known is None:
            # kept alive with its id
            known = self.scope.initializers[id(value)] = value, self._root.constant(to_carrier(value))
        return known[1]

    @property
    def _root(self) -> OnnxBuilder:
        b = self.b
        while b.parent is not None:
            b = b.parent
        return b

    def is_float(self, operand: Operand) -> bool:
        """Whether the operand holds floats (of any width)."""
        return self.value(operand).dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)

    def is_bool(self, operand: Operand) -> bool:
        """Whether the operand holds booleans."""
        return bool(self.value(operand).dtype == ir.DataType.BOOL)

    def like(self, number: float, operand: Operand) -> np.ndarray:
        """A number in the dtype that carries the operand."""
        dtype = self.value(operand).dtype
        return np.asarray(number, np.float32 if dtype is None else dtype.numpy())

    def integers(self, operand: Operand, name: str) -> list[int]:
        """An operand that is known now, as whole numbers in a list."""
        return [int(n) for n in np.atleast_1d(self.constant(operand, name)).ravel()]

    def integer(self, operand: Operand, name: str) -> int:
        """An operand that is known now, as one whole number."""
        return self.integers(operand, name)[0]

    def axis(self, operand: Operand, name: str = "axis", rank: int | None = None) -> int:
        """An axis that is known now, counted from the front."""
        axis, of = self.integer(operand, name), 0 if rank is None else rank
        return axis + of if axis < 0 else axis

    def true(self, operand: Operand, name: str) -> bool:
        """An operand that is known now, as a truth value."""
        return bool(np.asarray(self.constant(operand, name)).ravel()[0])

    def nested(self, b: OnnxBuilder) -> CoreAILowering:
        """A block within this one, whose nodes ``b`` collects."""
        return CoreAILowering(b, self.precision, self.where, self.function, self.scope, named=self.named, parent=self)
