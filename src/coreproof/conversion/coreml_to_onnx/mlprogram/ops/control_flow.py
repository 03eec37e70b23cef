"""MIL's control flow: cond becomes If, while_loop becomes Loop."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.block import inner, lower_operations


@lowers("cond", exact=True, passes_on=True)
def cond(low: Lowering, *, pred: Operand) -> tuple[ir.Value, ...]:
    branches = []
    for block in low.blocks:
        child, outputs = inner(low, block, [])
        branches.append(child.b.graph(outputs))
    results = low.ops(
        "If", low.op("Reshape", pred, [1]), then_branch=branches[0], else_branch=branches[1],
        outputs=len(low.outputs),
    )  # fmt: skip
    return _typed(results, branches[0].outputs)


@lowers("while_loop", exact=True, passes_on=True, variadic="loop_vars")
def while_loop(low: Lowering, *, loop_vars: Sequence[Operand]) -> tuple[ir.Value, ...]:
    """The condition block runs once before the loop, and behind the body in each turn."""
    condition, body = low.blocks
    count = len(low.outputs)
    # A body reads its variables under the names of the block's inputs; here they are the loop's first values.
    start = low.nested(low.b)
    first = [low.value(v) for v in loop_vars]
    start.environment.update({named.name: value for named, value in zip(condition.inputs, first, strict=True)})
    lower_operations(start, low.shared.model, condition.operations)
    go = low.op("Reshape", start.lookup(condition.outputs[0]), [])

    carried = [_carried(low, value, f"{low.name}/{i}") for i, value in enumerate(first)]
    child, outputs = inner(low, body, carried)
    child.environment.update({named.name: value for named, value in zip(condition.inputs, outputs, strict=True)})
    lower_operations(child, low.shared.model, condition.operations)
    again = child.op("Reshape", child.lookup(condition.outputs[0]), [])
    turn = ir.Value(name=low.b.unique(f"{low.name}/turn"), type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    before = ir.Value(name=low.b.unique(f"{low.name}/go"), type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([]))
    # a Loop's body is given the turn and the condition before what it carries
    child.b.inputs[:0] = [turn, before]
    # no number of turns: the condition alone ends it
    results = low.ops("Loop", None, go, *first, body=child.b.graph([again, *outputs]), outputs=count)
    return _typed(results, outputs)


def _typed(results: tuple[ir.Value, ...], inner: Sequence[ir.Value]) -> tuple[ir.Value, ...]:
    """The results typed as what is inside, of which ONNX infers nothing; ways and turns may differ in length, not in rank."""
    for result, value in zip(results, inner, strict=True):
        result.type = value.type
        result.shape = ir.Shape([None] * len(value.shape)) if value.shape is not None else None
    return results


def _carried(low: Lowering, first: ir.Value, name: str) -> ir.Value:
    """A loop variable inside the body; its lengths may change from turn to turn."""
    rank = None if first.shape is None else len(first.shape)
    value = ir.Value(name=low.b.unique(name), type=first.type)
    value.shape = None if rank is None else ir.Shape([None] * rank)
    return value
