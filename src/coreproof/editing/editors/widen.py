"""widen: makes operations of a float16 ML Program compute in float32, with casts around them.

Before and after, with ``conv`` widened::

    x: fp16 ── conv(w: fp16): fp16 ── relu        x: fp16 ── cast: fp32 ── conv(w: fp32): fp32 ── cast: fp16 ── relu

Between two widened operations there is no cast, and where the input was cast to float16 on entry, the widened operation
reads it as it was before. Values keep their names for everyone who reads them in float16; layers keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from coreproof.editing.editors.program_weights import text_value
from coreproof.errors import EditError
from coreproof.model.coreml.literals import read_literal
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program as mil
from coreproof.model.formats.free_name import free_name

Literal = Callable[[np.ndarray], Any]
"""Makes the Value message of a constant; large ones go to the weight file."""


def widen_block(
    model: CoreMLModel, block: MIL_pb2.Block, inputs: object, operations: Collection[str], literal: Literal
) -> None:
    """Widens ``operations`` (by the first value that each makes) of ``block`` in place. ``inputs``: the function's.

    Raises EditError, before anything is changed, for a name that no operation of the block has or that makes nothing in float16.
    """
    made = {o.outputs[0].name: o for o in block.operations if o.outputs}
    for name in operations:
        operation = made.get(name)
        if operation is None or operation.type == "const":
            raise EditError(
                f"there is no operation {name!r} to compute in float32",
                where=model.name,
                expected="an operation of the main block",
                found=name,
            )
        if not any(_is_half(o.type) for o in operation.outputs):
            raise EditError(f"operation {name!r} does not compute in float16", where=model.name, found=operation.type)
    work = _Widening(model, block, inputs, frozenset(operations), literal)
    fresh = work.rewritten()
    del block.operations[:]
    block.operations.extend(fresh)


class _Widening:
    def __init__(
        self, model: CoreMLModel, block: Any, inputs: Any, operations: frozenset[str], literal: Literal
    ) -> None:
        self.model, self.block, self.literal = model, block, literal
        self.operations = operations
        self.producers = {o.name: op for op in block.operations for o in op.outputs}
        self.types = {named.name: named.type for named in inputs}
        self.types.update({o.name: o.type for op in block.operations for o in op.outputs})
        self.taken = set(self.types)
        for operation in mil.nodes(block.operations):
            self.taken.update((*(o.name for o in operation.outputs), mil.name(operation)))
        self.wide: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.dtype_constants: dict[str, str] = {}
        self.fresh: list[Any] = []

    def rewritten(self) -> list[Any]:
        """The block's operations with the casts in between."""
        for operation in self.block.operations:
            name = operation.outputs[0].name if operation.outputs else ""
            changed = type(operation)()
            changed.CopyFrom(operation)
            if name in self.operations:
                self._widen(changed)
                continue
            if operation.type == "cast":
                self._drop_redundant_cast(changed)
            self.fresh.append(changed)
        return self._without_unread()

    def _widen(self, operation: MIL_pb2.Operation) -> None:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                self._widen_binding(binding)
        outputs = []
        for output in operation.outputs:
            if _is_half(output.type):
                outputs.append(output.name)
                self.wide[output.name] = self._free(f"{output.name}_fp32")
                output.name = self.wide[output.name]
                _retype(output.type, MIL_pb2.FLOAT32)
        self.fresh.append(operation)
        for value in outputs:
            # the operation keeps its name, its result does not: the cast makes that for those who read float16
            cast = self._cast(self.wide[value], value, "fp16", MIL_pb2.FLOAT16)
            _set_name(cast, self._free(f"{value}_fp16"))
            self.fresh.append(cast)

    def _widen_binding(self, binding: MIL_pb2.Argument.Binding) -> None:
        if binding.WhichOneof("binding") == "value":
            if _is_half(binding.value.type):
                binding.value.CopyFrom(self._wide_literal(binding.value))
            return
        value = binding.name
        if value not in self.types or not _is_half(self.types[value]):
            return
        producer = self.producers.get(value)
        if producer is not None and producer.type == "const":
            binding.name = self._wide_constant(value, producer)
        else:
            binding.name = self._wide_value(value, producer)

    def _wide_value(self, value: str, producer: Any) -> str:
        """``value`` in float32: as it was made, as it was before it was cast to float16, or cast back."""
        if value not in self.wide:
            before = _argument(producer, "x") if producer is not None and producer.type == "cast" else None
            if before is not None and before in self.types and _dtype(self.types[before]) == MIL_pb2.FLOAT32:
                self.wide[value] = before
            else:
                self.wide[value] = self._free(f"{value}_fp32")
                self.fresh.append(self._cast(value, self.wide[value], "fp32", MIL_pb2.FLOAT32, like=value))
        return self.wide[value]

    def _wide_constant(self, value: str, producer: Any) -> str:
        if value not in self.constants:
            name = self.constants[value] = self._free(f"{value}_fp32")
            constant = type(producer)()
            constant.CopyFrom(producer)
            constant.outputs[0].name = name
            _retype(constant.outputs[0].type, MIL_pb2.FLOAT32)
            constant.attributes["val"].CopyFrom(self._wide_literal(producer.attributes["val"]))
            _set_name(constant, name)
            self.fresh.append(constant)
        return self.constants[value]

    def _wide_literal(self, value: object) -> Any:
        stored = np.asarray(read_literal(self.model, value))
        return self.literal(stored.astype(np.float32))

    def _drop_redundant_cast(self, cast: Any) -> None:
        """A cast to float32 of what is float32 already would round it on the way."""
        value = _argument(cast, "x")
        if value in self.wide and _dtype(cast.outputs[0].type) == MIL_pb2.FLOAT32:
            cast.inputs["x"].arguments[0].name = self.wide[value]

    # new operations

    def _cast(self, value: str, name: str, word: str, dtype: int, like: str | None = None) -> object:
        cast = MIL_pb2.Operation(type="cast")
        cast.inputs["x"].arguments.add().name = value
        cast.inputs["dtype"].arguments.add().name = self._dtype_constant(word)
        output = cast.outputs.add(name=name)
        output.type.CopyFrom(self.types[like or name])
        _retype(output.type, dtype)
        _set_name(cast, name)
        return cast

    def _dtype_constant(self, text: str) -> str:
        if text not in self.dtype_constants:
            name = self._free(f"cast_to_{text}")
            constant = MIL_pb2.Operation(type="const")
            constant.outputs.add(name=name).type.tensorType.dataType = MIL_pb2.STRING
            constant.attributes["val"].CopyFrom(text_value(text))
            _set_name(constant, name)
            self.fresh.append(constant)
            self.dtype_constants[text] = name
        return self.dtype_constants[text]

    def _free(self, wanted: str) -> str:
        name = free_name(wanted, self.taken)
        self.taken.add(name)
        return name

    def _without_unread(self) -> list[object]:
        """Casts and constants that nobody reads any more are left out."""
        known = {id(op) for op in self.fresh}
        assert len(known) == len(self.fresh)
        originals = {o.outputs[0].name for o in self.block.operations if o.outputs}
        touched = {*self.wide, *self.wide.values(), *self.constants.values(), *self.dtype_constants.values()}
        touched |= set(self.constants) | (originals & set(self.wide))
        wanted = set(self.block.outputs)
        kept = []
        for operation in reversed(self.fresh):
            names = {o.name for o in operation.outputs}
            if operation.type in ("cast", "const") and names <= touched and not names & wanted:
                continue
            kept.append(operation)
            wanted.update(mil.reads(operation))
        return kept[::-1]


def _argument(operation: Any, key: str) -> str | None:
    if operation is None or key not in operation.inputs or len(operation.inputs[key].arguments) != 1:
        return None
    binding = operation.inputs[key].arguments[0]
    return binding.name if binding.WhichOneof("binding") == "name" else None


def _dtype(value_type: MIL_pb2.ValueType) -> int | None:
    return int(value_type.tensorType.dataType) if value_type.WhichOneof("type") == "tensorType" else None


def _is_half(value_type: MIL_pb2.ValueType) -> bool:
    return _dtype(value_type) == int(MIL_pb2.FLOAT16)


def _retype(value_type: Any, dtype: int) -> None:
    value_type.tensorType.dataType = dtype


def _set_name(operation: Any, name: str) -> None:
    """Gives the operation this name."""
    operation.attributes["name"].CopyFrom(text_value(name))
