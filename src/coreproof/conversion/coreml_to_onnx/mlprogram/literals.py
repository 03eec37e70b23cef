"""What an ML Program declares and holds ready: the outputs of operations, the inputs of functions, constants."""

from __future__ import annotations

from coreproof.conversion.coreml_to_onnx.lowering import Declared
from coreproof.model.coreml.literals import tensor_type
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats.program import MIL_DTYPES


def declared(named: MIL_pb2.NamedValueType) -> Declared:
    """A NamedValueType message: the name, dtype and shape of an output or of a function's input."""
    tensor = tensor_type(named.type)
    if tensor is None:
        return Declared(named.name, str(named.type.WhichOneof("type")), None)
    shape = tuple(int(d.constant.size) if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions)
    variadic = any(d.WhichOneof("dimension") == "unknown" and d.unknown.variadic for d in tensor.dimensions)
    return Declared(named.name, MIL_DTYPES.get(tensor.dataType, "?"), None if variadic else shape)
