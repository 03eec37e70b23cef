"""Reductions: the rank 5 ``reduce`` layer, the reduceX layers of any rank, cumSum."""

from __future__ import annotations

from collections.abc import Sequence

from coreproof.conversion.coreml_to_onnx.builder import Operand
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer, f32, i64
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers

_AXES = {"CHW": [-3, -2, -1], "HW": [-2, -1], "C": [-3], "H": [-2], "W": [-1]}
_MODES = {
    "SUM": "ReduceSum", "AVG": "ReduceMean", "PROD": "ReduceProd", "LOGSUM": "ReduceSum",
    "SUMSQUARE": "ReduceSumSquare", "L1": "ReduceL1", "L2": "ReduceL2", "MAX": "ReduceMax", "MIN": "ReduceMin",
}  # fmt: skip


@lowers("reduce")
def reduce(layer: Layer, x: Blob, *, mode: str = "SUM", epsilon: float = 1e-6, axis: str = "CHW") -> Blob:
    axes = _AXES[axis]
    layer.at_least(x, -axes[0])
    value = x.value
    if mode == "ARGMAX":
        if len(axes) > 1:
            raise layer.refuse("argmax takes one axis", expected="C, H or W", found=axis)
        return Blob(layer.floats(layer.b.op("ArgMax", value, axis=axes[0], keepdims=1)), x.hidden)
    if mode == "LOGSUM":
        value = layer.b.op("Log", layer.b.op("Add", value, f32(epsilon)))
    return Blob(layer.b.op(_MODES[mode], value, i64(axes)), x.hidden)


@lowers("reduceL1", "reduceL2", "reduceMax", "reduceMin", "reduceSum", "reduceProd", "reduceMean")
@lowers("reduceLogSum", "reduceSumSquare", "reduceLogSumExp")
def reduce_nd(
    layer: Layer, x: Blob, *, axes: Sequence[int] = (), keepDims: bool = False, reduceAll: bool = False
) -> Blob:
    value = layer.exact(x)
    rank = layer.rank(x)
    chosen = list(range(rank)) if reduceAll or not axes else [layer.axis(x, a) for a in axes]
    operator = layer.kind.replace("reduce", "Reduce")
    result = layer.b.op(operator, value, i64(chosen), keepdims=int(keepDims))
    if not keepDims and len({a % rank for a in chosen}) == rank:  # nothing has a rank below 1
        result = layer.b.op("Reshape", result, i64([1]))
    return Blob(result)


@lowers("cumSum")
def cum_sum(
    layer: Layer,
    x: Blob,
    along: Blob | None = None,
    *,
    axis: int = 0,
    excludeFinalSum: bool = False,
    reverse: bool = False,
) -> Blob:
    where: Operand = i64(axis) if along is None else layer.b.op("Reshape", layer.integers(along), i64([]))
    value = layer.b.op("CumSum", layer.exact(x), where, exclusive=int(excludeFinalSum), reverse=int(reverse))
    return Blob(value)
