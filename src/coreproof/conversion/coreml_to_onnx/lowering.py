"""Lowering: where a handler finds its operation's outputs and puts its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.emitter import Constant, Emitter
from coreproof.conversion.coreml_to_onnx.emitter import Operand as Operand
from coreproof.conversion.operators import MIL
from coreproof.conversion.registry import Handler
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2

OPSETS: Mapping[str, int] = {"CoreML5": 15, "CoreML6": 16, "CoreML7": 17, "CoreML8": 18, "CoreML9": 26}
"""The MIL opset names of the files, as the iOS version that brought each."""

lowers = MIL.lowers


def handler_for(operator: str, opset: str) -> Handler | None:
    """The newest handler that holds for ``operator`` in a file of ``opset``."""
    return MIL.find(operator, OPSETS.get(opset))  # an opset that is not known yet is newer than all that are


@dataclass(frozen=True)
class Declared:
    """An output of a MIL operation as the file declares it; unknown lengths are None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass
class Lowering(Emitter):
    """One block of a program on its way to ONNX.

    ``operation``, ``name``, ``outputs``, ``blocks`` and ``opset`` belong to the operation whose handler runs now.
    ``shared`` holds what all blocks of the function share: initializers of constants, states, classifier scores.
    """

    opset: str
    shared: Shared
    parent: Lowering | None = field(default=None, kw_only=True)
    outputs: tuple[Declared, ...] = ()
    blocks: Sequence[MIL_pb2.Block] = ()

    def nested(self, b: OnnxBuilder) -> Lowering:
        """A block within this one, whose nodes ``b`` collects."""
        return Lowering(b, self.precision, self.where, self.opset, self.shared, parent=self)

    # nodes

    def operand(self, value: Operand) -> ir.Value | None:
        """A value as an input of a node; constants become initializers in their carrier type."""
        if value is None or isinstance(value, ir.Value):
            return value
        return self.shared.initializer(value)

    def i32(self, operand: Operand) -> ir.Value:
        """Integers as MIL's carrier type: int32."""
        return self.cast(operand, ir.DataType.INT32)


_WIDEN_NOW = 4096


class RoundingPolicy(Protocol):
    """In which width each operation computes, where that is not what ``precision`` says."""

    def declare(self, low: Lowering) -> None:
        """Adds to the graph what the policy asks for, before any operation is lowered."""

    def enter(self, low: Lowering, arguments: dict[str, Operand]) -> dict[str, Operand]:
        """The operands of the operation at hand, as it reads them."""

    def leave(self, low: Lowering, name: str, result: ir.Value) -> ir.Value:
        """What the operation at hand hands on under this name."""


class Shared:
    """What all blocks of one function share. Initializers live in the function's own graph; inner blocks see them."""

    def __init__(self, root: OnnxBuilder, model: CoreMLModel, switches: RoundingPolicy | None = None) -> None:
        self.root = root
        self.switches = switches
        self.model = model
        self.names: dict[int, str] = {}
        self.halves: dict[ir.Value, ir.Value] = {}
        self.exact: dict[ir.Value, ir.Value] = {}
        self.states: dict[str, ir.Value] = {}
        self.scores: ir.Value | None = None
        self.scores_name: str | None = None
        self._claimed: set[ir.Value] = set()
        self._given: set[str] = set()
        self._initializers: dict[int, tuple[object, ir.Value]] = {}

    def claim(self, value: ir.Value) -> bool:
        """True the first time: a value that a node made and that bears no MIL name yet may be given one."""
        if value in self._claimed or value.producer() is None or value.const_value is not None:
            return False
        self._claimed.add(value)
        return True

    def give_name(self, value: ir.Value, name: str) -> None:
        """Names a value that bears no MIL name yet. A block that is lowered twice finds its names taken the second time."""
        if self.claim(value):
            value.name = self.root.unique(name) if name in self._given else name
            self._given.add(name)
            self.root.taken.add(name)

    def initializer(self, constant: Constant | Sequence[object]) -> ir.Value:
        """The one initializer of this constant, in its carrier type; a list of numbers is what ONNX's axes and shapes are, int64.

        A large float16 array stays as it is on disk, with a Cast that the engine folds when it loads the graph.
        """
        known = self._initializers.get(id(constant))
        if known is not None:
            return known[1]
        array = np.asarray(constant)
        if isinstance(constant, list) and all(isinstance(n, int | np.integer) for n in constant):
            array = np.asarray(constant, np.int64)
        elif isinstance(constant, float):
            array = array.astype(np.float32)
        elif isinstance(constant, int) and not isinstance(constant, bool):
            array = array.astype(np.int32)
        name = self.names.get(id(constant), "const")
        if array.dtype == np.float16 and array.size > _WIDEN_NOW:
            half = self.root.constant(array, f"{name}/float16")
            value: ir.Value = self.root.op("Cast", half, to=ir.DataType.FLOAT, name=f"{name}/float32")
            self._claimed.add(value)
        else:
            value = self.root.constant(to_carrier(array), name)
        if isinstance(constant, np.ndarray):
            # The array is kept alive with its id, so that the id stays its own.
            self._initializers[id(constant)] = (constant, value)
        return value


def to_carrier(array: np.ndarray) -> np.ndarray:
    """Floats as float32, integers as int32 (int64 is ONNX's own and stays)."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16" or array.dtype.name.startswith("float8"):
        return array.astype(np.float32, copy=False)
    if array.dtype.kind in "iu" and array.dtype != np.int64:
        return array.astype(np.int32, copy=False)
    return array
