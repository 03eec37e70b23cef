"""Core AI operations that make one number of many along axes, which stay with length 1."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers

_SAME = {
    "reduce_max": "ReduceMax", "reduce_mean": "ReduceMean", "reduce_min": "ReduceMin", "reduce_product": "ReduceProd",
    "reduce_sum": "ReduceSum",
}  # fmt: skip
_COMBINED = {"add": "ReduceSum", "mul": "ReduceProd", "maximum": "ReduceMax", "minimum": "ReduceMin"}


@lowers("reduce_sum", "reduce_mean", error="average")
@lowers("reduce_product")
@lowers("reduce_max", "reduce_min", exact=True, error="move")
def same_operator(low: CoreAILowering, x: Operand, axes: Operand) -> ir.Value:
    if low.operation == "coreai.reduce_mean" and not low.is_float(x):
        raise low.refuse("of whole numbers it is not lowered", fix="the dialect does not say how it rounds")
    return _reduced(low, _SAME[low.operation.removeprefix("coreai.")], x, axes)


def _reduced(low: CoreAILowering, operator: str, x: Operand, axes: Operand) -> ir.Value:
    along = low.integers(axes, "axes")
    # without axes ONNX means all of them
    return low.op(operator, x, along, keepdims=1) if along else low.op("Identity", x)


@lowers("all", "any", exact=True)
def logical(low: CoreAILowering, x: Operand, axes: Operand) -> ir.Value:
    operator = "ReduceMin" if low.operation == "coreai.all" else "ReduceMax"
    return low.op("Cast", _reduced(low, operator, low.cast(x, ir.DataType.INT32), axes), to=ir.DataType.BOOL)


@lowers("argmax", exact=True, indices=0)
def argmax(low: CoreAILowering, x: Operand, axis: Operand) -> ir.Value:
    return low.op("ArgMax", x, axis=low.integer(axis, "axis"), keepdims=1, select_last_index=0)


@lowers("reduce")
def reduce(low: CoreAILowering, x: Operand, axes: Operand, init: Operand) -> ir.Value:
    """With one operation in its block on what there is and what comes, in any order, and the first value as one more number."""
    operation = _single(low)
    combine = operation.rpartition(".")[2].removeprefix("broadcasting_")
    if combine not in _COMBINED:
        raise low.refuse("its block is of another form", expected="one of add, mul, maximum, minimum", found=operation)
    reduced = _reduced(low, _COMBINED[combine], x, axes)
    with_first = {"add": "Add", "mul": "Mul", "maximum": "Max", "minimum": "Min"}[combine]
    return low.op(with_first, reduced, init)


@lowers("reduce_index", exact=True)
def reduce_index(low: CoreAILowering, x: Operand, axis: Operand, init: Operand, index: Operand) -> ir.Value:
    """With a comparison in its block: the first largest, or the first smallest, unless none is beyond the first value."""
    block, along = low.blocks[0], low.integer(axis, "axis")
    compared = [o for o in block.operations if o.kind != "coreai.yield"]
    if len(compared) != 1 or compared[0].kind.rpartition(".")[2] not in ("greater", "broadcasting_greater"):
        raise low.refuse("its block is of another form", expected="one comparison", found=[o.kind for o in compared])
    now, candidate = block.arguments
    largest = compared[0].operands == (candidate, now)
    if not largest and compared[0].operands != (now, candidate):
        raise low.refuse("its block compares something else", found=compared[0].operands)
    picked = low.op("ArgMax" if largest else "ArgMin", x, axis=along, keepdims=1, select_last_index=0)
    best = low.op("ReduceMax" if largest else "ReduceMin", x, np.array([along]), keepdims=1)
    beyond = low.op("Greater", best, init) if largest else low.op("Less", best, init)
    return low.op("Where", beyond, picked, low.cast(index, ir.DataType.INT64))


def _single(low: CoreAILowering) -> str:
    """The one operation of its block, on the block's two arguments."""
    block = low.blocks[0]
    inner = [o for o in block.operations if o.kind != "coreai.yield"]
    if len(inner) != 1 or set(inner[0].operands) != set(block.arguments):
        raise low.refuse("its block is of another form", expected="one operation", found=[o.kind for o in inner])
    return inner[0].kind


@lowers("softmax", error="exponential")
def softmax(low: CoreAILowering, x: Operand, axis: Operand) -> ir.Value:
    return low.op("Softmax", x, axis=low.integer(axis, "axis"))


_SCANS = ("sum", "product", "min", "max")
"""By the number that the dialect stores."""
_SCANNED = {"product": "Mul", "min": "Min", "max": "Max"}


@lowers("scan")
def scan(low: CoreAILowering, x: Operand, axis: Operand, backwards: Operand) -> ir.Value:
    number, back = low.attribute("scan_op").partition(" ")[0], low.true(backwards, "reverse")
    combine = _SCANS[int(number)] if number.isdigit() and int(number) < len(_SCANS) else number
    rank = low.rank(x)
    along = low.axis(axis, rank=rank)
    if combine == "sum":
        return low.op("CumSum", x, np.array(along, np.int64), exclusive=0, reverse=int(back))
    if combine not in _SCANNED:
        raise low.refuse("it combines in a way that is not known", found=combine)
    (length,) = low.fixed([low.shape(x)[along]], "it needs an axis of known length")
    done, step = low.value(x), 1
    # each round joins what was joined with what lies as far behind: log2(length) rounds
    while step < length:
        head, tail = _cut(low, done, along, length, step, back=back)
        joined = low.op(_SCANNED[combine], *_shifted(low, done, along, length, step))
        done = low.op("Concat", *((joined, tail) if back else (head, joined)), axis=along)
        step *= 2
    return low.op("Identity", done)


def _slice(low: CoreAILowering, x: ir.Value, axis: int, start: int, end: int) -> ir.Value:
    return low.op("Slice", x, [start], [end], [axis])


def _cut(low: CoreAILowering, x: ir.Value, axis: int, length: int, step: int, *, back: bool) -> tuple[Operand, Operand]:
    """What has nothing behind it any more: the first elements, or the last ones."""
    return (None, _slice(low, x, axis, length - step, length)) if back else (_slice(low, x, axis, 0, step), None)


def _shifted(low: CoreAILowering, x: ir.Value, axis: int, length: int, step: int) -> tuple[ir.Value, ir.Value]:
    return _slice(low, x, axis, 0, length - step), _slice(low, x, axis, step, length)
