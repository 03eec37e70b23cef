"""MIL's reductions along axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("reduce_max", "reduce_min", exact=True, error="move", hands_on="part")
@lowers("reduce_mean", error="average", word="mean")
@lowers("reduce_sum", "reduce_sum_square", error="average")
@lowers("reduce_log_sum_exp", error="average", flattens=True)
@lowers("reduce_l1_norm", "reduce_l2_norm", "reduce_log_sum", "reduce_prod")
def reduce(low: Lowering, *, x: Operand, axes: Operand = None, keep_dims: bool = False) -> ir.Value:
    over = None if axes is None else np.asarray(axes, np.int64)
    # an empty list of axes means all of them, as no list does
    if over is not None and over.size == 0:
        over = None
    # ONNX has the same names in another spelling: reduce_l1_norm, ReduceL1
    operator = low.operation.removesuffix("_norm").title().replace("_", "")
    return low.op(operator, x, over, keepdims=int(keep_dims))


@lowers("reduce_argmax", "reduce_argmin", indices=0)
def reduce_arg(
    low: Lowering, *, x: Operand, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> ir.Value:
    operator = "ArgMax" if low.operation == "reduce_argmax" else "ArgMin"
    return low.i32(low.op(operator, x, axis=int(axis), keepdims=int(keep_dims)))
