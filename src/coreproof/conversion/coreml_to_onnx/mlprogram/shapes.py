"""A function of an ML Program opened to be followed operation by operation, for the shapes that its values have."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Declared, Lowering, Shared
from coreproof.conversion.coreml_to_onnx.neuralnetwork.fold import FoldingBuilder
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2


class _Unfolded(FoldingBuilder):
    """Refuses what ONNX says cannot fit together, and leaves constants as they are."""

    def _fold(self, operator: str, operands: list[ir.Value | None], attributes: Mapping[str, object]) -> None:
        return None


def open_function(model: CoreMLModel, function: MIL_pb2.Function) -> Lowering:
    """What operations of ``function`` are lowered into one by one; it has no inputs yet."""
    b = _Unfolded()
    return Lowering(b=b, precision="fp32", where=model.where, opset=str(function.opset), shared=Shared(b, model))


def stand_in(low: Lowering, output: Declared) -> ir.Value:
    """A value of the declared type, for one whose operation cannot be, or need not be, lowered."""
    dtype = "float32" if "float" in output.dtype else "bool" if output.dtype == "bool" else "int32"
    return low.b.input(low.b.unique(f"{output.name}/stand-in"), dtype, output.shape or ())
