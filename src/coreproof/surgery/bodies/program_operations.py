"""What an operation of an ML Program reads and is called: looked up and renamed, in nested blocks too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from coreproof.errors import EditError
from coreproof.model.coreml_graph import immediate, ordered_arguments
from coreproof.model.coreml_proto import MIL_pb2
from coreproof.surgery.bodies.program_weights import text_value


def all_operations(operations: Iterable[Any]) -> Iterator[Any]:
    """The operations with those of nested blocks."""
    for operation in operations:
        yield operation
        for block in operation.blocks:
            yield from all_operations(block.operations)


def blobs(operations: Iterable[Any]) -> Iterator[Any]:
    """The BlobFileValue messages of operations and of those nested in them."""
    for operation in all_operations(operations):
        arguments = [b for argument in operation.inputs.values() for b in argument.arguments]
        values = [b.value for b in arguments if b.WhichOneof("binding") == "value"]
        for value in (*operation.attributes.values(), *values):
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue


def copied(operation: Any) -> Any:
    """A copy of its own."""
    copy = MIL_pb2.Operation()
    copy.CopyFrom(operation)
    return copy


def operation_name(operation: Any) -> str:
    """How the read view names an operation: by its name, or by its first output."""
    name = operation.outputs[0].name if operation.outputs else operation.type
    return str((immediate(operation.attributes["name"]) or name) if "name" in operation.attributes else name)


def keep_name(operation: Any) -> None:
    """An operation without a name of its own is named by its output: before that changes it gets one."""
    if "name" not in operation.attributes:
        operation.attributes["name"].CopyFrom(text_value(operation_name(operation)))


def is_constant(operation: Any) -> bool:
    return bool(operation.type == "const" or operation.type.startswith("constexpr_"))


def bindings(operation: Any) -> list[tuple[str, Any]]:
    """(argument, binding) for every value that an operation names itself, in the order of the read view."""
    return [
        (key, binding)
        for key, argument in ordered_arguments(operation)
        for binding in argument.arguments
        if binding.WhichOneof("binding") == "name"
    ]


def bind(bindings: Sequence[Any], names: Sequence[str]) -> None:
    for binding, name in zip(bindings, names, strict=True):
        binding.name = name


def rename_in(block: Any, old: str, new: str) -> None:
    """Renames a value in a block and in those nested in it: where it is made, read, and handed out."""
    for named in block.inputs:
        if named.name == old:
            named.name = new
    block.outputs[:] = [new if name == old else name for name in block.outputs]
    for operation in block.operations:
        for output in operation.outputs:
            if output.name == old:
                output.name = new
        rename_reads(operation, old, new)
        for nested in operation.blocks:
            rename_in(nested, old, new)


def rename_reads(operation: Any, old: str, new: str) -> None:
    for _, binding in bindings(operation):
        if binding.name == old:
            binding.name = new
    for nested in operation.blocks:
        nested.outputs[:] = [new if name == old else name for name in nested.outputs]
        for inner in nested.operations:
            rename_reads(inner, old, new)


def names_read(operation: Any) -> Iterator[str]:
    """The values that an operation reads, those that its nested blocks read from outside included."""
    for argument in operation.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name":
                yield binding.name
    for block in operation.blocks:
        own = {named.name for named in block.inputs}
        for inner in block.operations:
            yield from (name for name in names_read(inner) if name not in own)
            own.update(output.name for output in inner.outputs)
        yield from (name for name in block.outputs if name not in own)


def ordered(operations: Sequence[Any], makers: Mapping[str, int]) -> list[int]:
    """The operations in an order in which each follows what it reads, as near to the given one as that allows."""
    order: list[int] = []
    done: set[int] = set()
    for start in range(len(operations)):
        stack, open_ones = [start], set[int]()
        while stack:
            index = stack[-1]
            if index in done:
                stack.pop()
                continue
            waiting = [makers[n] for n in names_read(operations[index]) if n in makers and makers[n] not in done]
            if index in open_ones and waiting:
                raise EditError(
                    "the layers would read from each other in a circle",
                    expected="a layer that reads what is made before it",
                    found=operation_name(operations[index]),
                )
            open_ones.add(index)
            if waiting:
                stack += reversed(waiting)
            else:
                done.add(index)
                order.append(index)
                stack.pop()
    return order
