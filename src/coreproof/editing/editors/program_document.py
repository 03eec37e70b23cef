"""ProgramDocument: a private copy of an ML Program, its main function laid open, and the operations that edits put into it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from coreproof.editing.editors.document import CoreMLDocument
from coreproof.editing.editors.program_weights import (
    DEFAULT_WEIGHT_FILE,
    WeightStore,
    tensor_type,
    write_value,
)
from coreproof.errors import EditError
from coreproof.model.coreml.graph import program_graph
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.formats import program as mil
from coreproof.model.formats.free_name import free_name
from coreproof.model.graph import Graph
from coreproof.model.order import Circle, behind_needs

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ProgramDocument(CoreMLDocument):
    """``function``, ``block`` and ``description`` are those of the main function; ``store`` holds its weights.

    A method that changes operations ends in ``changed``; which types follow is ``EditedTypes``' business.
    """

    def __init__(self, model: CoreMLModel) -> None:
        super().__init__(model)
        self.store = WeightStore(model)
        self._graph: Graph | None = None
        self._bind()

    def _bind(self) -> None:
        """Finds the main function's messages: to copy into ``spec`` makes new ones of them."""
        self._name = mil.main_name(self.spec)
        self.function = self.spec.mlProgram.functions[self._name]
        self.block = mil.block_of(self.function)
        self.description = mil.description_of(self.spec, self._name)
        self.changed()

    def as_model(self) -> CoreMLModel:
        """A model of the program, which keeps the weights as long as it lives."""
        made = self.origin.with_spec(self.spec, self.store.folder)
        self.store.lend(made)
        return made

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            self._graph = program_graph(self.spec.mlProgram, self._name)
        return self._graph

    def changed(self) -> None:
        super().changed()
        self._graph = None

    def restore(self, kept: Model_pb2.Model) -> None:
        """Makes the program what it was when ``kept`` was copied from it."""
        self.spec.CopyFrom(kept)
        self._bind()

    # looking up

    def find(self, layer: str) -> tuple[int, MIL_pb2.Operation]:
        """The place of the operation that the graph calls so, and the operation."""
        for index, operation in enumerate(self.block.operations):
            if operation.type != "const" and mil.name(operation) == layer:
                return index, operation
        raise AssertionError(layer)

    def constants(self) -> dict[str, MIL_pb2.Operation]:
        """The operations that make constants, by what they make."""
        return {o.name: op for op in self.block.operations if mil.is_constant(op) for o in op.outputs}

    def place_of(self, value: str) -> int:
        """The place of the operation that makes ``value``."""
        return next(i for i, op in enumerate(self.block.operations) if any(o.name == value for o in op.outputs))

    def type_of(self, value: str) -> tuple[str, tuple[int | None, ...]]:
        """dtype and shape as declared; EditError where the value is no tensor."""
        known = self.graph.values[value]
        if known.shape is None or known.dtype is None:
            raise EditError(f"the value {value!r} is no tensor", where=self.where, found=known.dtype)
        return known.dtype, tuple(d if isinstance(d, int) else None for d in known.shape)

    def made_from(self, value: str) -> list[str]:
        """What the operations make that read ``value``."""
        return [o.name for op in self.block.operations if value in mil.reads(op) for o in op.outputs]

    def readers(self, value: str) -> int:
        """How many places name the value: arguments, in nested blocks too, and outputs."""
        places = [b.name for op in mil.nodes(self.block.operations) for _, b in mil.bindings(op)]
        nested = [name for op in mil.nodes(self.block.operations) for block in op.blocks for name in block.outputs]
        return [*places, *nested, *self.block.outputs].count(value)

    # names

    def free(self, wish: str) -> str:
        """A name that nothing bears, as near to ``wish`` as MIL allows."""
        return free_name(_as_identifier(wish), self.taken())

    def taken(self) -> set[str]:
        """The names of values and operations: MIL has one space of names for both."""
        names = {n for op in mil.nodes(self.block.operations) for n in (*mil.writes(op), mil.name(op))}
        return names.union(named.name for named in self.function.inputs)

    @staticmethod
    def identifier(name: str) -> str:
        """``name``, where MIL allows it; EditError otherwise."""
        if not _IDENTIFIER.fullmatch(name):
            safe = _as_identifier(name)
            raise EditError(
                f"{name!r} cannot be a name in an ML Program",
                expected="letters, digits and underscores, not a digit first",
                found=name,
                fix=f"call it {safe if not safe[:1].isdigit() else '_' + safe}",
            )
        return name

    def call_inside(self, value: str, mark: str) -> str:
        """The name that a value has within from now on; outside it keeps its own."""
        inner = self.free(f"{value}_{mark}")
        # what the block hands out keeps the name: it is the output's, which another operation will make
        outside = list(self.block.outputs)
        mil.rename(self.block, {value: inner})
        self.block.outputs[:] = outside
        self.changed()
        return inner

    # operations

    def literal(self, array: np.ndarray, dtype: str) -> MIL_pb2.Value:
        """The Value message of a constant; a large one goes to the weight file that the program reads already."""
        first = next(mil.blobs(self.block.operations), None)
        value = MIL_pb2.Value()
        write_value(value, array, dtype, self.store, DEFAULT_WEIGHT_FILE if first is None else first.fileName)
        return value

    def insert(
        self,
        place: int,
        operator: str,
        name: str,
        made: str,
        data: str,
        setting: tuple[str, MIL_pb2.Value],
        made_type: MIL_pb2.ValueType,
    ) -> None:
        """An operation with one datum and one setting (its key and its Value message), which a constant in front of it holds."""
        key, value = setting
        constant = constant_operation(self.free(f"{made}_{key}_0"), value)
        operation = mil.new_operation(operator, name)
        operation.inputs["x"].arguments.add(name=data)
        operation.inputs[key].arguments.add(name=constant.outputs[0].name)
        operation.outputs.add(name=made).type.CopyFrom(made_type)
        self.block.operations.insert(place, constant)
        self.block.operations.insert(place + 1, operation)
        self.changed()

    def insert_cast(self, source: str, made: str, dtype: str, place: int) -> None:
        """Makes ``made`` of ``source`` in another dtype."""
        word = mil.text_value({"float16": "fp16", "float32": "fp32"}.get(dtype, dtype))
        made_type = tensor_type(dtype, self.type_of(source)[1])
        self.insert(place, "cast", self.free(made + "_cast"), made, source, ("dtype", word), made_type)

    def cast_output(self, value: str, carried: str) -> None:
        """Lets ``value`` name what is cast for the outside; within it is called by another name from now on."""
        inner = self.call_inside(value, "uncast")
        self.insert_cast(inner, value, carried, self.place_of(inner) + 1)

    def bypass(self, operation: MIL_pb2.Operation) -> str:
        """Takes out an operation of one datum, which it returns; what read the operation reads that."""
        constants, made = self.constants(), operation.outputs[0].name
        data = next(str(b.name) for _, b in mil.bindings(operation) if b.name not in constants)
        for reader in self.block.operations:
            mil.rename_reads(reader, {made: data})
        self.remove(made)
        return data

    def remove(self, value: str) -> None:
        """Takes out the operation that makes ``value``, and constants that only it read."""
        place = self.place_of(value)
        read = list(mil.reads(self.block.operations[place]))
        del self.block.operations[place]
        self.drop_unread(read)

    def drop_unread(self, names: Iterable[str]) -> None:
        """Constants that only a changed layer read go with it, and what those were made from."""
        for name in dict.fromkeys(names):
            operation = self.constants().get(name)  # looked up anew: an operation with two outputs goes once
            if operation is not None and not any(self.readers(o.name) for o in operation.outputs):
                self.remove(name)
        self.changed()

    def sort(self) -> None:
        """Moves operations behind what they read, where they do not stand there; EditError where they read in a circle."""
        operations = list(self.block.operations)
        makers = {o.name: i for i, op in enumerate(operations) for o in op.outputs}
        try:
            order = behind_needs(
                range(len(operations)), lambda i: (makers[n] for n in mil.reads(operations[i]) if n in makers)
            )
        except Circle as circle:
            raise EditError(
                "the layers would read from each other in a circle",
                expected="a layer that reads what is made before it",
                found=mil.name(operations[circle.path[0]]),
            ) from None
        if order == list(range(len(operations))):
            return
        # a list of messages cannot be sorted in place: to delete its items empties those that were taken from it
        copies = [copied(operations[index]) for index in order]
        del self.block.operations[:]
        self.block.operations.extend(copies)


def copied(operation: MIL_pb2.Operation) -> MIL_pb2.Operation:
    """A copy of its own: protobuf's lists hand out their own messages."""
    copy = MIL_pb2.Operation()
    copy.CopyFrom(operation)
    return copy


def constant_operation(name: str, value: MIL_pb2.Value) -> MIL_pb2.Operation:
    """The operation that makes a constant, under its own name."""
    operation = mil.new_operation("const", name)
    operation.attributes["val"].CopyFrom(value)
    operation.outputs.add(name=name).type.CopyFrom(value.type)
    return operation


def keep_name(operation: MIL_pb2.Operation) -> None:
    """An operation without a name of its own is named by its output: before that changes it gets one."""
    if "name" not in operation.attributes:
        mil.set_name(operation, mil.name(operation))


def _as_identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)
