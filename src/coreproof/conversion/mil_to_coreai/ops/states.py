"""MIL's states in Core AI's: handles that are read and written."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai import states
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, translates


@translates("read_state", since="iOS18")
def read_state(t: Translation, *, input: Operand) -> Tensor:
    return states.read(t, _name(t, input))


@translates("write_state", since="iOS18")
def write_state(t: Translation, *, input: Operand, data: Operand) -> list[Tensor]:
    name = _name(t, input)
    states.write(t, name, t.value(data, t.scope.states[name].element))
    return []


def _name(t: Translation, state: Operand) -> str:
    if t.parent is not None:
        raise t.refuse("a state is read or written inside a branch or a loop")
    for name, handle in t.scope.states.items():
        if handle is state:
            return name
    raise t.refuse("it does not read or write a state of the function")
