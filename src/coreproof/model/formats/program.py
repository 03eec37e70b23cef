"""An ML Program as it is stored (MIL.proto): its operations and blocks walked, named and renamed, and their types."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from coreproof.model.coreml.proto import MIL_pb2, Model_pb2

MIL_DTYPES: Mapping[int, str] = {
    MIL_pb2.BOOL: "bool",
    MIL_pb2.STRING: "str",
    MIL_pb2.FLOAT16: "float16",
    MIL_pb2.FLOAT32: "float32",
    MIL_pb2.FLOAT64: "float64",
    MIL_pb2.BFLOAT16: "bfloat16",
    MIL_pb2.INT8: "int8",
    MIL_pb2.INT16: "int16",
    MIL_pb2.INT32: "int32",
    MIL_pb2.INT64: "int64",
    MIL_pb2.INT4: "int4",
    MIL_pb2.UINT8: "uint8",
    MIL_pb2.UINT16: "uint16",
    MIL_pb2.UINT32: "uint32",
    MIL_pb2.UINT64: "uint64",
    MIL_pb2.UINT4: "uint4",
    MIL_pb2.UINT2: "uint2",
    MIL_pb2.UINT1: "uint1",
    MIL_pb2.UINT3: "uint3",
    MIL_pb2.UINT6: "uint6",
}
"""MIL's number of an element type -> numpy's name for it, or the like."""


# walking


def main_name(spec: Model_pb2.Model) -> str:
    """The function that runs where none is asked for: the described default, else ``main``, else the first one."""
    functions = spec.mlProgram.functions
    wanted = spec.description.defaultFunctionName or "main"
    return str(wanted if wanted in functions else next(iter(functions)))


def main(spec: Model_pb2.Model) -> MIL_pb2.Block:
    """The block of the main function of a Core ML ``Model`` message, in the version that its opset names."""
    return block_of(spec.mlProgram.functions[main_name(spec)])


def description_of(spec: Model_pb2.Model, function: str) -> Model_pb2.ModelDescription | Model_pb2.FunctionDescription:
    """What describes the features of a function: its own description where there are several functions."""
    return next((own for own in spec.description.functions if own.name == function), spec.description)


def block_of(function: MIL_pb2.Function) -> MIL_pb2.Block:
    """The block that a function runs: the one of its own opset."""
    return function.block_specializations[function.opset]


def blocks(program: MIL_pb2.Program) -> Iterator[MIL_pb2.Block]:
    """Every block of every function, those for other opsets too."""
    for function in program.functions.values():
        yield from function.block_specializations.values()


def nodes(operations: Iterable[MIL_pb2.Operation]) -> Iterator[MIL_pb2.Operation]:
    """The operations with those of nested blocks."""
    for operation in operations:
        yield operation
        for block in operation.blocks:
            yield from nodes(block.operations)


def name(operation: MIL_pb2.Operation) -> str:
    """How the read view names an operation: by its name, or by its first output."""
    called = operation.outputs[0].name if operation.outputs else operation.type
    return str((immediate(operation.attributes["name"]) or called) if "name" in operation.attributes else called)


def is_constant(operation: MIL_pb2.Operation) -> bool:
    """Whether what an operation makes is known before the program runs."""
    return bool(operation.type == "const" or operation.type.startswith("constexpr_"))


# names


_DATA = ("x", "input", "values", "data", "query", "cond", "y")


def ordered_arguments(operation: MIL_pb2.Operation) -> list[tuple[str, MIL_pb2.Argument]]:
    """The arguments of an operation, data first, then by name: a file keeps them in no order."""
    return sorted(operation.inputs.items(), key=lambda item: (item[0] not in _DATA, _place(item[0]), item[0]))


def _place(key: str) -> int:
    return _DATA.index(key) if key in _DATA else 0


def bindings(operation: MIL_pb2.Operation) -> list[tuple[str, MIL_pb2.Argument.Binding]]:
    """(argument, binding) for every value that an operation names itself, in the order of the read view."""
    return [
        (key, binding)
        for key, argument in ordered_arguments(operation)
        for binding in argument.arguments
        if binding.WhichOneof("binding") == "name"
    ]


def reads(operation: MIL_pb2.Operation) -> Iterator[str]:
    """The values that an operation reads, those that its nested blocks read from outside included."""
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name":
                yield binding.name
    for block in operation.blocks:
        own = {named.name for named in block.inputs}
        for inner in block.operations:
            yield from (read for read in reads(inner) if read not in own)
            own.update(writes(inner))
        yield from (read for read in block.outputs if read not in own)


def writes(operation: MIL_pb2.Operation) -> list[str]:
    """The values that an operation makes; those of its blocks stay inside them."""
    return [output.name for output in operation.outputs]


def rename(block: MIL_pb2.Block, names: Mapping[str, str]) -> None:
    """Renames values in a block and in those nested in it: where they are made, read, and handed out."""
    for named in block.inputs:
        named.name = names.get(named.name, named.name)
    block.outputs[:] = [names.get(read, read) for read in block.outputs]
    for operation in block.operations:
        for output in operation.outputs:
            output.name = names.get(output.name, output.name)
        for _, binding in bindings(operation):
            binding.name = names.get(binding.name, binding.name)
        for inner in operation.blocks:
            rename(inner, names)


def rename_reads(operation: MIL_pb2.Operation, names: Mapping[str, str]) -> None:
    """Makes an operation, and those nested in it, read other values; what they make keeps its name."""
    for _, binding in bindings(operation):
        binding.name = names.get(binding.name, binding.name)
    for block in operation.blocks:
        block.outputs[:] = [names.get(read, read) for read in block.outputs]
        for inner in block.operations:
            rename_reads(inner, names)


def new_operation(operator: str, name: str) -> MIL_pb2.Operation:
    """An operation of that name, which reads and makes nothing yet."""
    operation = MIL_pb2.Operation(type=operator)
    set_name(operation, name)
    return operation


def set_name(operation: MIL_pb2.Operation, name: str) -> None:
    """Gives the operation this name."""
    operation.attributes["name"].CopyFrom(text_value(name))


def text_value(text: str) -> MIL_pb2.Value:
    """A Value message of one text."""
    value = MIL_pb2.Value()
    value.type.tensorType.dataType = MIL_pb2.STRING
    value.immediateValue.tensor.strings.values.append(text)
    return value


# constants


def literals(operation: MIL_pb2.Operation) -> Iterator[tuple[str, MIL_pb2.Value]]:
    """(key, Value message) of what an operation holds itself: its attributes, and arguments that are bound to a literal."""
    yield from operation.attributes.items()
    for key, argument in operation.inputs.items():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                yield key, binding.value


def blobs(operations: Iterable[MIL_pb2.Operation]) -> Iterator[MIL_pb2.Value.BlobFileValue]:
    """The BlobFileValue messages of operations and of those nested in them."""
    for operation in nodes(operations):
        for _, literal in literals(operation):
            for value in items(literal):
                if value.WhichOneof("value") == "blobFileValue":
                    yield value.blobFileValue


def items(value: MIL_pb2.Value) -> Iterator[MIL_pb2.Value]:
    """The Value messages that a list, a tuple or a dictionary holds, to any depth; the value itself where it is none."""
    kind = value.immediateValue.WhichOneof("value") if value.WhichOneof("value") == "immediateValue" else None
    if kind in ("list", "tuple"):
        for item in getattr(value.immediateValue, kind).values:
            yield from items(item)
    elif kind == "dictionary":
        for pair in value.immediateValue.dictionary.values:
            yield from items(pair.key)
            yield from items(pair.value)
    else:
        yield value


def immediate(value: MIL_pb2.Value) -> object:
    """A MIL immediate value for reading: a scalar, a tuple, or None where it is bytes or lies in a file."""
    if value.WhichOneof("value") != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
        return None
    tensor = value.immediateValue.tensor
    which = tensor.WhichOneof("value")
    if which == "bytes" and not value.type.tensorType.dimensions:
        return _half(tensor.bytes.values, value.type.tensorType.dataType)
    if which is None or which == "bytes":
        return None
    numbers = tuple(getattr(tensor, which).values)
    is_scalar = not value.type.tensorType.dimensions
    return numbers[0] if is_scalar and len(numbers) == 1 else numbers


def _half(data: bytes, dtype: int) -> float | None:
    """A float16 number (epsilon, alpha, ...), which MIL stores as its two bytes."""
    return float(struct.unpack("<e", data)[0]) if dtype == MIL_pb2.FLOAT16 and len(data) == 2 else None


# types


def dtype_of(value_type: MIL_pb2.ValueType) -> str | None:
    """The dtype of a tensor's ValueType, None where MIL has none of that number; of another value, its kind."""
    kind: str | None = value_type.WhichOneof("type")
    if kind != "tensorType":
        return kind
    return MIL_DTYPES.get(value_type.tensorType.dataType)


def shape_of(value_type: MIL_pb2.ValueType) -> tuple[int | None, ...] | None:
    """The declared lengths of a tensor, None for those that are known when the program runs; None for any other value."""
    if value_type.WhichOneof("type") != "tensorType":
        return None
    return tuple(
        int(d.constant.size) if d.WhichOneof("dimension") == "constant" else None
        for d in value_type.tensorType.dimensions
    )
