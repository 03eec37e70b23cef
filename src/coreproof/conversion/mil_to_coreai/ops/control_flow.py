"""MIL's control flow in Core AI's: cond becomes if, while_loop becomes while."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.mil_to_coreai.loops import closed, repeated
from coreproof.conversion.mil_to_coreai.program import translate_operations
from coreproof.conversion.mil_to_coreai.translation import ELEMENTS, Operand, Tensor, Translation, translates
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreml.proto import MIL_pb2


def _types(t: Translation) -> list[TensorType]:
    """The types that the program declares of what the operation makes."""
    types = []
    for output in t.outputs:
        if output.shape is None or output.dtype not in ELEMENTS:
            raise t.refuse("it makes what is no tensor of known rank", found=output.name)
        types.append(TensorType(ELEMENTS[output.dtype], output.shape))
    return types


def _handed(
    child: Translation, t: Translation, block: MIL_pb2.Block, arguments: Sequence[Tensor], elements: Sequence[str]
) -> list[Tensor]:
    """Translates a block of the operation at hand into ``child``; what it hands out, of these element types."""
    for named, value in zip(block.inputs, arguments, strict=True):
        child.environment[named.name] = value
    assert t.model is not None
    translate_operations(child, t.model, block.operations)
    return [child.value(child.lookup(name), element) for name, element in zip(block.outputs, elements, strict=True)]


@translates("cond")
def cond(t: Translation, *, pred: Operand) -> list[Tensor]:
    types = _types(t)
    made = [t.result(held, "if") for held in types]
    scalar = t.value(pred, "i1")
    scalar = t.reshape(scalar, []) if scalar.shape else scalar
    ways = []
    for block in t.blocks:
        child = t.nested()
        ways.append(closed(child, [], "yield", _handed(child, t, block, [], [held.element for held in types])))
    t.append("if", [scalar.name], [v.name for v in made], {}, ways)
    return made


@translates("while_loop")
def while_loop(t: Translation, *, loop_vars: Sequence[Operand]) -> list[Tensor]:
    condition, body = t.blocks
    # lengths may change from turn to turn where the result's are not known
    types = _types(t)
    inits = [t.value(v, held.element) for v, held in zip(loop_vars, types, strict=True)]

    def goes_on(child: Translation, held: Sequence[Tensor]) -> Tensor:
        return _handed(child, t, condition, held, ["i1"])[0]

    def turn(child: Translation, held: Sequence[Tensor]) -> list[Tensor]:
        return _handed(child, t, body, held, [v.element for v in types])

    return repeated(t, inits, goes_on, turn, types)
