"""States on their way to Core AI: handles that are read and written, in the order that tokens say."""

from __future__ import annotations

from coreproof.conversion.mil_to_coreai.translation import Tensor, Translation
from coreproof.model.coreai.element_types import TensorType

_TOKEN = "!coreai.token"


def open_handle(top: Translation, name: str, handle: Tensor) -> None:
    """A state of the function, before it is read or written for the first time."""
    top.scope.states[name] = handle
    top.scope.tokens[name] = _token(top)
    top.append("create_token", [], [top.scope.tokens[name]])


def read(block: Translation, name: str) -> Tensor:
    """What a state holds now."""
    handle, before = block.scope.states[name], block.scope.tokens[name]
    value = block.result(TensorType(handle.element, handle.shape), "read_handle")
    block.scope.tokens[name] = _token(block)
    block.append("read_handle", [handle.name, before], [value.name, block.scope.tokens[name]])
    return value


def write(block: Translation, name: str, value: Tensor) -> None:
    """Puts a value into a state."""
    handle, before = block.scope.states[name], block.scope.tokens[name]
    block.scope.tokens[name] = _token(block)
    block.append("write_handle", [handle.name, value.name, before], [block.scope.tokens[name]])


def close_states(top: Translation) -> list[str]:
    """The last token of each state that is written: a function that does not hand them out may leave the writing out."""
    written = {o.operands[0] for o in top.operations if o.kind == "coreai.write_handle"}
    return [top.scope.tokens[name] for name, handle in top.scope.states.items() if handle.name in written]


def _token(block: Translation) -> str:
    name = block.scope.fresh("token")
    block.scope.others[name] = _TOKEN
    return name
