"""Mixtures of experts: rows that are grouped by expert, each group times a matrix of its own, and how many rows each has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import Operators, lengths, number, numbers, operators, whole
from coreproof.model.torch.model import import_torch

_INT64 = ir.DataType.INT64


def expert_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them.

    transformers brings an operator of its own, which is there where that is imported.
    """
    torch = import_torch()
    found: dict[Callable[..., object], Callable[..., object]] = {torch.ops.aten.histc.default: histc}
    for space, name in (("aten", "_grouped_mm"), ("transformers", "grouped_mm_fallback")):
        operator = getattr(getattr(torch.ops, space), name, None)
        if operator is not None:
            found[operator.default] = grouped_mm
    return found


def grouped_mm(
    x: ir.Value,
    weight: ir.Value,
    offs: ir.Value | None = None,
    bias: ir.Value | None = None,
    out_dtype: int | None = None,
) -> ir.Value:
    """[rows, k] times the matrix of each row's group out of [groups, k, n]; a group ends before its offset.

    Each row is multiplied with each matrix, and its own product kept: which rows a group has is known only while the model runs.
    Rows behind the last group are zeros.
    """
    op = operators()
    if offs is None or len(lengths(x)) != 2 or len(lengths(weight)) != 3:
        raise NotImplementedError(
            "grouped matrices are written for rows [rows, k], matrices [groups, k, n] and offsets"
        )
    groups = lengths(weight)[0]
    if not isinstance(groups, int):
        raise NotImplementedError("grouped matrices ask for a known number of groups")
    row = _rows(op, x)
    # a row's group is how many groups have ended before it or at it
    begun = op.LessOrEqual(op.Unsqueeze(op.Cast(offs, to=int(_INT64)), whole(0)), op.Unsqueeze(row, whole(1)))
    group = op.ReduceSum(op.Cast(begun, to=int(_INT64)), whole(1), keepdims=0)
    own = op.Equal(op.Unsqueeze(group, whole(0)), numbers(np.arange(groups).reshape(-1, 1), _INT64))
    products = op.MatMul(op.Unsqueeze(x, whole(0)), weight)
    nothing = op.CastLike(number(0, ir.DataType.FLOAT), x)
    total = op.ReduceSum(op.Where(op.Unsqueeze(own, whole(2)), products, nothing), whole(0), keepdims=0)
    total = total if bias is None else op.Add(total, bias)
    return total if out_dtype is None or out_dtype < 0 else op.Cast(total, to=out_dtype)


def _rows(op: Operators, x: ir.Value) -> ir.Value:
    count = op.Squeeze(op.Shape(x, start=0, end=1), whole(0))
    return op.Range(number(0, _INT64), count, number(1, _INT64))


def histc(x: ir.Value, bins: int = 100, min: float = 0, max: float = 0) -> ir.Value:
    """How many elements lie in each of as many equal stretches from ``min`` to ``max``; of equal ends, over all that there is."""
    op = operators()
    flat = op.Reshape(x, whole(-1))
    low: ir.Value | ir.TensorProtocol = number(min, x.dtype)
    high: ir.Value | ir.TensorProtocol = number(max, x.dtype)
    if min == max:
        low, high = op.ReduceMin(flat, keepdims=0), op.ReduceMax(flat, keepdims=0)
        # data of one number alone have no width: one more to either side (ATen, histc_select_outer_bin_edges)
        apart = op.Where(op.Equal(low, high), number(1, x.dtype), number(0, x.dtype))
        low, high = op.Sub(low, apart), op.Add(high, apart)
    place = op.Floor(op.Div(op.Mul(op.Sub(flat, low), number(bins, x.dtype)), op.Sub(high, low)))
    last = op.GreaterOrEqual(place, number(bins, x.dtype))  # the greatest belongs to the last stretch
    place = op.Where(last, number(bins - 1, x.dtype), place)
    inside = op.And(op.GreaterOrEqual(flat, low), op.LessOrEqual(flat, high))
    hit = op.Equal(op.Unsqueeze(place, whole(0)), numbers(np.arange(bins).reshape(-1, 1), x.dtype))
    return op.ReduceSum(op.CastLike(op.And(hit, op.Unsqueeze(inside, whole(0))), x), whole(1), keepdims=0)
