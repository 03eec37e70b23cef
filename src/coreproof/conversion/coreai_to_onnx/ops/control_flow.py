"""Core AI's control flow: if becomes If, while becomes Loop; of an invoke what the other function computes is put there."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers
from coreproof.conversion.coreai_to_onnx.program import callee_of, enter, lower_block
from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.model.coreai.program import StoredBlock


@lowers("if", exact=True, passes_on=True)
def if_(low: CoreAILowering, condition: Operand) -> tuple[ir.Value, ...]:
    ways = []
    blocks, count = low.blocks, len(low.made)
    for block in blocks:
        b = OnnxBuilder(f"{low.name}/way", parent=low.b)
        child = low.nested(b)
        ways.append(b.graph(_own(child, _stateless(low, child, block))))
    if not count:  # an If of ONNX makes something
        return ()
    results = low.ops("If", low.op("Reshape", condition, [1]), then_branch=ways[0], else_branch=ways[1], outputs=count)
    return _typed(results, ways[0].outputs)


@lowers("while", exact=True, passes_on=True)
def while_(low: CoreAILowering, *inits: Operand) -> tuple[ir.Value, ...]:
    """The first block runs once before the loop, and behind the second one in each turn."""
    before, after = low.blocks
    start = low.nested(low.b)
    start.named = False
    start.environment.update(zip(before.arguments, inits, strict=True))
    go, *first = (low.value(value) for value in _stateless(low, start, before))
    # what a folded constant is, a Loop takes as well; but its body may make another one of it
    first = [low.ops("Identity", value, outputs=1)[0] for value in first]
    b = OnnxBuilder(f"{low.name}/turn", parent=low.b)
    child = low.nested(b)
    carried = [_carried(low, value, f"{low.name}/{i}") for i, value in enumerate(first)]
    child.environment.update(zip(after.arguments, carried, strict=True))
    yielded = _stateless(low, child, after)
    child.named = False
    child.environment.update(zip(before.arguments, yielded, strict=True))
    again, *held = _own(child, _stateless(low, child, before))
    turn = ir.Value(name=low.b.unique(f"{low.name}/turn"), type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    going = ir.Value(name=low.b.unique(f"{low.name}/go"), type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    b.inputs.extend([turn, going, *carried])
    on = low.op("Reshape", go, [])
    results = low.ops(
        "Loop", None, on, *first, body=b.graph([child.op("Reshape", again, []), *held]), outputs=len(first)
    )
    return _typed(results, held)


def _stateless(low: CoreAILowering, child: CoreAILowering, block: StoredBlock) -> tuple[Operand, ...]:
    """A block lowered that may read states, and write none."""
    before = dict(low.scope.states)
    handed = lower_block(child, block)
    if low.scope.states != before:
        raise low.refuse("a state is written within it")
    return handed


def _own(child: CoreAILowering, handed: Sequence[Operand]) -> list[ir.Value]:
    """What a body hands out: each made in it, and once."""
    outputs: list[ir.Value] = []
    for operand in handed:
        value = child.value(operand)
        producer = value.producer()
        if producer is None or producer not in child.b.nodes or value in outputs:
            value = child.b.copy(value)
        outputs.append(value)
    return outputs


def _typed(results: Sequence[ir.Value], inner: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    """The results typed as what is inside, of which ONNX infers nothing; ways and turns may differ in length, not in rank."""
    for result, value in zip(results, inner, strict=True):
        result.type = value.type
        result.shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
    return tuple(results)


def _carried(low: CoreAILowering, first: ir.Value, name: str) -> ir.Value:
    value = ir.Value(name=low.b.unique(name), type=first.type)
    value.shape = None if first.shape is None else ir.Shape([None] * len(first.shape))
    return value


@lowers("invoke", exact=True, passes_on=True)
def invoke(low: CoreAILowering, *operands: Operand) -> tuple[Operand, ...]:
    assert low.current is not None
    name = callee_of(low.current)
    found = next((function for function in low.scope.program.functions if function.name == name), None)
    if found is None:
        raise low.refuse("the program has no function of that name", found=name)
    enter(low)
    child = CoreAILowering(low.b, low.precision, low.where, found, low.scope, named=False)
    child.environment.update(zip(found.block.arguments, operands, strict=True))
    handed = lower_block(child, found.block)
    low.scope.depth -= 1
    return handed


@lowers("isolated_group", exact=True, passes_on=True)
def isolated_group(low: CoreAILowering, *operands: Operand) -> tuple[Operand, ...]:
    (block,) = low.blocks
    child = low.nested(low.b)
    child.environment.update(zip(block.arguments, operands, strict=True))
    return lower_block(child, block)
