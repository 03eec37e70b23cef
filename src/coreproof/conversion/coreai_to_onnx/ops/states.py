"""Core AI's states: handles that are read and written in the order that tokens say, which is that of the operations."""

from __future__ import annotations

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers


def _state(low: CoreAILowering) -> str:
    """The name of the state whose handle the operation at hand is given."""
    assert low.current is not None
    handle = low.current.operands[0]
    for name, value in low.function.inputs.items():
        if value == handle and name in low.scope.states:
            return name
    raise low.refuse("its handle is none of the function's inputs", found=handle)


@lowers("create_token", exact=True)
@lowers("join_token", exact=True)
def token(low: CoreAILowering, *tokens: Operand) -> Operand:
    return None


@lowers("read_handle", exact=True, error="move")
def read_handle(low: CoreAILowering, handle: Operand, before: Operand) -> tuple[Operand, Operand]:
    return low.op("Identity", low.scope.states[_state(low)]), None


@lowers("write_handle", exact=True, error="move", effects=True)
def write_handle(low: CoreAILowering, handle: Operand, data: Operand, before: Operand) -> Operand:
    value: ir.Value = low.value(data)
    low.scope.states[_state(low)] = value
    return None
