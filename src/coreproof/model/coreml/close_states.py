"""The way back from ``open_states``: inputs of an ML Program that hold what it remembers, and the outputs behind them, as states.

::

    before:  b = add(total, x)   y = mul(b, 2)            inputs x, total          outputs y, b
    after:   a = read_state(total)   b = add(a, x)   y = mul(b, 2)   write_state(total, b)      state total
"""

from __future__ import annotations

from collections.abc import Mapping

from coreproof.errors import ConversionError
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.formats import program
from coreproof.model.formats.free_name import free_name

SINCE = 18
"""States came with iOS 18."""


def close_states(spec: Model_pb2.Model, pairs: Mapping[str, str], where: str) -> None:
    """Makes states of a program's inputs and outputs, in place: each pair an input and the output that holds it after a run.

    Raises ConversionError for a state whose two ends are not of one type.
    """
    chosen = program.main_name(spec)
    function = spec.mlProgram.functions[chosen]
    block = program.block_of(function)
    taken = {i.name for i in function.inputs} | {n for o in program.nodes(block.operations) for n in program.writes(o)}
    made = {o.name: o.type for operation in block.operations for o in operation.outputs}
    given = {i.name: i for i in function.inputs}
    _require_alike(pairs, {name: i.type for name, i in given.items()} | made, where)
    reads: dict[str, str] = {}
    first: list[MIL_pb2.Operation] = []
    for name in pairs:
        reads[name] = free_name(f"{name}_read", taken)
        taken.add(reads[name])
        first.append(_operation("read_state", reads[name], input=name))
        first[-1].outputs.add(name=reads[name]).type.CopyFrom(given[name].type)
        wrapped = MIL_pb2.ValueType()
        wrapped.CopyFrom(given[name].type)
        given[name].type.stateType.wrappedType.CopyFrom(wrapped)
    # a state is a handle: whatever computes with it reads what read_state gives
    for operation in block.operations:
        program.rename_reads(operation, reads)
    # all at the end, so that no read before it sees what this prediction writes
    last = [
        _operation("write_state", free_name(f"{name}_written", taken), input=name, data=reads.get(output, output))
        for name, output in pairs.items()
    ]
    stored = [*first, *block.operations, *last]
    del block.operations[:]
    block.operations.extend(stored)
    block.outputs[:] = [name for name in block.outputs if name not in pairs.values()]
    _describe(program.description_of(spec, chosen), pairs)


def _operation(kind: str, name: str, **bound: str) -> MIL_pb2.Operation:
    operation = program.new_operation(kind, name)
    for key, value in bound.items():
        operation.inputs[key].arguments.add(name=value)
    return operation


def _require_alike(pairs: Mapping[str, str], types: Mapping[str, MIL_pb2.ValueType], where: str) -> None:
    said: list[tuple[str, str, str]] = []
    for name, output in pairs.items():
        one, other = types[name], types.get(output, types[name])
        kinds = [f"{program.dtype_of(k)}{list(program.shape_of(k) or ())}" for k in (one, other)]
        # a state's memory is laid out once, when it is made
        if kinds[0] != kinds[1] or None in (program.shape_of(one) or ()):
            said.append((name, f"{name} {kinds[0]}", f"{output} {kinds[1]}"))
    if said:
        raise ConversionError(
            "what a Core ML state holds keeps its shape, and these do not: " + ", ".join(name for name, _, _ in said),
            where=where,
            expected="; ".join(expected for _, expected, _ in said),
            found="; ".join(found for _, _, found in said),
            fix="let the model write into a cache of fixed length, and say how far it is filled; or leave it an input and an "
            "output: --target iOS17",
        )


def _describe(
    description: Model_pb2.ModelDescription | Model_pb2.FunctionDescription, pairs: Mapping[str, str]
) -> None:
    inputs = {feature.name: feature for feature in description.input}
    for name in pairs:
        state = description.state.add(name=name, shortDescription=inputs[name].shortDescription)
        array = inputs[name].type.multiArrayType
        state.type.stateType.arrayType.shape.extend(array.shape)
        state.type.stateType.arrayType.dataType = array.dataType
    kept = [feature for feature in description.input if feature.name not in pairs]
    del description.input[:]
    description.input.extend(kept)
    others = [feature for feature in description.output if feature.name not in pairs.values()]
    del description.output[:]
    description.output.extend(others)
