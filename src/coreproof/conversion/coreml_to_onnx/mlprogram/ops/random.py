"""MIL's random operations. The numbers differ from Core ML's own; their distribution is the same."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("random_uniform")
def random_uniform(
    context: Lowering, /, *, shape: Operand, low: Operand = 0.0, high: Operand = 1.0, seed: int = -1
) -> ir.Value:
    unit = context.op("RandomUniformLike", _zeros(context, shape), dtype=int(ir.DataType.FLOAT), seed=_seed(seed))
    return context.op("Add", context.op("Mul", unit, context.op("Sub", high, low)), low)


@lowers("random_normal")
def random_normal(
    low: Lowering, *, shape: Operand, mean: Operand = 0.0, stddev: Operand = 1.0, seed: int = -1
) -> ir.Value:
    unit = low.op("RandomNormalLike", _zeros(low, shape), dtype=int(ir.DataType.FLOAT), seed=_seed(seed))
    return low.op("Add", low.op("Mul", unit, stddev), mean)


@lowers("random_bernoulli", random=True)
def random_bernoulli(low: Lowering, *, shape: Operand, prob: Operand = 0.5, seed: int = -1) -> ir.Value:
    unit = low.op("RandomUniformLike", _zeros(low, shape), dtype=int(ir.DataType.FLOAT), seed=_seed(seed))
    return low.cast(low.op("Less", unit, prob), ir.DataType.FLOAT)


@lowers("random_categorical", random=True)
def random_categorical(low: Lowering, *, x: Operand, mode: str = "logits", size: int = 1, seed: int = -1) -> ir.Value:
    """``size`` draws for each row; by turning a uniform number through the cumulated probabilities."""
    weights = low.op("Softmax", x, axis=-1) if mode == "logits" else x
    edges = low.op("CumSum", weights, np.array(-1, np.int64))
    edges = low.op("Div", edges, low.op("ReduceSum", weights, [-1], keepdims=1))
    rows = low.op("Slice", low.dims(x), [0], [-1])
    draws = low.op("Concat", rows, [int(size)], axis=0)
    unit = low.op("RandomUniformLike", _zeros(low, draws), dtype=int(ir.DataType.FLOAT), seed=_seed(seed))
    passed = low.op(
        "GreaterOrEqual",
        low.op("Unsqueeze", unit, [-1]),
        low.op("Unsqueeze", edges, [-2]),
    )
    index = low.op("ReduceSum", low.i32(passed), [-1], keepdims=0)
    # rounding may leave the last edge, which is 1, below the number that was drawn
    last = low.op("Sub", low.op("Gather", low.i32(low.dims(x)), np.array(-1, np.int64)), 1)
    return low.cast(low.op("Min", index, last), ir.DataType.FLOAT)


def _zeros(low: Lowering, shape: Operand) -> ir.Value:
    return low.op("Expand", np.float32(0), low.i64(shape))


def _seed(seed: int) -> float | None:
    """None lets the engine choose, as a negative number does in MIL."""
    return None if seed is None or int(seed) < 0 else float(seed)
