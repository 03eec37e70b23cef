"""Batch normalisation that trains, which PyTorch's exporter writes down as one that goes by the stored statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import lengths, number, numbers, operators, whole
from coreproof.model.torch.model import import_torch


def batch_norm_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.native_batch_norm.default: native_batch_norm,
        aten._native_batch_norm_legit.default: native_batch_norm,  # noqa: SLF001 - the names of an exported program
        aten._native_batch_norm_legit.no_stats: without_running,  # noqa: SLF001
        aten._native_batch_norm_legit_functional.default: functional,  # noqa: SLF001
    }


def native_batch_norm(
    x: ir.Value,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    running_mean: ir.Value | None = None,
    running_var: ir.Value | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[ir.Value, ...]:
    """The normalised values, and the mean and the inverse deviation of each channel by which they are."""
    return functional(x, weight, bias, running_mean, running_var, training, momentum, eps)[:3]


def without_running(
    x: ir.Value,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[ir.Value, ...]:
    """The same of one that keeps no statistics, and goes by those of what is fed."""
    return native_batch_norm(x, weight, bias, None, None, training, momentum, eps)


def functional(
    x: ir.Value,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    running_mean: ir.Value | None = None,
    running_var: ir.Value | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[ir.Value, ...]:
    """The same, and the running statistics as they are behind it."""
    from onnxscript.function_libs.torch_lib.ops.core import aten__native_batch_norm_legit_functional

    if not training:
        written: Sequence[ir.Value] = aten__native_batch_norm_legit_functional(
            x, weight, bias, running_mean, running_var, training, momentum, eps
        )
        return tuple(written)
    op, dtype = operators(), x.dtype
    axes = whole(*(axis for axis in range(len(lengths(x))) if axis != 1))
    mean = op.ReduceMean(x, axes, keepdims=0)
    centred = op.Sub(x, op.ReduceMean(x, axes, keepdims=1))
    # of what is centred: E[x^2] - E[x]^2 cancels where the mean is large
    variance = op.ReduceMean(op.Mul(centred, centred), axes, keepdims=0)
    channels = op.Shape(mean)
    gain = op.ConstantOfShape(channels, value=numbers([1], dtype)) if weight is None else weight
    offset = op.ConstantOfShape(channels, value=numbers([0], dtype)) if bias is None else bias
    normal = op.BatchNormalization(x, gain, offset, mean, variance, epsilon=eps)
    inverse = op.Reciprocal(op.Sqrt(op.Add(variance, number(eps, dtype))))
    # PyTorch normalises by the variance of the population, and keeps that of the sample
    sample = op.Mul(variance, _bessel(x))
    now = [
        op.Identity(new) if old is None else op.Add(op.Mul(old, number(1 - momentum, dtype)), op.Mul(new, share))
        for old, new, share in (
            (running_mean, mean, number(momentum, dtype)),
            (running_var, sample, number(momentum, dtype)),
        )
    ]
    return normal, mean, inverse, now[0], now[1]


def _bessel(x: ir.Value) -> ir.Value | ir.TensorProtocol:
    """n / (n - 1), where n numbers are in each channel."""
    op = operators()
    counted = [n for axis, n in enumerate(lengths(x)) if axis != 1]
    known = [n for n in counted if isinstance(n, int)]
    if len(known) == len(counted):
        n = math.prod(known)
        return number(n / (n - 1) if n > 1 else math.inf, x.dtype)
    size = op.CastLike(op.Div(op.Size(x), op.Squeeze(op.Shape(x, start=1, end=2), whole(0))), x)
    return op.Div(size, op.Sub(size, number(1, x.dtype)))
