"""States of a Core AI program opened: what it keeps from one run to the next becomes an input and an output of it.

::

    before:  a, t = read_handle(total, token)   b = add(a, x)   write_handle(total, b, t)
    after:   a = cast(total)                    b = add(a, x)   b is handed out as well
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coreproof.errors import ConversionError
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import Function, StoredBlock, StoredOperation, StoredProgram, operations
from coreproof.model.formats.free_name import free_name

_HANDLED = ("coreai.read_handle", "coreai.write_handle")


def open_states(model: CoreAIModel) -> tuple[CoreAIModel, Mapping[str, str]]:
    """The model at its function without states, and of each the output that holds it after a run; itself where there are none.

    Raises ConversionError for a state that is read or written within an operation.
    """
    states = {value: name for name, value in model.function.inputs.items() if _is_state(model.function, value)}
    if not states:
        return model, {}
    function, pairs = _opened(model.function, states, model.where)
    program = StoredProgram(tuple(function if f.name == function.name else f for f in model.program.functions))
    made = CoreAIModel(
        program,
        name=model.name,
        path=model.path,
        function=function.name,
        files=model.files,
        keep_alive=model.keep_alive,
    )
    made.name, made.opened_states = model.name, pairs
    made.take_provenance(model)
    made.labels, made.feeding, made.untrained = model.labels, model.feeding, model.untrained
    return made, pairs


def _is_state(function: Function, value: str) -> bool:
    held = function.types.get(value)
    return held is not None and held.state


def _opened(function: Function, states: Mapping[str, str], where: str) -> tuple[Function, dict[str, str]]:
    now = {handle: handle for handle in states}
    body: list[StoredOperation] = []
    for operation in function.block.operations:
        if any(inner.kind in _HANDLED for block in operation.blocks for inner in operations(block)):
            raise ConversionError(
                "a state is read or written within an operation",
                where=f"{where}, operation {operation.name!r}",
                expected="states that are read and written at the top of a function",
            )
        if operation.kind not in _HANDLED or operation.operands[0] not in states:
            body.append(operation)
        elif operation.kind == "coreai.read_handle":
            read = operation.results[0]
            body.append(replace(operation, kind="coreai.cast", operands=(now[operation.operands[0]],), results=(read,)))
        else:
            now[operation.operands[0]] = operation.operands[1]
    taken = {*function.types, *function.outputs, *function.inputs}
    pairs = {name: free_name(f"{name}_after", taken) for name in states.values()}
    handed = {pairs[name]: now[handle] for handle, name in states.items()}
    outputs = {**function.outputs, **handed}
    # tokens are made and joined as before, and nobody reads them
    body = [o for o in body if o.kind not in ("coreai.create_token", "coreai.join_token")]
    body[-1] = replace(body[-1], operands=tuple(outputs.values()))
    types = {name: replace(held, state=False) for name, held in function.types.items()}
    return replace(
        function, outputs=outputs, block=StoredBlock(function.block.arguments, tuple(body)), types=types
    ), pairs
