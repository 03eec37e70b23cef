"""What an operation of an ML Program reads and is called: looked up and renamed, in nested blocks too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coreproof.editing.editors.program_weights import text_value
from coreproof.errors import EditError
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program


def copied(operation: Any) -> Any:
    """A copy of its own."""
    copy = MIL_pb2.Operation()
    copy.CopyFrom(operation)
    return copy


def keep_name(operation: Any) -> None:
    """An operation without a name of its own is named by its output: before that changes it gets one."""
    if "name" not in operation.attributes:
        operation.attributes["name"].CopyFrom(text_value(program.name(operation)))


def bind(bindings: Sequence[Any], names: Sequence[str]) -> None:
    for binding, name in zip(bindings, names, strict=True):
        binding.name = name


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
            waiting = [makers[n] for n in program.reads(operations[index]) if n in makers and makers[n] not in done]
            if index in open_ones and waiting:
                raise EditError(
                    "the layers would read from each other in a circle",
                    expected="a layer that reads what is made before it",
                    found=program.name(operations[index]),
                )
            open_ones.add(index)
            if waiting:
                stack += reversed(waiting)
            else:
                done.add(index)
                order.append(index)
                stack.pop()
    return order
