"""Cross entropy as PyTorch computes it: its exporter forgets the smoothing of labels, and takes no shares of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import is_float, known_length, lengths, number, operators, whole
from coreproof.model.torch.model import import_torch

_NONE, _MEAN, _SUM = 0, 1, 2
"""PyTorch's numbers of the reductions (``torch.nn._reduction``)."""


def loss_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    return {import_torch().ops.aten.cross_entropy_loss.default: cross_entropy}


def cross_entropy(
    logits: ir.Value,
    target: ir.Value,
    weight: ir.Value | None = None,
    reduction: int = _MEAN,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> ir.Value:
    """Logits [classes], [N, classes] or [N, classes, ...]; the target holds a class, or a share of each, for each of the others.

    Source: the formulas of ``torch.nn.CrossEntropyLoss``.
    """
    op, dtype = operators(), logits.dtype
    axis = 0 if len(lengths(logits)) == 1 else 1
    classes = known_length(logits, axis, "cross entropy")
    costs = op.Neg(op.LogSoftmax(logits, axis=axis))
    ones = [1] * (len(lengths(logits)) - axis - 1)
    if weight is not None:
        costs = op.Mul(costs, op.Reshape(weight, whole(classes, *ones)))
    if is_float(target):
        spread = number(label_smoothing / classes, dtype)
        shares = op.Add(op.Mul(target, number(1 - label_smoothing, dtype)), spread) if label_smoothing else target
        each = op.ReduceSum(op.Mul(costs, shares), whole(axis), keepdims=0)
        if reduction == _NONE:
            return each
        return op.ReduceMean(each, keepdims=0) if reduction == _MEAN else op.ReduceSum(each, keepdims=0)
    counted = op.Not(op.Equal(target, number(ignore_index, target.dtype)))
    # what is ignored may be no class at all
    known = op.Where(counted, target, number(0, target.dtype))
    own = op.Squeeze(op.GatherElements(costs, op.Unsqueeze(known, whole(axis)), axis=axis), whole(axis))
    each = own
    if label_smoothing:
        smooth = op.Mul(op.ReduceSum(costs, whole(axis), keepdims=0), number(label_smoothing / classes, dtype))
        each = op.Add(op.Mul(own, number(1 - label_smoothing, dtype)), smooth)
    each = op.Where(counted, each, number(0, dtype))
    if reduction == _NONE:
        return each
    total = op.ReduceSum(each, keepdims=0)
    if reduction == _SUM:
        return total
    kept = op.Cast(counted, to=dtype)
    counts = kept if weight is None else op.Mul(kept, op.Gather(weight, known, axis=0))
    return op.Div(total, op.ReduceSum(counts, keepdims=0))
