"""MIL's control flow in Core AI's: cond becomes if, while_loop becomes while."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.mil_to_coreai.program import translate_operations
from coreproof.conversion.mil_to_coreai.translation import ELEMENTS, Operand, Tensor, Translation, translates
from coreproof.model.coreai.element_types import TensorType
from coreproof.model.coreai.program import StoredBlock
from coreproof.model.coreml.proto import MIL_pb2


def _results(t: Translation, kind: str) -> list[Tensor]:
    """What the operation makes, in the types that the program declares."""
    made = []
    for output in t.outputs:
        if output.shape is None or output.dtype not in ELEMENTS:
            raise t.refuse("it makes what is no tensor of known rank", found=output.name)
        made.append(t.result(TensorType(ELEMENTS[output.dtype], output.shape), kind))
    return made


def _inner(
    t: Translation,
    block: MIL_pb2.Block,
    arguments: Sequence[Tensor],
    end: str,
    outputs: Sequence[str],
    wanted: Sequence[Tensor],
) -> StoredBlock:
    """A block within: its operations, and at its end what it hands out in the wanted types."""
    child = t.nested()
    for named, value in zip(block.inputs, arguments, strict=True):
        child.environment[named.name] = value
    assert t.model is not None
    translate_operations(child, t.model, block.operations)
    elements = ["i1"] * (len(outputs) - len(wanted)) + [v.element for v in wanted]
    handed = [child.value(child.lookup(name), element) for name, element in zip(outputs, elements, strict=True)]
    return _closed(child, arguments, end, handed)


def _closed(child: Translation, arguments: Sequence[Tensor], end: str, handed: Sequence[Tensor]) -> StoredBlock:
    child.append(end, [v.name for v in handed], [])
    return StoredBlock(tuple(a.name for a in arguments), tuple(child.operations))


@translates("cond")
def cond(t: Translation, *, pred: Operand) -> list[Tensor]:
    made = _results(t, "if")
    scalar = t.value(pred, "i1")
    scalar = t.reshape(scalar, []) if scalar.shape else scalar
    ways = [_inner(t, block, [], "yield", list(block.outputs), made) for block in t.blocks]
    t.append("if", [scalar.name], [v.name for v in made], {}, ways)
    return made


@translates("while_loop")
def while_loop(t: Translation, *, loop_vars: Sequence[Operand]) -> list[Tensor]:
    made = _results(t, "while")
    condition, body = t.blocks
    inits = [t.value(v, m.element) for v, m in zip(loop_vars, made, strict=True)]
    # lengths may change from turn to turn where the result's are not known
    types = [TensorType(m.element, m.shape) for m in made]
    before, after = ([t.result(held, "argument") for held in types] for _ in range(2))
    child = t.nested()
    for named, value in zip(condition.inputs, before, strict=True):
        child.environment[named.name] = value
    assert t.model is not None
    translate_operations(child, t.model, condition.operations)
    go = child.value(child.lookup(condition.outputs[0]), "i1")
    go = child.reshape(go, []) if go.shape else go
    blocks = [
        _closed(child, before, "condition", [go, *before]),
        _inner(t, body, after, "yield", list(body.outputs), made),
    ]
    t.append("while", [v.name for v in inits], [v.name for v in made], {}, blocks)
    return made
