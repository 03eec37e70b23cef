"""Operators that stack, put and compare numbers, and that PyTorch's exporter does not know, or writes as sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.rewritten import scatter_reduce
from coreproof.conversion.torch_to_onnx.writing import known_length, lengths, number, numbers, operators, whole
from coreproof.model.torch.model import import_torch


def placing_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    torch = import_torch()
    aten = torch.ops.aten
    return {
        aten.hstack.default: hstack,
        aten.vstack.default: vstack,
        aten.dstack.default: dstack,
        aten.column_stack.default: column_stack,
        aten.fmax.default: fmax,
        aten.fmin.default: fmin,
        aten.hypot.default: hypot,
        aten.copysign.Tensor: copysign,
        aten.copysign.Scalar: copysign,
        aten.frexp.Tensor: frexp,
        aten.put.default: put,
        aten.index_reduce.default: index_reduce,
        aten.as_strided_scatter.default: as_strided_scatter,
        aten.diagonal.default: diagonal,
        aten.diagonal_copy.default: diagonal,
        aten.diagonal_scatter.default: diagonal_scatter,
        aten.grid_sampler_3d.default: grid_sampler_3d,
        aten.select_scatter.default: select_scatter,
        aten.rrelu_with_noise.default: lambda x, noise, *rest, **named: rrelu(x, noise, *rest, **named)[0],
        aten.rrelu_with_noise_functional.default: rrelu,
        # what ``torch._check_tensor_all`` asks, as models of transformers do
        aten._is_all_true.default: lambda x: truth(x, all_of=True),  # noqa: SLF001 - PyTorch's own name
        aten._is_any_true.default: lambda x: truth(x, all_of=False),  # noqa: SLF001 - PyTorch's own name
        torch.ops.prims.view_of.default: operators().Identity,
    }


# stacks


def _of_rank(x: ir.Value, least: int) -> ir.Value:
    """At least one axis; at least two, with the row as the second; or three, with the columns in front."""
    rank, op = len(lengths(x)), operators()
    if rank >= least:
        return x
    if rank == 0:
        return op.Reshape(x, whole(*[1] * least))
    if least == 2:
        return op.Unsqueeze(x, whole(0))
    return op.Unsqueeze(x, whole(0, 2) if rank == 1 else whole(2))


def hstack(tensors: Sequence[ir.Value]) -> ir.Value:
    """Side by side: vectors behind one another, anything else along the second axis."""
    axis = int(len(lengths(tensors[0])) > 1)
    return operators().Concat(*(_of_rank(t, 1) for t in tensors), axis=axis)


def vstack(tensors: Sequence[ir.Value]) -> ir.Value:
    """Below one another."""
    return operators().Concat(*(_of_rank(t, 2) for t in tensors), axis=0)


def dstack(tensors: Sequence[ir.Value]) -> ir.Value:
    """Behind one another, along the third axis."""
    return operators().Concat(*(_of_rank(t, 3) for t in tensors), axis=2)


def column_stack(tensors: Sequence[ir.Value]) -> ir.Value:
    """Vectors as columns beside one another."""
    op = operators()
    return op.Concat(*(op.Reshape(t, whole(-1, 1)) if len(lengths(t)) < 2 else t for t in tensors), axis=1)


# two numbers


def fmax(x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger one; of a NaN and a number the number."""
    op = operators()
    return op.Where(op.IsNaN(x), y, op.Where(op.IsNaN(y), x, op.Max(x, y)))


def fmin(x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller one; of a NaN and a number the number."""
    op = operators()
    return op.Where(op.IsNaN(x), y, op.Where(op.IsNaN(y), x, op.Min(x, y)))


def hypot(x: ir.Value, y: ir.Value) -> ir.Value:
    """sqrt(x^2 + y^2), of which the squares may be beyond the format."""
    op, dtype = operators(), x.dtype
    a, b = op.Abs(x), op.Abs(y)
    large, small = op.Max(a, b), op.Min(a, b)
    plain = op.Or(op.Equal(large, number(0, dtype)), op.IsInf(large))
    share = op.Div(small, op.Where(plain, number(1, dtype), large))
    made = op.Mul(large, op.Sqrt(op.Add(number(1, dtype), op.Mul(share, share))))
    return op.Where(plain, large, made)


def truth(x: ir.Value, *, all_of: bool) -> ir.Value:
    """Whether all of some truths hold, or any of them: one truth."""
    op = operators()
    number = op.Cast(x, to=int(ir.DataType.INT32))
    return op.Cast((op.ReduceMin if all_of else op.ReduceMax)(number, keepdims=0), to=int(ir.DataType.BOOL))


def copysign(x: ir.Value, y: ir.Value | float) -> ir.Value:
    """The size of x with the sign of y, which a zero has too."""
    op, size = operators(), operators().Abs(x)
    if not isinstance(y, ir.Value):
        return op.Neg(size) if math.copysign(1.0, float(y)) < 0 else size
    zero = number(0, y.dtype)
    negative = op.Less(op.Where(op.Equal(y, zero), op.Reciprocal(y), y), zero)
    return op.Where(negative, op.Neg(size), size)


def frexp(x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Mantissas of a half to one, and powers of two."""
    op, dtype = operators(), x.dtype
    half, one, two = (number(n, dtype) for n in (0.5, 1, 2))
    whole_number = op.And(op.Not(op.Equal(x, number(0, dtype))), op.Not(op.Or(op.IsInf(x), op.IsNaN(x))))
    size = op.Where(whole_number, op.Abs(x), half)
    power = op.Add(op.Floor(op.Div(op.Log(size), number(math.log(2), dtype))), one)
    share = op.Div(size, op.Pow(two, power))
    # a logarithm is rounded: near a power of two it may be a step off
    power = op.Where(op.GreaterOrEqual(share, one), op.Add(power, one), power)
    power = op.Where(op.Less(share, half), op.Sub(power, one), power)
    mantissa = op.Where(whole_number, op.Div(x, op.Pow(two, power)), x)
    return mantissa, op.Cast(op.Where(whole_number, power, number(0, dtype)), to=int(ir.DataType.INT32))


# into places


def put(x: ir.Value, index: ir.Value, source: ir.Value, accumulate: bool = False) -> ir.Value:
    """Numbers put, or added, to places that are counted through all of the tensor."""
    op = operators()
    flat, places, numbers_put = (op.Reshape(v, whole(-1)) for v in (x, index, source))
    written = op.ScatterElements(flat, places, numbers_put, axis=0, reduction="add" if accumulate else "none")
    return op.Reshape(written, op.Shape(x))


def index_reduce(
    x: ir.Value, dim: int, index: ir.Value, source: ir.Value, reduce: str, *, include_self: bool = True
) -> ir.Value:
    """Slices that come to one place of an axis are reduced there."""
    op, rank = operators(), len(lengths(x))
    if rank == 0:
        raise NotImplementedError("index_reduce of a single number")
    at = dim % rank
    behind = op.Reshape(index, whole(-1, *[1] * (rank - 1 - at)))
    each = op.Expand(behind, op.Shape(source))
    each.type, each.shape = index.type, source.shape
    name = {"mean": "mean", "prod": "prod", "amax": "amax", "amin": "amin"}[reduce]
    return scatter_reduce(x, at, each, source, name, include_self)


def as_strided_scatter(
    x: ir.Value, src: ir.Value, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> ir.Value:
    """Numbers put where a view by strides looks."""
    op = operators()
    if not all(isinstance(n, int) for n in (*size, *stride)):
        raise NotImplementedError("a view by strides asks for known lengths")
    places = np.full([1] * len(size), storage_offset or 0, np.int64)
    for axis, (n, step) in enumerate(zip(size, stride, strict=True)):
        shape = [n if a == axis else 1 for a in range(len(size))]
        places = places + (np.arange(n) * step).reshape(shape)
    flat, index = op.Reshape(x, whole(-1)), numbers(places.reshape(-1), ir.DataType.INT64)
    return op.Reshape(op.ScatterElements(flat, index, op.Reshape(src, whole(-1)), axis=0), op.Shape(x))


def grid_sampler_3d(
    x: ir.Value, grid: ir.Value, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> ir.Value:
    """What ``grid_sample`` is for volumes, called by itself."""
    return operators().GridSample(
        x,
        grid,
        mode=("bilinear", "nearest")[interpolation_mode],
        padding_mode=("zeros", "border", "reflection")[padding_mode],
        align_corners=int(align_corners),
    )


def diagonal(x: ir.Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ir.Value:
    """The elements where two axes go on together; as the exporter writes it, an infinity beside them makes all of them NaN."""
    op, order = operators(), _last_two(x, dim1, dim2)
    moved = op.Transpose(x, perm=order)
    flat = op.Reshape(moved, whole(*[0] * (len(order) - 2), -1))
    rows, columns = (lengths(x)[axis] for axis in order[-2:])
    if isinstance(rows, int) and isinstance(columns, int):
        return op.Gather(flat, whole(*map(int, np.flatnonzero(np.eye(rows, columns, offset)))), axis=-1)
    shape = op.Shape(moved)
    tall, wide = (op.Gather(shape, _int(at), axis=0) for at in (-2, -1))
    down, right = max(-offset, 0), max(offset, 0)
    # of both axes the one that ends first
    low, high = op.Sub(tall, _int(down)), op.Sub(wide, _int(right))
    shorter = op.Where(op.Less(low, high), low, high)
    along = op.Range(_int(0), op.Where(op.Less(shorter, _int(0)), op.Constant(value=_int(0)), shorter), _int(1))
    place = op.Add(op.Mul(op.Add(along, _int(down)), wide), op.Add(along, _int(right)))
    return op.Gather(flat, place, axis=-1)


def _int(value: int) -> ir.TensorProtocol:
    return ir.tensor(value, dtype=ir.DataType.INT64)


def _two_axes(x: ir.Value, dim1: int, dim2: int) -> tuple[list[int], int, int]:
    """The order of the axes in which these two are the last, and their lengths."""
    order = _last_two(x, dim1, dim2)
    return order, known_length(x, order[-2], "a diagonal"), known_length(x, order[-1], "a diagonal")


def _last_two(x: ir.Value, dim1: int, dim2: int) -> list[int]:
    """The order of the axes in which these two are the last."""
    rank = len(lengths(x))
    first, second = dim1 % rank, dim2 % rank
    return [axis for axis in range(rank) if axis not in (first, second)] + [first, second]


def diagonal_scatter(x: ir.Value, src: ir.Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> ir.Value:
    """``x`` with another diagonal: what a module means that writes into ``x.diagonal()``.

    Element k of ``src`` goes to row k of a diagonal that begins in the first row, else to column k.
    """
    op, (order, rows, columns) = operators(), _two_axes(x, dim1, dim2)
    held = np.eye(rows, columns, offset, dtype=np.bool_)
    count = int(held.sum())
    if not count:
        return op.Identity(x)
    begins_on_top = offset >= 0
    # behind its end no element is asked for
    place = np.minimum(np.arange(rows if begins_on_top else columns), count - 1)
    spread = op.Unsqueeze(op.Gather(src, whole(*map(int, place)), axis=-1), whole(-1 if begins_on_top else -2))
    if src.dtype != x.dtype:
        spread = op.CastLike(spread, x)
    moved = op.Transpose(x, perm=order)
    back = [order.index(axis) for axis in range(len(order))]
    return op.Transpose(op.Where(ir.tensor(held), spread, moved), perm=back)


_TO_THE_END = 2**63 - 1


def select_scatter(x: ir.Value, src: ir.Value, dim: int, index: int) -> ir.Value:
    """``x`` with another slice at one place: what lies before it, the slice, what lies behind it, whatever the lengths are."""
    op, rank = operators(), len(lengths(x))
    axis = dim % rank
    length = lengths(x)[axis]
    put = op.Unsqueeze(src, whole(axis))
    parts = [put if src.dtype == x.dtype else op.CastLike(put, x)]
    if index != 0 and index != (-length if isinstance(length, int) else None):
        parts.insert(0, op.Slice(x, whole(0), whole(index), whole(axis)))
    if index != -1 and index != (length - 1 if isinstance(length, int) else None):
        parts.append(op.Slice(x, whole(index + 1), whole(_TO_THE_END), whole(axis)))
    return parts[0] if len(parts) == 1 else op.Concat(*parts, axis=axis)


def rrelu(
    x: ir.Value,
    noise: ir.Value,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: object = None,
) -> tuple[ir.Value, ir.Value]:
    """A leaky ReLU whose slope is drawn in training, and the middle of its range outside; and the noise, which is not used."""
    if training:
        raise NotImplementedError(
            "RReLU draws its slopes by chance while it trains: put the module into evaluation mode"
        )
    return operators().LeakyRelu(x, alpha=(lower + upper) / 2), noise
