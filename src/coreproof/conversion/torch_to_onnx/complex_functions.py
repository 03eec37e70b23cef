"""Functions of complex numbers, each by its two parts, as PyTorch's exporter leaves them out: exponentials, roots, waves, powers.

The formulas with two roots are Kahan's ("Branch cuts for complex elementary functions"), which keep their digits beside the cuts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.complex_values import Complex, both_parted, constant, parted, polar
from coreproof.conversion.torch_to_onnx.rewritten import angle_of
from coreproof.conversion.torch_to_onnx.writing import operators
from coreproof.model.torch.model import import_torch


def complex_functions() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX where its operands are complex."""
    aten = import_torch().ops.aten
    one = {
        "exp": exp, "exp2": lambda z: exp(z.scaled(math.log(2))), "expm1": expm1, "log": log,
        "log2": lambda z: log(z).scaled(1 / math.log(2)), "log10": lambda z: log(z).scaled(1 / math.log(10)),
        "log1p": log1p, "sqrt": sqrt, "rsqrt": rsqrt, "sin": sin, "cos": cos, "tan": tan, "sinh": sinh, "cosh": cosh,
        "tanh": tanh, "asin": asin, "acos": acos, "atan": atan, "asinh": asinh, "acosh": acosh, "atanh": atanh,
        "sigmoid": sigmoid, "silu": lambda z: z * sigmoid(z),
    }  # fmt: skip
    return {
        **{getattr(aten, name).default: _on_pairs(function) for name, function in one.items()},
        aten.pow.Tensor_Scalar: power,
        aten.pow.Tensor_Tensor: power_of_each,
        aten.pow.Scalar: power_of_one,
    }


def _on_pairs(function: Callable[[Complex], Complex]) -> Callable[[ir.Value], ir.Value]:
    def written(pairs: ir.Value) -> ir.Value:
        return function(parted(pairs)).pairs

    return written


def exp(z: Complex) -> Complex:
    """e to the real part, turned by the imaginary one."""
    return polar(operators().Exp(z.real), z.imag, z.dtype)


def expm1(z: Complex) -> Complex:
    """e to z less 1, without taking 1 from what is nearly 1."""
    op = operators()
    half, turn = op.Mul(z.real, z.number(0.5)), op.Sin(op.Mul(z.imag, z.number(0.5)))
    grown = op.Mul(op.Mul(op.Exp(half), op.Sinh(half)), z.number(2))
    real = op.Sub(op.Mul(grown, op.Cos(z.imag)), op.Mul(op.Mul(turn, turn), z.number(2)))
    return z.with_parts(real, op.Mul(op.Exp(z.real), op.Sin(z.imag)))


def log(z: Complex) -> Complex:
    """The logarithm of the size, and the angle."""
    return z.with_parts(operators().Log(z.size), z.angle)


def log1p(z: Complex) -> Complex:
    """The logarithm of 1 + z, which keeps the digits of a small z."""
    op = operators()
    a, b = z.real, z.imag
    # |1 + z|^2 - 1, and log(1 + w) as 2 atanh(w / (2 + w)), which is exact about zero
    w = op.Add(op.Mul(a, op.Add(a, z.number(2))), op.Mul(b, b))
    small = op.Atanh(op.Div(w, op.Add(w, z.number(2))))
    large = op.Mul(op.Log(op.Add(w, z.number(1))), z.number(0.5))
    size = op.Where(op.Less(op.Abs(w), z.number(0.5)), small, large)
    return z.with_parts(size, angle_of(b, op.Add(a, z.number(1)), z.dtype))


def sqrt(z: Complex) -> Complex:
    """The root of the size, at half of the angle: the one whose real part is not below zero."""
    op = operators()
    return polar(op.Sqrt(z.size), op.Mul(z.angle, z.number(0.5)), z.dtype)


def rsqrt(z: Complex) -> Complex:
    """One by the root."""
    op = operators()
    return polar(op.Reciprocal(op.Sqrt(z.size)), op.Mul(z.angle, z.number(-0.5)), z.dtype)


def sin(z: Complex) -> Complex:
    """Waves along the real axis, which grow along the other."""
    op = operators()
    return z.with_parts(op.Mul(op.Sin(z.real), op.Cosh(z.imag)), op.Mul(op.Cos(z.real), op.Sinh(z.imag)))


def cos(z: Complex) -> Complex:
    """A quarter of a wave later."""
    op = operators()
    return z.with_parts(op.Mul(op.Cos(z.real), op.Cosh(z.imag)), op.Neg(op.Mul(op.Sin(z.real), op.Sinh(z.imag))))


def sinh(z: Complex) -> Complex:
    """sin, turned by a quarter."""
    return sin(z.turned(1)).turned(-1)


def cosh(z: Complex) -> Complex:
    """cos, turned by a quarter."""
    return cos(z.turned(1))


def tanh(z: Complex) -> Complex:
    """sinh by cosh; both would overflow where their quotient is 1."""
    op = operators()
    t, s, c = op.Tanh(z.real), op.Sin(z.imag), op.Cos(z.imag)
    below = op.Add(op.Mul(c, c), op.Mul(op.Mul(t, t), op.Mul(s, s)))
    imag = op.Mul(op.Mul(s, c), op.Mul(op.Sub(z.number(1), t), op.Add(z.number(1), t)))
    return z.with_parts(op.Div(t, below), op.Div(imag, below))


def tan(z: Complex) -> Complex:
    """tanh, turned by a quarter."""
    return tanh(z.turned(1)).turned(-1)


def asin(z: Complex) -> Complex:
    """The angle whose sine it is."""
    op = operators()
    less, more = sqrt((-z).more(1)), sqrt(z.more(1))
    return z.with_parts(angle_of(z.real, (less * more).real, z.dtype), op.Asinh((less.conjugate() * more).imag))


def acos(z: Complex) -> Complex:
    """The angle whose cosine it is."""
    op = operators()
    less, more = sqrt((-z).more(1)), sqrt(z.more(1))
    turn = op.Mul(angle_of(less.real, more.real, z.dtype), z.number(2))
    return z.with_parts(turn, op.Asinh((more.conjugate() * less).imag))


def acosh(z: Complex) -> Complex:
    """The number whose cosh it is."""
    op = operators()
    less, more = sqrt(z.more(-1)), sqrt(z.more(1))
    turn = op.Mul(angle_of(less.imag, more.real, z.dtype), z.number(2))
    return z.with_parts(op.Asinh((less.conjugate() * more).real), turn)


def asinh(z: Complex) -> Complex:
    """asin, turned by a quarter."""
    return asin(z.turned(1)).turned(-1)


def atanh(z: Complex) -> Complex:
    """The number whose tanh it is."""
    op = operators()
    x, y, one = z.real, z.imag, z.number(1)
    less, more, square = op.Sub(one, x), op.Add(one, x), op.Mul(y, y)
    # a quarter of log(|1 + z|^2 / |1 - z|^2) is half of atanh(2x / (1 + |z|^2))
    size = op.Add(op.Add(op.Mul(x, x), square), one)
    real = op.Mul(op.Atanh(op.Div(op.Mul(x, z.number(2)), size)), z.number(0.5))
    turn = angle_of(op.Mul(y, z.number(2)), op.Sub(op.Mul(less, more), square), z.dtype)
    return z.with_parts(real, op.Mul(turn, z.number(0.5)))


def atan(z: Complex) -> Complex:
    """atanh, turned by a quarter."""
    return atanh(z.turned(1)).turned(-1)


def sigmoid(z: Complex) -> Complex:
    """1 by 1 + e^-z, with the exponential that does not overflow on either side."""
    op = operators()
    below = op.Less(z.real, z.number(0))
    sign = op.Where(below, z.number(1), z.number(-1))
    small = exp(z.scaled(sign))
    zero, one = op.Mul(small.real, z.number(0)), z.number(1)
    above = z.with_parts(op.Where(below, small.real, one), op.Where(below, small.imag, zero))
    return above / small.more(1)


def power(pairs: ir.Value, exponent: complex) -> ir.Value:
    """Squares by multiplying, which keeps their digits; other powers by size and angle."""
    op = operators()
    z = parted(pairs)
    if isinstance(exponent, complex):
        return _power(z, constant(exponent, z)).pairs
    if exponent == 2:
        twice = op.Mul(op.Mul(z.real, z.imag), z.number(2))
        return z.with_parts(op.Mul(op.Sub(z.real, z.imag), op.Add(z.real, z.imag)), twice).pairs
    by = z.number(exponent)
    return polar(op.Pow(z.size, by), op.Mul(z.angle, by), z.dtype).pairs


def power_of_each(pairs: ir.Value, exponent: ir.Value) -> ir.Value:
    """Numbers to powers of their own."""
    return _power(*both_parted(pairs, exponent)).pairs


def power_of_one(base: complex, exponent: ir.Value) -> ir.Value:
    """One number to several powers."""
    z = parted(exponent)
    return _power(constant(base, z), z).pairs


def _power(z: Complex, exponent: Complex) -> Complex:
    """e to the exponent times the logarithm; zero stays zero where the exponent's real part is above zero, and else is none."""
    op = operators()
    size = z.size
    nothing = op.Equal(size, z.number(0))
    grown = z.with_parts(op.Log(op.Where(nothing, z.number(1), size)), z.angle)
    made = exp(grown * exponent)
    at_zero = op.Where(op.Greater(exponent.real, z.number(0)), z.number(0), z.number(math.nan))
    return made.each(lambda part: op.Where(nothing, at_zero, part))
