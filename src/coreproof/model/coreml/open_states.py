"""States of an ML Program opened: what it keeps from one prediction to the next becomes an input and an output of it.

::

    before:  a = read_state(total)   b = add(a, x)   write_state(total, b)   y = mul(b, 2)
    after:   a = identity(total)     b = add(a, x)   total_after = identity(b)   y = mul(b, 2)

So whatever knows programs without states (lowering, validation, verification, the doctor) knows those with states too. A state
that is written in a branch or a loop leaves it by one more output, and enters a loop by one more variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coreproof.errors import ConversionError
from coreproof.model.coreml.proto import FeatureTypes_pb2, MIL_pb2
from coreproof.model.formats import program
from coreproof.model.formats.free_name import free_name

if TYPE_CHECKING:
    from coreproof.model.coreml.model import CoreMLModel

READ, WRITE = "read_state", "write_state"


@dataclass(frozen=True)
class OpenedStates:
    """A program without states, and of each state that it had (an input of that name) the output that holds it after a run."""

    model: CoreMLModel
    pairs: Mapping[str, str]


def open_states(model: CoreMLModel, function: str | None = None) -> OpenedStates:
    """The model with the states of ``function`` (None: its main one) as inputs and outputs; itself where there are none.

    Raises ConversionError for a state that is read, written or described as what it is not.
    """
    if not model.is_program or not model.spec.mlProgram.functions:
        return OpenedStates(model, {})
    chosen = function or program.main_name(model.spec)
    stored = model.spec.mlProgram.functions[chosen]
    if not any(_is_state(i) for i in stored.inputs) and not program.description_of(model.spec, chosen).state:
        return OpenedStates(model, {})
    spec = type(model.spec)()
    spec.CopyFrom(model.spec)
    pairs = _Opening(spec.mlProgram.functions[chosen], model.where).open()
    description = program.description_of(spec, chosen)
    shapes = {i.name: program.shape_of(i.type) for i in spec.mlProgram.functions[chosen].inputs}
    for feature in list(description.state):
        array = feature.type.stateType.arrayType
        _require_described(feature.name, array, shapes, pairs, model.where)
        # the program has them now: whoever reads its description must find them too
        for features, name in ((description.input, feature.name), (description.output, pairs[feature.name])):
            made = features.add(name=name, shortDescription=feature.shortDescription)
            made.type.multiArrayType.CopyFrom(array)
    del description.state[:]
    opened = model.with_spec(spec)
    opened.path = model.path  # for messages
    return OpenedStates(opened, pairs)


def _is_state(named: MIL_pb2.NamedValueType) -> bool:
    return bool(named.type.WhichOneof("type") == "stateType")


def _require_described(
    name: str,
    array: FeatureTypes_pb2.ArrayFeatureType,
    shapes: Mapping[str, tuple[int | None, ...] | None],
    pairs: Mapping[str, str],
    where: str,
) -> None:
    declared = tuple(int(n) for n in array.shape)
    if name in pairs and shapes[name] == declared:
        return
    found = f"{list(declared)} in its description, " if name in pairs else "no such state in the program: "
    raise ConversionError(
        f"state {name!r} is not what the model's description says",
        where=where,
        expected=f"{list(shapes[name] or ())}, as the program has it" if name in pairs else "a state of the program",
        found=found + (f"{shapes[name]} in the program" if name in pairs else ", ".join(pairs) or "it has none"),
        fix="the model is damaged; convert it again",
    )


class _Opening:
    """One function on its way: the type of each value, and names that are still free."""

    def __init__(self, function: MIL_pb2.Function, where: str) -> None:
        self.function, self.where = function, where
        self.block = program.block_of(function)
        self.states: dict[str, MIL_pb2.ValueType] = {}
        self.types: dict[str, MIL_pb2.ValueType] = {}
        self.taken = {i.name for i in function.inputs} | set(_names(self.block))

    def open(self) -> dict[str, str]:
        for given in self.function.inputs:
            if _is_state(given):
                wrapped = MIL_pb2.ValueType()
                wrapped.CopyFrom(given.type.stateType.wrappedType)
                given.type.CopyFrom(wrapped)
                self.states[given.name] = wrapped
            self.types[given.name] = given.type
        # one opset's block is rewritten; the others would still speak of states
        for opset in [name for name in self.function.block_specializations if name != self.function.opset]:
            del self.function.block_specializations[opset]
        holds = self._walk(self.block, {name: name for name in self.states})
        pairs: dict[str, str] = {}
        for name, value in holds.items():
            # what a conversion wrote is the value that its source calls so
            if value != f"{name}_after" or value in self.block.outputs:
                after = self._free(f"{name}_after")
                self._identity(self.block, value, after, self.states[name])
                value = after
            pairs[name] = value
            self.block.outputs.append(value)
        return pairs

    def _free(self, wish: str) -> str:
        name = free_name(wish, self.taken)
        self.taken.add(name)
        return name

    def _identity(self, block: MIL_pb2.Block, read: str, made: str, kind: MIL_pb2.ValueType) -> None:
        copy = block.operations.add(type="identity")
        copy.inputs["x"].arguments.add(name=read)
        copy.outputs.add(name=made).type.CopyFrom(kind)

    # operations

    def _walk(self, block: MIL_pb2.Block, holds: Mapping[str, str]) -> dict[str, str]:
        """Rewrites a block; ``holds`` are the values of the states before it, the result those behind it."""
        now = dict(holds)
        stored = list(block.operations)
        del block.operations[:]
        for operation in stored:
            if operation.type == READ:
                state = self._state(operation, now)
                read = block.operations.add(type="identity")
                read.inputs["x"].arguments.add(name=now[state])
                read.outputs.extend(operation.outputs)
                for key, attribute in operation.attributes.items():
                    read.attributes[key].CopyFrom(attribute)
            elif operation.type == WRITE:
                state = self._state(operation, now)
                now[state] = self._written(block, operation, state)
            else:
                self._refuse_handle(operation)
                written = [name for name in self.states if name in _written_in(operation, self.states)]
                if written and operation.type == "cond":
                    now.update(self._cond(operation, written, now))
                elif written and operation.type == "while_loop":
                    now.update(self._loop(operation, written, now))
                elif written:
                    raise self._refusal(operation, "it writes a state in a block of its own", ", ".join(written))
                else:
                    for nested in operation.blocks:
                        self.types.update((i.name, i.type) for i in nested.inputs)
                        self._walk(nested, now)
                block.operations.append(operation)
            self.types.update((o.name, o.type) for o in operation.outputs)
        return now

    def _state(self, operation: MIL_pb2.Operation, now: Mapping[str, str]) -> str:
        named = [b.name for b in operation.inputs["input"].arguments if b.WhichOneof("binding") == "name"]
        if len(named) != 1 or named[0] not in now:
            raise self._refusal(
                operation,
                "it does not read or write a state of the function",
                ", ".join(map(repr, named)) or "no name",
                ", ".join(now) or "a state, and the function has none",
            )
        return named[0]

    def _written(self, block: MIL_pb2.Block, operation: MIL_pb2.Operation, state: str) -> str:
        """The value that a write hands to its state."""
        bound = list(operation.inputs["data"].arguments)
        if len(bound) != 1:
            raise self._refusal(operation, "it writes no single value", f"{len(bound)} values")
        kind = self.types.get(bound[0].name) if bound[0].WhichOneof("binding") == "name" else bound[0].value.type
        # a value of another type would change what the next prediction reads
        if kind is not None and not _alike(kind, self.states[state]):
            raise self._refusal(
                operation,
                f"what it writes is not of the type of state {state!r}",
                _said(kind),
                _said(self.states[state]),
            )
        if bound[0].WhichOneof("binding") == "name":
            return str(bound[0].name)
        # a value that stands in the write itself has no name that an output could bear
        constant = block.operations.add(type="const")
        made = constant.outputs.add(name=self._free(f"{state}_written"))
        made.type.CopyFrom(bound[0].value.type)
        constant.attributes["val"].CopyFrom(bound[0].value)
        return str(made.name)

    def _refuse_handle(self, operation: MIL_pb2.Operation) -> None:
        read = {b.name for a in operation.inputs.values() for b in a.arguments if b.WhichOneof("binding") == "name"}
        if handles := sorted(read & self.states.keys()):
            raise self._refusal(
                operation, "it takes a state where it needs a value", ", ".join(handles), "what read_state makes of it"
            )

    # blocks

    def _cond(self, operation: MIL_pb2.Operation, written: list[str], now: Mapping[str, str]) -> dict[str, str]:
        for nested in operation.blocks:
            holds = self._walk(nested, now)
            # both branches hand on every state that either writes: a cond's outputs are those of both
            for state in written:
                made = self._free(f"{state}_in_branch")
                self._identity(nested, holds[state], made, self.states[state])
                nested.outputs.append(made)
        return self._results(operation, written)

    def _loop(self, operation: MIL_pb2.Operation, written: list[str], now: Mapping[str, str]) -> dict[str, str]:
        condition, body = operation.blocks[0], operation.blocks[1]
        # what a condition computes leaves it as a truth alone
        if _writes_of(condition.operations, self.states):
            raise self._refusal(operation, "its condition writes a state", ", ".join(written), "writes in its body")
        for state in written:
            # a loop hands on from round to round what its variables are
            operation.inputs["loop_vars"].arguments.add(name=now[state])
        for nested in (condition, body):
            inside = dict(now)
            for state in written:
                inside[state] = self._free(f"{state}_in_loop")
                nested.inputs.add(name=inside[state]).type.CopyFrom(self.states[state])
            self.types.update((i.name, i.type) for i in nested.inputs)
            holds = self._walk(nested, inside)
            if nested is body:
                body.outputs.extend(holds[state] for state in written)
        return self._results(operation, written)

    def _results(self, operation: MIL_pb2.Operation, written: list[str]) -> dict[str, str]:
        made = {state: self._free(f"{state}_behind_{program.name(operation)}") for state in written}
        for state, name in made.items():
            operation.outputs.add(name=name).type.CopyFrom(self.states[state])
        return made

    def _refusal(
        self, operation: MIL_pb2.Operation, problem: str, found: str, expected: str | None = None
    ) -> ConversionError:
        return ConversionError(
            f"{operation.type}: {problem}",
            where=f"{self.where}, operation {program.name(operation)!r}",
            expected=expected,
            found=found,
            fix="the program is damaged, or of a form that coreproof does not know; convert it again from its source",
        )


def _names(block: MIL_pb2.Block) -> Iterator[str]:
    yield from (i.name for i in block.inputs)
    for operation in block.operations:
        yield from program.writes(operation)
        for nested in operation.blocks:
            yield from _names(nested)


def _written_in(operation: MIL_pb2.Operation, states: Mapping[str, object]) -> set[str]:
    return {name for nested in operation.blocks for name in _writes_of(nested.operations, states)}


def _writes_of(operations: Iterable[MIL_pb2.Operation], states: Mapping[str, object]) -> set[str]:
    return {
        binding.name
        for operation in program.nodes(operations)
        if operation.type == WRITE
        for binding in operation.inputs["input"].arguments
        if binding.name in states
    }


def _alike(one: MIL_pb2.ValueType, other: MIL_pb2.ValueType) -> bool:
    if program.dtype_of(one) != program.dtype_of(other):
        return False
    a, b = program.shape_of(one), program.shape_of(other)
    # no shape at all is an unknown rank, not a scalar
    if a is None or b is None:
        return a is b
    return len(a) == len(b) and all(x is None or y is None or x == y for x, y in zip(a, b, strict=True))


def _said(kind: MIL_pb2.ValueType) -> str:
    return f"{program.dtype_of(kind)}[{', '.join('?' if d is None else str(d) for d in program.shape_of(kind) or ())}]"
