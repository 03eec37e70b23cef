"""ProgramTypes: a function of an ML Program followed operation by operation, for the types that its values have."""

from __future__ import annotations

import onnx

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.lowering import Declared, Lowering, Shared, handler_for
from coreproof.conversion.coreml_to_onnx.mlprogram.block import lower_operations
from coreproof.conversion.coreml_to_onnx.mlprogram.literals import declared
from coreproof.conversion.coreml_to_onnx.mlprogram.program import add_input
from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program as mil


class ProgramTypes:
    """A walk through a function, operation by operation; behind one that cannot be lowered it goes on with what is declared.

    ``low.environment`` holds the values so far. ``described``: raises ConversionError for an input of the function that is no
    feature of the model; else such an input is taken as the function declares it.
    """

    def __init__(self, model: CoreMLModel, function: MIL_pb2.Function, *, described: bool = True) -> None:
        self.model = model
        b = OnnxBuilder(by_layer=True)  # constants stay as they are
        shared = Shared(b, model)
        self.low = Lowering(b=b, precision="fp32", where=model.where, opset=str(function.opset), shared=shared)
        features = {f.name: f for f in (*model.signature.inputs, *model.signature.states)}
        for named in function.inputs:
            if described or named.name in features:
                add_input(self.low, named, features)
            else:
                self.take_as_declared(declared(named))

    def lower(self, operation: MIL_pb2.Operation) -> ConversionError | None:
        """Lowers one operation; why it does not accept its inputs, if so. What it makes is then taken as declared."""
        error: ConversionError | None = None
        missing = any(name not in self.low.environment for name in mil.reads(operation))
        is_known = operation.type == "const" or handler_for(operation.type, self.low.opset) is not None
        if is_known and not missing:
            try:
                lower_operations(self.low, self.model, [operation])
            except ConversionError as refused:
                error = refused
            except (onnx.checker.ValidationError, ArithmeticError, LookupError, TypeError, ValueError) as refused:
                # a handler computes with what it is given: a wrong axis or dtype fails in numpy or in ONNX's own checks
                found = str(refused).strip().splitlines()
                error = ConversionError("the inputs do not fit the operation", found=found[-1] if found else None)
        for output in map(declared, operation.outputs):
            if output.name not in self.low.environment:
                self.take_as_declared(output)
        return error

    def take_as_declared(self, output: Declared) -> None:
        """A value of the declared type, for one whose operation cannot be, or need not be, lowered; none without a shape."""
        if output.shape is not None:
            dtype = "float32" if "float" in output.dtype else "bool" if output.dtype == "bool" else "int32"
            name = self.low.b.unique(f"{output.name}/stand-in")
            self.low.environment[output.name] = self.low.b.input(name, dtype, output.shape)
