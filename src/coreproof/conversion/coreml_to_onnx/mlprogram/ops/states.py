"""MIL's states: read and written values that live from one prediction to the next."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.operators import MIL

MIL.describe("coreml_update_state", passes_on=True, effects=True)  # known, and not lowered


@lowers("read_state", since="iOS18", exact=True, passes_on=True, effects=True)
def read_state(low: Lowering, *, input: Operand) -> ir.Value:
    return low.shared.states[_name(low, input)]


@lowers("write_state", since="iOS18", exact=True, passes_on=True, effects=True)
def write_state(low: Lowering, *, input: Operand, data: Operand) -> tuple[()]:
    # an If or a Loop of ONNX's hands out what it makes by its outputs alone
    if low.parent is not None:
        raise low.refuse("a state is written inside a branch or a loop")
    low.shared.states[_name(low, input)] = low.value(data)
    return ()


def _name(low: Lowering, state: Operand) -> str:
    """The state's name: its value in the environment is the one the run began with."""
    scope: Lowering | None = low
    while scope is not None:
        for name in low.shared.states:
            if scope.environment.get(name) is state:
                return name
        scope = scope.parent
    raise low.refuse("it does not read or write a state of the function")
