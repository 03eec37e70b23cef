"""Special functions that PyTorch's exporter does not know: of Bessel, the derivatives of log gamma, the normal quantile.

Functions of Bessel are means over a circle where their argument is small, which converge faster than any power, and Hankel's
expansion where it is large (NIST Digital Library of Mathematical Functions, 10.9, 10.17 and 10.40).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import number, numbers, operators, polynomial, whole
from coreproof.conversion.torch_to_onnx.written_out import erfinv_beside
from coreproof.model.torch.model import import_torch


def special_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.digamma.default: digamma,
        aten.special_digamma.default: digamma,
        aten.special_psi.default: digamma,
        aten.polygamma.default: polygamma,
        aten.special_polygamma.default: polygamma,
        aten.special_ndtri.default: ndtri,
        aten.i0.default: partial(modified_bessel, order=0),
        aten.special_i0.default: partial(modified_bessel, order=0),
        aten.special_i0e.default: partial(scaled_bessel, order=0),
        aten.special_i1.default: partial(modified_bessel, order=1),
        aten.special_i1e.default: partial(scaled_bessel, order=1),
        aten.special_modified_bessel_i0.default: partial(modified_bessel, order=0),
        aten.special_modified_bessel_i1.default: partial(modified_bessel, order=1),
        aten.special_bessel_j0.default: partial(bessel, order=0),
        aten.special_bessel_j1.default: partial(bessel, order=1),
        aten.special_spherical_bessel_j0.default: spherical_bessel,
    }


# log gamma

_STEPS = 10
"""Steps of one by which an argument is raised, so that the asymptotic series holds."""
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66)


def digamma(x: ir.Value) -> ir.Value:
    """The derivative of log gamma: by its asymptotic series ten steps on, and below a half by its mirror image."""
    op, dtype = operators(), x.dtype
    one, pi = number(1, dtype), number(math.pi, dtype)
    mirrored = op.Less(x, number(0.5, dtype))
    z = op.Where(mirrored, op.Sub(one, x), x)
    steps: ir.Value | ir.TensorProtocol = number(0, dtype)
    for k in range(_STEPS):
        steps = op.Add(steps, op.Reciprocal(op.Add(z, number(k, dtype))))
    y = op.Add(z, number(_STEPS, dtype))
    square = op.Reciprocal(op.Mul(y, y))
    # psi(y) ~ log y - 1/(2y) - sum B_2k / (2k y^2k) (DLMF 5.11.2)
    series = polynomial(square, [b / (2 * k) for k, b in reversed([*enumerate(_BERNOULLI, 1)])], dtype)
    made = op.Sub(op.Log(y), op.Add(op.Div(number(0.5, dtype), y), op.Mul(series, square)))
    # psi(z) = psi(z + 10) - sum 1 / (z + k): the recurrence, ten times
    made = op.Sub(made, steps)
    # the turn goes round in one: what lies below keeps its digits
    turned = op.Div(pi, op.Tan(op.Mul(pi, op.Sub(x, op.Round(x)))))
    below = op.Sub(made, turned)
    is_pole = op.And(op.LessOrEqual(x, number(0, dtype)), op.Equal(x, op.Round(x)))
    at_pole = op.Where(op.Equal(x, number(0, dtype)), op.Neg(op.Reciprocal(x)), number(math.nan, dtype))
    return op.Where(is_pole, at_pole, op.Where(mirrored, below, made))


def polygamma(n: int, x: ir.Value) -> ir.Value:
    """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n+1, x), and below a half by its mirror image."""
    if n == 0:
        return digamma(x)
    op, dtype = operators(), x.dtype
    one, order = number(1, dtype), number(-(n + 1), dtype)
    mirrored = op.Less(x, number(0.5, dtype))
    z = op.Where(mirrored, op.Sub(one, x), x)
    total: ir.Value | ir.TensorProtocol = number(0, dtype)
    for k in range(_STEPS):
        total = op.Add(total, op.Pow(op.Add(z, number(k, dtype)), order))
    y = op.Add(z, number(_STEPS, dtype))
    # Euler and Maclaurin: the rest of the sum as an integral, and what is between them
    rest = op.Mul(op.Pow(y, number(-n, dtype)), number(1 / n, dtype))
    rest = op.Add(rest, op.Mul(op.Pow(y, order), number(0.5, dtype)))
    factor = float(n + 1)
    for k, bernoulli in enumerate(_BERNOULLI, 1):
        share = bernoulli * factor / math.factorial(2 * k)
        rest = op.Add(rest, op.Mul(op.Pow(y, number(-(n + 2 * k), dtype)), number(share, dtype)))
        factor *= (n + 2 * k) * (n + 2 * k + 1)
    sign = math.factorial(n) * (-1.0) ** (n + 1)
    made = op.Mul(op.Add(total, rest), number(sign, dtype))
    angle = op.Mul(op.Sub(x, op.Round(x)), number(math.pi, dtype))
    turns = polynomial(op.Reciprocal(op.Tan(angle)), _cotangent(n), dtype)
    # the mirror image: (-1)^n psi_n(1 - x) = psi_n(x) + pi d^n/dx^n cot(pi x)
    below = op.Sub(op.Mul(made, number((-1.0) ** n, dtype)), op.Mul(turns, number(math.pi ** (n + 1), dtype)))
    is_pole = op.And(op.LessOrEqual(x, number(0, dtype)), op.Equal(x, op.Round(x)))
    return op.Where(is_pole, number(math.copysign(math.inf, sign), dtype), op.Where(mirrored, below, made))


def _cotangent(n: int) -> list[float]:
    """The n-th derivative of the cotangent as a polynomial of it, the highest power first."""
    found = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(n):
        # d/dx p(cot x) = -p'(cot x) (1 + cot^2 x)
        found = -found.deriv() * np.polynomial.Polynomial([1.0, 0.0, 1.0])
    return [float(c) for c in found.coef[::-1]]


def ndtri(p: ir.Value) -> ir.Value:
    """The quantile of the normal distribution, sqrt(2) erfinv(2 p - 1)."""
    op, dtype = operators(), p.dtype
    one = number(1, dtype)
    # 1 - x^2 of x = 2 p - 1, which would have lost its digits
    beside = op.Mul(op.Mul(number(4, dtype), p), op.Sub(one, p))
    x = op.Sub(op.Mul(number(2, dtype), p), one)
    return op.Mul(erfinv_beside(x, beside, dtype), number(math.sqrt(2), dtype))


# Bessel's

_FAR = 20.0
"""From here on Hankel's expansion is closer than float32's rounding."""
_POINTS = 64
_TERMS = 6


def _hankel(order: int) -> list[float]:
    """a_k of Hankel's expansion."""
    found = [1.0]
    for k in range(1, 2 * _TERMS):
        found.append(found[-1] * (4 * order**2 - (2 * k - 1) ** 2) / (8 * k))
    return found


def _circle(x: ir.Value, points: np.ndarray, dtype: ir.DataType | None) -> ir.Value:
    """[..., points]: the argument times each of these numbers."""
    return operators().Mul(operators().Unsqueeze(x, whole(-1)), numbers(points, dtype))


def scaled_bessel(x: ir.Value, *, order: int) -> ir.Value:
    """I_0 or I_1, times exp(-|x|)."""
    op, dtype = operators(), x.dtype
    size = op.Abs(x)
    angles = np.cos(2 * np.pi * np.arange(_POINTS) / _POINTS)
    is_far = op.GreaterOrEqual(size, number(_FAR, dtype))
    near = op.Where(is_far, number(_FAR, dtype), size)
    # I_n(x) is the mean of cos(n t) exp(x cos t)
    waves = op.Exp(_circle(near, angles - 1, dtype))
    mean = op.ReduceMean(op.Mul(waves, numbers(angles**order, dtype)), whole(-1), keepdims=0)
    far = op.Where(is_far, size, number(_FAR, dtype))
    signs = [a * (-1) ** k for k, a in enumerate(_hankel(order))][: _TERMS + 2]
    series = polynomial(op.Reciprocal(far), signs[::-1], dtype)
    beyond = op.Div(series, op.Sqrt(op.Mul(far, number(2 * math.pi, dtype))))
    made = op.Where(is_far, beyond, mean)
    if order == 0:
        return made
    square = op.Mul(x, x)
    # the power series of I_1(x) / x (DLMF 10.25.2): of a small x the mean cancels, and keeps no digits
    tiny = polynomial(square, [1 / 18432, 1 / 384, 1 / 16, 0.5], dtype)
    small = op.Mul(op.Mul(size, tiny), op.Exp(op.Neg(size)))
    return op.Mul(op.Where(op.Less(size, number(0.5, dtype)), small, made), op.Sign(x))


def modified_bessel(x: ir.Value, *, order: int) -> ir.Value:
    """I_0 or I_1."""
    return operators().Mul(scaled_bessel(x, order=order), operators().Exp(operators().Abs(x)))


def bessel(x: ir.Value, *, order: int) -> ir.Value:
    """J_0 or J_1."""
    op, dtype = operators(), x.dtype
    size = op.Abs(x)
    angles = 2 * np.pi * np.arange(_POINTS) / _POINTS
    is_far = op.GreaterOrEqual(size, number(_FAR, dtype))
    near = op.Where(is_far, number(_FAR, dtype), size)
    # J_n(x) is the mean of cos(x sin t - n t)
    turned = op.Sub(_circle(near, np.sin(angles), dtype), numbers(order * angles, dtype))
    mean = op.ReduceMean(op.Cos(turned), whole(-1), keepdims=0)
    far = op.Where(is_far, size, number(_FAR, dtype))
    a = _hankel(order)
    inverse = op.Reciprocal(far)
    square = op.Mul(inverse, inverse)
    even, odd = ([a[2 * k + at] * (-1) ** k for k in range(4)] for at in (0, 1))
    p, q = polynomial(square, even[::-1], dtype), op.Mul(polynomial(square, odd[::-1], dtype), inverse)
    # J_n(x) ~ sqrt(2 / (pi x)) (P cos(x - (2n + 1) pi / 4) - Q sin(...)) (DLMF 10.17.3)
    angle = op.Sub(far, number((2 * order + 1) * math.pi / 4, dtype))
    waves = op.Sub(op.Mul(p, op.Cos(angle)), op.Mul(q, op.Sin(angle)))
    beyond = op.Mul(waves, op.Sqrt(op.Div(number(2 / math.pi, dtype), far)))
    made = op.Where(is_far, beyond, mean)
    return op.Mul(made, op.Sign(x)) if order else made


def spherical_bessel(x: ir.Value) -> ir.Value:
    """sin(x) / x, 1 at zero."""
    op, dtype = operators(), x.dtype
    is_zero = op.Equal(x, number(0, dtype))
    quotient = op.Div(op.Sin(x), op.Where(is_zero, number(1, dtype), x))
    # the sine of an infinity is NaN, and the limit 0
    ended = op.Where(op.IsInf(x), number(0, dtype), quotient)
    return op.Where(is_zero, number(1, dtype), ended)
