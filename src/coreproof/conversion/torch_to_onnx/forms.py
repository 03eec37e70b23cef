"""Forms that keep their digits, of functions that PyTorch's exporter writes down in forms that lose them.

The exporter takes ``log1p(x)`` apart as ``log(x + 1)``, which is zero below the last bit of 1 (1e-7 in float32, 1e-3 in float16),
and ``erfcx`` as ``exp(x^2) (1 - erf(x))``, which is infinity times zero. ONNX and Core ML have neither; what they have is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import Operators, numbers, operators, polynomial
from coreproof.model.torch.model import import_torch

_ERFCX = (
    -1.26551223,
    1.00002368,
    0.37409196,
    0.09678418,
    -0.18628806,
    0.27886807,
    -1.13520398,
    1.48851587,
    -0.82215223,
    0.17087277,
)
"""log(erfcx(x) / t) as a polynomial of t = 1 / (1 + x / 2), for x >= 0; off by less than 1.2e-7 (Numerical Recipes, erfcc)."""


def keeping_forms() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.log1p.default: log1p,
        aten.expm1.default: expm1,
        aten.special_expm1.default: expm1,
        aten.erfc.default: erfc,
        aten.special_erfc.default: erfc,
        aten.special_erfcx.default: erfcx,
        aten.log_sigmoid.default: log_sigmoid,
        aten.logaddexp.default: logaddexp,
        aten.logaddexp2.default: logaddexp2,
    }


def log1p(x: ir.Value) -> ir.Value:
    """log(1 + x); below a half 2 atanh(x / (x + 2)). In float64, for which ONNX Runtime has no atanh, Kahan's form."""
    return _log1p(x, x.dtype)


def _log1p(x: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    op, number = _writer(dtype)
    if dtype == ir.DataType.DOUBLE:
        # what was lost as 1 was added is lost in both
        grown = op.Add(x, number(1))
        kept = op.Div(op.Mul(op.Log(grown), x), op.Sub(grown, number(1)))
        usual = op.And(op.Less(op.Abs(x), number(1)), op.Not(op.Equal(grown, number(1))))
        return op.Where(usual, kept, op.Where(op.Equal(grown, number(1)), x, op.Log(grown)))
    # log(1 + x) = 2 atanh(x / (x + 2)): no 1 is added in which the digits of a small x would be lost
    near = op.Mul(op.Atanh(op.Div(x, op.Add(x, number(2)))), number(2))
    return op.Where(op.Less(op.Abs(x), number(0.5)), near, op.Log(op.Add(x, number(1))))


def expm1(x: ir.Value) -> ir.Value:
    """exp(x) - 1 = tanh(x / 2) (exp(x) + 1), everywhere."""
    op, number = _writer(x.dtype)
    # tanh keeps the digits of a small x, exp(x) + 1 has none to lose
    return op.Mul(op.Tanh(op.Mul(x, number(0.5))), op.Add(op.Exp(x), number(1)))


def erfc(x: ir.Value) -> ir.Value:
    """1 - erf(x); above a half exp(-x^2) erfcx(x)."""
    op, number = _writer(x.dtype)
    tail = op.Mul(op.Exp(op.Neg(op.Mul(x, x))), _erfcx_of_positive(x))
    # up to a half 1 - erf(x) loses a bit at the most; far out it would be 1 - 1
    return op.Where(op.Greater(x, number(0.5)), tail, op.Sub(number(1), op.Erf(x)))


def erfcx(x: ir.Value) -> ir.Value:
    """exp(x^2) erfc(x): no factor of it cancels or overflows before the whole does."""
    op, number = _writer(x.dtype)
    # erf(x) is negative there: the difference is a sum
    negative = op.Mul(op.Exp(op.Mul(x, x)), op.Sub(number(1), op.Erf(x)))
    return op.Where(op.Less(x, number(0)), negative, _erfcx_of_positive(x))


def _erfcx_of_positive(x: ir.Value) -> ir.Value:
    """Of negative numbers the answer for their size."""
    op, number = _writer(x.dtype)
    t = op.Reciprocal(op.Add(op.Mul(op.Abs(x), number(0.5)), number(1)))
    return op.Mul(t, op.Exp(polynomial(t, _ERFCX[::-1], x.dtype)))


def log_sigmoid(x: ir.Value) -> ir.Value:
    """-softplus(-x): a sigmoid has no digits left far from zero."""
    op, _ = _writer(x.dtype)
    return op.Neg(_softplus(op.Neg(x), x.dtype))


def logaddexp(x: ir.Value, y: ir.Value) -> ir.Value:
    """log(exp(x) + exp(y)) = max + softplus(-|x - y|), and of two equal infinities that infinity."""
    op, number = _writer(x.dtype)
    apart = _softplus(op.Neg(op.Abs(op.Sub(x, y))), x.dtype)
    return op.Where(op.Equal(x, y), op.Add(x, number(math.log(2))), op.Add(op.Max(x, y), apart))


def logaddexp2(x: ir.Value, y: ir.Value) -> ir.Value:
    """The same with powers of two."""
    op, number = _writer(x.dtype)
    base = number(math.log(2))
    apart = op.Div(_softplus(op.Mul(op.Neg(op.Abs(op.Sub(x, y))), base), x.dtype), base)
    return op.Where(op.Equal(x, y), op.Add(x, number(1)), op.Add(op.Max(x, y), apart))


def _softplus(x: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """log(1 + exp(x)), of float64 too, for which ONNX Runtime has no softplus."""
    op, _ = _writer(dtype)
    if dtype != ir.DataType.DOUBLE:
        return op.Softplus(x)
    # max(x, 0) + log(1 + exp(-|x|)): the exponential never overflows
    return op.Add(op.Relu(x), _log1p(op.Exp(op.Neg(op.Abs(x))), dtype))


def _writer(dtype: ir.DataType | None) -> tuple[Operators, Callable[[float], ir.TensorProtocol]]:
    return operators(), lambda value: numbers(value, dtype)
