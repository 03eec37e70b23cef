"""The context that handlers of ONNX operators build MIL in.

A handler is a function that reads like the operator's definition: the operands in order, then the ONNX attributes as
keywords with the standard's defaults. It returns the MIL result (a tuple for several outputs)::

    @lowering("LeakyRelu")
    def leaky_relu(ctx: Context, x: Operand, *, alpha: float = 0.01) -> Result:
        return ctx.mb.leaky_relu(x=x, alpha=ctx.scalar(alpha))

An operand is a MIL variable, a numpy array where it is constant (floats in the compute dtype, int64 as int32), or None where
an optional input is left out. Names, dtypes of the model's inputs and outputs, and constant folding are the driver's business.
Where an operator changed its form, register a handler for each opset in which it did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from coreproof.conversion.onnx_to_coreml.mil import Builder, Operand
from coreproof.conversion.onnx_to_coreml.packed import PackedArray, cast_packed
from coreproof.conversion.operators import ONNX
from coreproof.errors import ConversionError
from coreproof.model.numbers import to_float16

Array: TypeAlias = np.ndarray
Result: TypeAlias = Operand
"""What a handler of one output gives; one of several gives a sequence of them."""
FloatType: TypeAlias = type[np.float16] | type[np.float32]


lowering = ONNX.lowers


@dataclass
class Context:
    """What a handler may ask for while it lowers ``node``."""

    mb: Builder
    """coremltools' MIL builder."""
    target: int
    """MIL opset as the iOS number: 13 (NeuralNetwork) to 18."""
    dtype: FloatType
    """numpy dtype in which floats are computed."""
    opset: int
    """The model's ONNX opset."""
    is_network: bool = False
    """Whether a NeuralNetwork is made, whose layers express less."""
    node: ir.Node = None  # type: ignore[assignment]
    masked: bool = False
    """Of a softmax in float16: whether it reads minima of masks that were added up (``half_range``)."""
    raw: list[Operand | None] = field(default_factory=list)
    """The operands as ONNX has them: constants in their own dtype."""
    notes: list[str] = field(default_factory=list)
    nested: Callable[[ir.Graph, Mapping[str, Operand]], list[Operand]] = None  # type: ignore[assignment]
    """Lowers a nested graph in the block that is open, with values for its inputs, and gives its outputs.

    What is known on the way is folded, so that an output may be an array in ONNX's own dtype."""

    def scalar(self, value: float) -> np.floating:
        """A float attribute in the compute dtype."""
        return self.dtype(value)

    def epsilon(self, value: float) -> np.floating:
        """The epsilon of a normalisation or a logarithm, not rounded to zero: what is smaller is the dtype's smallest number.

        A NeuralNetwork's file does not tell a zero from an epsilon that is not said, which stands for 1e-6 and the like
        (NeuralNetwork.proto): there the smallest number stands for zero too.
        """
        if value == 0 and not self.is_network:
            return self.dtype(0)
        return max(self.dtype(value), np.finfo(self.dtype).smallest_subnormal)

    def floats(self, values: npt.ArrayLike) -> Array:
        """Floats in the compute dtype; what float16 cannot hold is clipped to its largest number."""
        return cast_floats(np.asarray(values), self.dtype)

    def constant(self, operand: Operand | None, name: str) -> Array:
        """An operand that Core ML needs to know at conversion time."""
        if isinstance(operand, np.ndarray):
            return operand
        # coremltools computes what follows from constants while a program is built
        known = getattr(operand, "val", None)
        if known is not None:
            return np.asarray(known)
        raise self.refuse(
            f"its {name} is computed while the model runs", "a constant", "freeze that input, or the shape"
        )

    def integers(self, operand: Operand, name: str) -> list[int]:
        """The numbers of an operand that Core ML needs to know at conversion time: axes, lengths."""
        return [int(n) for n in self.constant(operand, name).reshape(-1)]

    def shape(self, operand: Operand) -> tuple[int, ...]:
        """The operand's shape, all of it known."""
        shape = tuple(operand.shape)
        # free lengths are sympy's symbols in coremltools
        if not all(isinstance(d, int | np.integer) for d in shape):
            raise self.refuse(f"the shape {shape} of an operand is not fixed", "fixed lengths", "fix the input's shape")
        return tuple(int(d) for d in shape)

    def rank(self, operand: Operand) -> int:
        """How many axes an operand has."""
        return len(operand.shape)

    def is_float(self, operand: Operand) -> bool:
        """Whether an operand holds floats, of either width."""
        if isinstance(operand, np.ndarray):
            return bool(operand.dtype.kind == "f")
        from coremltools.converters.mil.mil import types

        return bool(types.is_float(operand.dtype))

    def is_bool(self, operand: Operand) -> bool:
        """Whether an operand holds booleans."""
        if isinstance(operand, np.ndarray):
            return bool(operand.dtype.kind == "b")
        from coremltools.converters.mil.mil import types

        return bool(types.is_bool(operand.dtype))

    def refuse(self, found: str, expected: str | None = None, fix: str | None = None) -> ConversionError:
        """The error for a form of this node that Core ML cannot express."""
        return ConversionError(
            f"{self.node.op_type} cannot be expressed in Core ML in this form",
            where=f"node {self.node.name or next((v.name for v in self.node.outputs if v.name), '')!r}",
            expected=expected,
            found=found,
            fix=fix,
        )


def cast_floats(array: Array, dtype: FloatType) -> Array:
    """``array`` in the compute dtype if it holds floats; finite values beyond float16 become its largest number."""
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return array
    if array.dtype == dtype:
        return array
    if isinstance(array, PackedArray):
        return cast_packed(array, dtype)
    return to_float16(array) if dtype == np.float16 else array.astype(dtype)


def mil_array(array: Array, dtype: FloatType) -> Array:
    """A constant as MIL takes it: floats in the compute dtype, integers as int32 (clipped), booleans as they are."""
    if array.dtype.kind in "iu" and array.dtype != np.int32:
        limits = np.iinfo(np.int32)
        return np.asarray(np.clip(array, limits.min, limits.max)).astype(np.int32)
    return cast_floats(array, dtype)
