"""Widening: makes operations of a float16 ML Program compute in float32, with casts around them.

Before and after, with ``conv`` widened::

    x: fp16 ── conv(w: fp16): fp16 ── relu        x: fp16 ── cast: fp32 ── conv(w: fp32): fp32 ── cast: fp16 ── relu

Between two widened operations there is no cast, and where the input was cast to float16 on entry, the widened operation
reads it as it was before. Values keep their names for everyone who reads them in float16; layers keep theirs.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from coreproof.editing.editors.program_document import (
    ProgramDocument,
    constant_operation,
    copied,
)
from coreproof.errors import EditError
from coreproof.model.coreml.literals import read_literal
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program as mil
from coreproof.model.formats.free_name import free_name


class Widening:
    """Widens ``operations`` (by the first value that each makes) of a program's block.

    Raises EditError, before anything is changed, for a name that no operation of the block has or that makes nothing in float16.
    """

    def __init__(self, document: ProgramDocument, operations: Collection[str]) -> None:
        self._document = document
        self._operations = frozenset(operations)
        self._require_half(operations)
        block = document.block
        self._producers = {o.name: op for op in block.operations for o in op.outputs}
        # of the block before anything is widened: readers in float16 still see those types
        self._types = {named.name: named.type for named in document.function.inputs}
        self._types.update({o.name: o.type for op in block.operations for o in op.outputs})
        self._taken = document.taken()
        self._wide: dict[str, str] = {}
        self._constants: dict[str, str] = {}
        self._dtype_constants: dict[str, str] = {}
        self._fresh: list[MIL_pb2.Operation] = []

    def _require_half(self, operations: Collection[str]) -> None:
        made = {o.outputs[0].name: o for o in self._document.block.operations if o.outputs}
        for name in operations:
            operation, where = made.get(name), self._document.model.name
            if operation is None or operation.type == "const":
                raise EditError(
                    f"there is no operation {name!r} to compute in float32",
                    where=where,
                    expected="an operation of the main block",
                    found=name,
                )
            if not any(_is_half(o.type) for o in operation.outputs):
                raise EditError(f"operation {name!r} does not compute in float16", where=where, found=operation.type)

    def carry_out(self) -> None:
        """Puts the operations with the casts in between in the place of the block's."""
        block = self._document.block
        for operation in block.operations:
            # the originals are still asked for what they were: weights are widened from them
            changed = copied(operation)
            if operation.outputs and operation.outputs[0].name in self._operations:
                self._widen(changed)
                continue
            if operation.type == "cast":
                self._drop_redundant_cast(changed)
            self._fresh.append(changed)
        kept = self._without_unread()
        del block.operations[:]
        block.operations.extend(kept)

    def _widen(self, operation: MIL_pb2.Operation) -> None:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                self._widen_binding(binding)
        outputs = []
        for output in operation.outputs:
            if _is_half(output.type):
                outputs.append(output.name)
                self._wide[output.name] = self._free(f"{output.name}_fp32")
                output.name = self._wide[output.name]
                output.type.tensorType.dataType = MIL_pb2.FLOAT32
        self._fresh.append(operation)
        for value in outputs:
            # the operation keeps its name, its result does not: the cast makes that for those who read float16
            cast = self._cast(self._wide[value], value, "fp16", value)
            mil.set_name(cast, self._free(f"{value}_fp16"))
            self._fresh.append(cast)

    def _widen_binding(self, binding: MIL_pb2.Argument.Binding) -> None:
        if binding.WhichOneof("binding") == "value":
            if _is_half(binding.value.type):
                binding.value.CopyFrom(self._wide_literal(binding.value))
            return
        value = binding.name
        if value not in self._types or not _is_half(self._types[value]):
            return
        producer = self._producers.get(value)
        if producer is not None and producer.type == "const":
            binding.name = self._wide_constant(value, producer)
        else:
            binding.name = self._wide_value(value, producer)

    def _wide_value(self, value: str, producer: MIL_pb2.Operation | None) -> str:
        """``value`` in float32: as it was made, as it was before it was cast to float16, or cast back."""
        if value not in self._wide:
            before = _datum(producer) if producer is not None and producer.type == "cast" else None
            if before is not None and before in self._types and mil.dtype_of(self._types[before]) == "float32":
                self._wide[value] = before
            else:
                self._wide[value] = self._free(f"{value}_fp32")
                self._fresh.append(self._cast(value, self._wide[value], "fp32", value))
        return self._wide[value]

    def _wide_constant(self, value: str, producer: MIL_pb2.Operation) -> str:
        if value not in self._constants:
            name = self._constants[value] = self._free(f"{value}_fp32")
            self._fresh.append(constant_operation(name, self._wide_literal(producer.attributes["val"])))
        return self._constants[value]

    def _wide_literal(self, value: MIL_pb2.Value) -> MIL_pb2.Value:
        stored = np.asarray(read_literal(self._document.model, value))
        return self._document.literal(stored.astype(np.float32), "float32")

    def _drop_redundant_cast(self, cast: MIL_pb2.Operation) -> None:
        """A cast to float32 of what is float32 already would round it on the way."""
        value = _datum(cast)
        if value in self._wide and mil.dtype_of(cast.outputs[0].type) == "float32":
            cast.inputs["x"].arguments[0].name = self._wide[value]

    # new operations

    def _cast(self, value: str, name: str, word: str, like: str) -> MIL_pb2.Operation:
        """Casts ``value`` to the dtype that MIL calls ``word``, in the shape of the value ``like``."""
        cast = mil.new_operation("cast", name)
        cast.inputs["x"].arguments.add(name=value)
        cast.inputs["dtype"].arguments.add(name=self._dtype_constant(word))
        output = cast.outputs.add(name=name)
        output.type.CopyFrom(self._types[like])
        output.type.tensorType.dataType = MIL_pb2.FLOAT16 if word == "fp16" else MIL_pb2.FLOAT32
        return cast

    def _dtype_constant(self, word: str) -> str:
        if word not in self._dtype_constants:
            name = self._dtype_constants[word] = self._free(f"cast_to_{word}")
            self._fresh.append(constant_operation(name, mil.text_value(word)))
        return self._dtype_constants[word]

    def _free(self, wanted: str) -> str:
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def _without_unread(self) -> list[MIL_pb2.Operation]:
        """Casts and constants that nobody reads any more are left out; from the end, as one may be all that reads another."""
        # what was unread before is not ours to take out
        touched = {*self._wide, *self._wide.values(), *self._constants, *self._constants.values()}
        touched.update(self._dtype_constants.values())
        wanted = set(self._document.block.outputs)
        kept = []
        for operation in reversed(self._fresh):
            names = set(mil.writes(operation))
            if operation.type in ("cast", "const") and names <= touched and not names & wanted:
                continue
            kept.append(operation)
            wanted.update(mil.reads(operation))
        return kept[::-1]


def _datum(cast: MIL_pb2.Operation) -> str:
    """The value that a cast reads; "" where it is a literal."""
    return next((binding.name for key, binding in mil.bindings(cast) if key == "x"), "")


def _is_half(value_type: MIL_pb2.ValueType) -> bool:
    return mil.dtype_of(value_type) == "float16"
