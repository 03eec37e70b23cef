"""Adaptive pooling: result i looks at the elements from floor(i n / m) to ceil((i + 1) n / m), of any number, known or free.

PyTorch's exporter takes the mean apart into lookups with more dimensions than Core ML has, and does not know the maximum.
Each axis is pooled by itself: a mean of means over a rectangle is the mean of all, and so is the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import Operators, lengths, number, numbers, operators, whole
from coreproof.model.torch.model import import_torch

_INT64 = ir.DataType.INT64


def adaptive_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.adaptive_avg_pool1d.default: adaptive_mean,
        aten.adaptive_avg_pool2d.default: adaptive_mean,
        aten._adaptive_avg_pool2d.default: adaptive_mean,  # noqa: SLF001 - what it becomes in an exported program
        aten.adaptive_avg_pool3d.default: adaptive_mean,
        aten._adaptive_avg_pool3d.default: adaptive_mean,  # noqa: SLF001
        aten.adaptive_max_pool1d.default: adaptive_maximum,
        aten.adaptive_max_pool2d.default: adaptive_maximum,
    }


def adaptive_mean(x: ir.Value, output_size: Sequence[int]) -> ir.Value:
    """The mean of each window: a mean over all, average pooling, or a product with a matrix of shares."""
    op, count = operators(), len(output_size)
    wanted = [_target_length(x, axis - count, n) for axis, n in enumerate(output_size)]
    axes = list(range(-count, 0))
    if all(n == 1 for n in wanted):
        return op.ReduceMean(x, whole(*axes), keepdims=1)
    known = [lengths(x)[axis] for axis in axes]
    pairs = list(zip(known, wanted, strict=True))
    if all(m is None or (isinstance(n, int) and isinstance(m, int) and n % m == 0) for n, m in pairs):
        # windows of one size without overlap: where m divides n they are those of average pooling
        kernel = [n // m if isinstance(n, int) and isinstance(m, int) else 1 for n, m in pairs]
        return _pooled(op, x, kernel, count)
    rank = len(lengths(x))
    for axis, (n, m) in zip(axes, pairs, strict=True):
        if m is not None:
            x = _averaged(op, x, rank + axis, rank, n, m)
    return x


def _target_length(x: ir.Value, axis: int, asked: object) -> int | ir.Value | None:
    """How many an axis gets; None where it stays as it is."""
    if asked is None or (isinstance(asked, int) and asked == lengths(x)[axis]):
        return None
    return asked if isinstance(asked, int | ir.Value) else None


def _pooled(op: Operators, x: ir.Value, kernel: Sequence[int], count: int) -> ir.Value:
    if all(k == 1 for k in kernel):
        return op.Identity(x)
    # PyTorch pools a picture without a batch too, ONNX does not
    unbatched = len(lengths(x)) == count + 1
    value = op.Unsqueeze(x, whole(0)) if unbatched else x
    pooled = op.AveragePool(value, kernel_shape=list(kernel), strides=list(kernel))
    return op.Squeeze(pooled, whole(0)) if unbatched else pooled


def _averaged(op: Operators, x: ir.Value, axis: int, rank: int, n: object, m: int | ir.Value) -> ir.Value:
    """``x`` times [n, m]: what each result takes of each element. (What is made on the way knows its own rank no more.)"""
    if isinstance(n, int) and isinstance(m, int):
        inside = np.zeros((n, m))
        for i in range(m):
            # floor(i n / m) and ceil((i + 1) n / m), in whole numbers
            begin, end = i * n // m, -(-(i + 1) * n // m)
            inside[begin:end, i] = 1 / (end - begin)
        share: ir.Value | ir.TensorProtocol = op.CastLike(numbers(inside, ir.DataType.FLOAT), x)
    else:
        held = op.CastLike(_inside(op, x, axis, m), x)
        share = op.Transpose(op.Div(held, op.ReduceSum(held, whole(-1), keepdims=1)), perm=[1, 0])
    if axis == rank - 1:
        return op.MatMul(x, share)
    order = [*(a for a in range(rank) if a != axis), axis]
    return op.Transpose(op.MatMul(op.Transpose(x, perm=order), share), perm=[order.index(a) for a in range(rank)])


def _inside(op: Operators, x: ir.Value, axis: int, m: int | ir.Value) -> ir.Value:
    """[m, n]: whether an element lies in a window, of lengths that may be free."""
    n = op.Shape(x, start=axis, end=axis + 1)
    windows = whole(m) if isinstance(m, int) else op.Reshape(m, whole(1))
    one, zero = number(1, _INT64), number(0, _INT64)
    column = op.Unsqueeze(op.Range(zero, op.Squeeze(windows, whole(0)), one), whole(1))
    # ONNX divides integers towards zero, which rounds down what is not negative
    begin = op.Div(op.Mul(column, n), windows)
    end = op.Div(op.Sub(op.Add(op.Mul(op.Add(column, one), n), windows), one), windows)
    row = op.Range(zero, op.Squeeze(n, whole(0)), one)
    return op.And(op.GreaterOrEqual(row, begin), op.Less(row, end))


def adaptive_maximum(x: ir.Value, output_size: Sequence[int]) -> tuple[ir.Value, ir.Value]:
    """The largest of each window, and where in the picture it stands: of equal ones the first."""
    op, count = operators(), len(output_size)
    rank = len(lengths(x))
    value, places = x, list[ir.Value]()
    # first along the rows: of equal ones in several rows, the first row is taken last
    for axis in reversed(range(rank - count, rank)):
        value, place = _largest(op, value, axis, rank, lengths(x)[axis], output_size[axis - rank + count])
        # what was found along a further axis is that of the row which is chosen now
        places = [op.GatherElements(p, place, axis=axis) for p in places]
        places.append(place)
    position = places[-1]  # of the first axis
    for further, axis in zip(reversed(places[:-1]), range(rank - count + 1, rank), strict=True):
        width = op.Shape(x, start=axis, end=axis + 1)
        position = op.Add(op.Mul(position, width), further)
    return value, position


def _largest(
    op: Operators, x: ir.Value, axis: int, rank: int, n: object, m: int | ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Along one axis: the largest of each window, and where it stands."""
    behind = rank - 1 - axis
    if isinstance(n, int) and isinstance(m, int):
        table = _windows(n, m)
        seen = op.Gather(x, numbers(table, _INT64), axis=axis)
        best = op.ArgMax(seen, axis=axis + 1, keepdims=1)
        spread = numbers(table.reshape(*table.shape, *[1] * behind), _INT64)
        rows = op.Expand(spread, op.Shape(seen))
        place = op.Squeeze(op.GatherElements(rows, best, axis=axis + 1), whole(axis + 1))
        return op.ReduceMax(seen, whole(axis + 1), keepdims=0), place
    inside = op.Unsqueeze(_inside(op, x, axis, m), whole(*range(2, 2 + behind)))
    # no window is empty, so that the least number never is the answer
    lowest = op.CastLike(number(float("-inf"), ir.DataType.FLOAT), x)
    seen = op.Where(inside, op.Unsqueeze(x, whole(axis)), lowest)
    return op.ReduceMax(seen, whole(axis + 1), keepdims=0), op.ArgMax(seen, axis=axis + 1, keepdims=0)


def _windows(length: int, count: int) -> np.ndarray:
    """[windows, places]: shorter ones look at their last place again."""
    bounds = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
    widest = max(end - begin for begin, end in bounds)
    return np.array([[min(begin + k, end - 1) for k in range(widest)] for begin, end in bounds])
