"""Operators that PyTorch's exporter writes down as something else: pooling, distances, angles, extremes, attention.

Its average pooling forgets ``divisor_override``; its distances take no absolute value, and know neither p = 0 nor p = infinity;
a scattered mean keeps the last of the numbers that come to one place; the angle of a negative number comes out as minus pi;
attention that may see no key at all sees all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import (
    NowhereRightError,
    Operators,
    is_float,
    lengths,
    number,
    numbers,
    operators,
    whole,
)
from coreproof.model.torch.model import import_torch


def rewritten_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.avg_pool2d.default: avg_pool,
        aten.avg_pool3d.default: avg_pool,
        aten._cdist_forward.default: cdist,  # noqa: SLF001 - what a distance becomes in an exported program
        aten.cdist.default: cdist,
        aten.scatter_reduce.two: scatter_reduce,
        aten.atan2.default: atan2,
        aten.amax.default: partial(extreme, "ReduceMax"),
        aten.amin.default: partial(extreme, "ReduceMin"),
        aten.scaled_dot_product_attention.default: attention,
    }


def extreme(operator: str, x: ir.Value, dim: Sequence[int] = (), keepdim: bool = False) -> ir.Value:
    """The largest or smallest along axes, or of all where none is named, which PyTorch's exporter has no word for."""
    op, is_truth = operators(), x.dtype is ir.DataType.BOOL
    if not lengths(x):
        return op.Identity(x)
    value = op.Cast(x, to=int(ir.DataType.INT32)) if is_truth else x
    axes = [whole(*dim)] if len(dim) else []
    made = getattr(op, operator)(value, *axes, keepdims=int(keepdim))
    return op.Cast(made, to=int(ir.DataType.BOOL)) if is_truth else made


def avg_pool(
    x: ir.Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> ir.Value:
    """The mean of each window, or its sum over ``divisor_override``."""
    op = operators()
    axes = 3 if len(kernel_size) == 3 or len(lengths(x)) == 5 else 2
    kernel, pads = _each(kernel_size, axes), _each(padding, axes)
    strides = _each(stride, axes) if stride else kernel
    unbatched = len(lengths(x)) == axes + 1
    value = op.Unsqueeze(x, [0]) if unbatched else x
    if divisor_override is None:
        pooled = op.AveragePool(
            value,
            ceil_mode=int(ceil_mode),
            count_include_pad=int(count_include_pad),
            kernel_shape=kernel,
            pads=[*pads, *pads],
            strides=strides,
        )
        return op.Squeeze(pooled, [0]) if unbatched else pooled
    ends = pads
    if ceil_mode:
        ends = [_end(*about) for about in zip(lengths(x)[-axes:], kernel, strides, pads, strict=True)]
        if any((*pads, *ends)):
            # written out, so that each window counts as many as it has places
            value = op.Pad(value, [0, 0, *pads, 0, 0, *ends])
            pads = ends = [0] * axes
    mean = op.AveragePool(value, count_include_pad=1, kernel_shape=kernel, pads=[*pads, *ends], strides=strides)
    factor = math.prod(kernel) / divisor_override
    pooled = op.Mul(mean, number(factor, x.dtype))
    return op.Squeeze(pooled, [0]) if unbatched else pooled


def _each(given: Sequence[int], axes: int) -> list[int]:
    return [int(n) for n in (given if len(given) == axes else [given[0]] * axes)]


def _end(length: object, kernel: int, stride: int, pad: int) -> int:
    """How much is added behind an axis so that the last window, which begins within the picture, is whole."""
    if not isinstance(length, int):
        if stride > kernel - pad:
            raise NowhereRightError(
                "average pooling with divisor_override and ceil_mode, whose last window may begin in the padding, "
                f"asks for known lengths (kernel {kernel}, stride {stride}, padding {pad})"
            )
        # rounded down, a step less one further on is what is rounded up; and no last window begins in the padding
        return pad + stride - 1
    windows = math.ceil((length + 2 * pad - kernel) / stride) + 1
    if (windows - 1) * stride >= length + pad:
        windows -= 1
    return max(0, (windows - 1) * stride + kernel - length - pad)


def atan2(y: ir.Value, x: ir.Value) -> ir.Value:
    """The angle of (x, y), from minus pi to pi: as IEEE 754 has it of zeros with a sign and of infinities; NaN stays NaN."""
    return angle_of(y, x, y.dtype or x.dtype)


def angle_of(y: ir.Value, x: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """The same, of values that were computed on the way and do not know their type."""
    op = operators()
    zero, one = number(0, dtype), number(1, dtype)
    height, width = op.Abs(y), op.Abs(x)
    # two infinities have the angle of two equal numbers, two zeros none
    alike = op.Where(op.Equal(width, zero), zero, one)
    steep = op.Atan(op.Where(op.Equal(height, width), alike, op.Div(height, width)))
    half = op.Where(_is_negative(x, dtype), op.Sub(number(math.pi, dtype), steep), steep)
    return op.Where(_is_negative(y, dtype), op.Neg(half), half)


def _is_negative(x: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """Below zero, or minus zero, whose inverse is minus infinity."""
    op = operators()
    zero = number(0, dtype)
    is_zero = op.Equal(x, zero)
    told = op.Div(number(1, dtype), x)
    return op.Less(op.Where(is_zero, told, x), zero)


def cdist(x1: ir.Value, x2: ir.Value, p: float = 2.0, compute_mode: int | None = None) -> ir.Value:
    """The p-norm of each row of x1 less each row of x2."""
    op = operators()
    apart = op.Sub(op.Unsqueeze(x1, [-2]), op.Unsqueeze(x2, [-3]))
    if p == 0:
        differs = op.Cast(op.Not(op.Equal(apart, number(0, x1.dtype))), to=x1.dtype)
        return op.ReduceSum(differs, [-1], keepdims=0)
    if p == 2:
        return op.ReduceL2(apart, [-1], keepdims=0)
    size = op.Abs(apart)
    if p == 1:
        return op.ReduceSum(size, [-1], keepdims=0)
    if math.isinf(p):
        return op.ReduceMax(size, [-1], keepdims=0)
    powers = op.ReduceSum(op.Pow(size, number(p, x1.dtype)), [-1], keepdims=0)
    return op.Pow(powers, number(1 / p, x1.dtype))


def scatter_reduce(
    x: ir.Value, dim: int, index: ir.Value, src: ir.Value, reduce: str, include_self: bool = True
) -> ir.Value:
    """What comes to one place is reduced there, together with what stood there or without it."""
    from onnxscript.function_libs.torch_lib.ops.core import aten_scatter_reduce

    op = operators()
    if reduce != "mean":
        written: ir.Value = aten_scatter_reduce(x, dim, index, src, reduce, include_self)
        return written
    scalar = len(lengths(x)) == 0
    if scalar:
        x, index, src = (op.Reshape(v, [-1]) for v in (x, index, src))
    dtype = src.dtype
    # as many numbers as there are places: a source may be larger than its index
    src = src if scalar or lengths(src) == lengths(index) else op.Slice(src, *_corner(op, index))

    def filled(like: ir.Value, value: int) -> ir.Value:
        return op.ConstantOfShape(op.Shape(like), value=numbers([value], dtype))

    # what stood at a place that is written counts as one more, or not at all
    start = x if include_self else op.ScatterElements(x, index, filled(index, 0), axis=dim)
    total = op.ScatterElements(start, index, src, axis=dim, reduction="add")
    counted = filled(x, 1)
    counted = counted if include_self else op.ScatterElements(counted, index, filled(index, 0), axis=dim)
    count = op.ScatterElements(counted, index, filled(index, 1), axis=dim, reduction="add")
    if dtype is not None and dtype.is_integer():
        total = op.Sub(total, op.Mod(total, count))  # PyTorch rounds down
    mean = op.Div(total, count)
    return op.Squeeze(mean, [0]) if scalar else mean


def _corner(op: Operators, index: ir.Value) -> tuple[ir.Value, ir.Value]:
    ends = op.Shape(index)
    return op.Mul(ends, number(0, ir.DataType.INT64)), ends


def attention(
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_mask: ir.Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> ir.Value:
    """As PyTorch's exporter writes it, but a query that may see no key gets zeros, as from PyTorch itself.

    What a mask hides among others is 0 behind the softmax already. Where it hides all, the exporter's scores are alike behind a
    mask of truths, and NaN behind minus infinity: the mask itself says where nothing is seen.
    """
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

    op = operators()
    written: ir.Value = aten_scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
    )
    product = written.producer()
    weights = product.inputs[0] if product is not None else None
    if product is None or weights is None or attn_mask is None:
        return written
    nothing = number(0.0, query.dtype)
    if attn_mask.dtype == ir.DataType.BOOL:
        guard = weights.producer()
        if guard is not None and guard.op_type == "Where":  # zero where it is NaN, which it never is
            weights = guard.inputs[2]
        return op.MatMul(op.Where(attn_mask, weights, nothing), product.inputs[1])
    if _may_hide_all(attn_mask):
        hidden = op.Equal(attn_mask, number(-math.inf, attn_mask.dtype))
        return op.MatMul(op.Where(hidden, nothing, weights), product.inputs[1])
    return written


_MAKES_INFINITY = frozenset(("Log", "Div", "Reciprocal"))


def _may_hide_all(mask: ir.Value) -> bool:
    """Whether a number of the mask may be minus infinity: it is fed, a constant is, or what it is computed by makes one."""
    waiting, seen = [mask], {mask}
    while waiting:
        value = waiting.pop()
        known = ir.convenience.get_const_tensor(value)
        if known is not None:
            if np.isneginf(known.numpy()).any():
                return True
            continue
        node = value.producer()
        if node is None or node.op_type in _MAKES_INFINITY:
            return True
        floats = [v for v in node.inputs if v is not None and v not in seen and is_float(v)]
        seen.update(floats)
        waiting += floats
    return False
