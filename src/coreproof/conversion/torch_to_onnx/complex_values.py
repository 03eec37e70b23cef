"""A complex number while it is computed with: its two parts, and the pairs along a last axis that it stands in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.rewritten import angle_of
from coreproof.conversion.torch_to_onnx.writing import lengths, number, operators, whole
from coreproof.model.onnx.constants import known_tensor


@dataclass(frozen=True)
class Complex:
    """Real and imaginary parts of one shape, which broadcast as PyTorch's do; ``dtype`` is that of each part.

    ``was_real``: it was made of real numbers, and the imaginary parts are zeros.
    """

    real: ir.Value
    imag: ir.Value
    dtype: ir.DataType | None
    was_real: bool = False

    @property
    def pairs(self) -> ir.Value:
        """Both parts along a new last axis."""
        op = operators()
        return op.Concat(op.Unsqueeze(self.real, whole(-1)), op.Unsqueeze(self.imag, whole(-1)), axis=-1)

    @property
    def size(self) -> ir.Value:
        """How far it is from zero; the square root of the squares' sum."""
        return operators().ReduceL2(self.pairs, whole(-1), keepdims=0)

    @property
    def angle(self) -> ir.Value:
        """From minus pi to pi: pi of a negative real number."""
        return angle_of(self.imag, self.real, self.dtype)

    def number(self, value: float) -> ir.TensorProtocol:
        """One number of the parts' type."""
        return number(value, self.dtype)

    def with_parts(self, real: ir.Value, imag: ir.Value) -> Complex:
        """Others of the same type."""
        return Complex(real, imag, self.dtype)

    def each(self, function: Callable[[ir.Value], ir.Value]) -> Complex:
        """Both parts by one function."""
        return self.with_parts(function(self.real), function(self.imag))

    def scaled(self, by: ir.Value | float) -> Complex:
        """Times a real number, or several."""
        factor = self.number(by) if isinstance(by, float | int) else by
        return self.each(lambda part: operators().Mul(part, factor))

    def turned(self, quarters: int) -> Complex:
        """Times i (1) or -i (-1)."""
        op = operators()
        if quarters > 0:
            return self.with_parts(op.Neg(self.imag), self.real)
        return self.with_parts(self.imag, op.Neg(self.real))

    def more(self, by: float) -> Complex:
        """Plus a real number."""
        return self.with_parts(operators().Add(self.real, self.number(by)), self.imag)

    def __add__(self, other: Complex) -> Complex:
        op = operators()
        return self.with_parts(op.Add(self.real, other.real), op.Add(self.imag, other.imag))

    def __sub__(self, other: Complex) -> Complex:
        op = operators()
        return self.with_parts(op.Sub(self.real, other.real), op.Sub(self.imag, other.imag))

    def __neg__(self) -> Complex:
        return self.each(operators().Neg)

    def __mul__(self, other: Complex) -> Complex:
        return self.multiplied(other, operators().Mul)

    def multiplied(self, other: Complex, product: Callable[[ir.Value, ir.Value], ir.Value]) -> Complex:
        """Any product that is linear in both: of numbers, of matrices."""
        op = operators()
        real = op.Sub(product(self.real, other.real), product(self.imag, other.imag))
        return self.with_parts(real, op.Add(product(self.real, other.imag), product(self.imag, other.real)))

    def conjugate(self) -> Complex:
        """Mirrored at the real axis."""
        return self.with_parts(self.real, operators().Neg(self.imag))

    def __truediv__(self, other: Complex) -> Complex:
        # by the other's larger part first: its square would overflow where it itself does not
        op = operators()
        if other.was_real:
            # a small number that is added to it, ``z / (z.abs() + 1e-8)``, still stands where float16 looks for it
            return self.each(lambda part: op.Div(part, other.real))
        scale = op.Max(op.Abs(other.real), op.Abs(other.imag))
        unit = other.each(lambda part: op.Div(part, scale))
        below = op.Add(op.Mul(unit.real, unit.real), op.Mul(unit.imag, unit.imag))
        return (self * unit.conjugate()).each(lambda part: op.Div(op.Div(part, below), scale))


def parted(pairs: ir.Value) -> Complex:
    """The two parts of pairs that PyTorch's exporter wrote."""

    def part(which: int) -> ir.Value:
        taken = operators().Gather(pairs, ir.tensor(which, dtype=ir.DataType.INT64), axis=-1)
        if isinstance(taken, ir.Value) and pairs.shape is not None:
            # what is written with it may ask for them
            taken.shape, taken.type = ir.Shape(pairs.shape[:-1]), pairs.type
        return taken

    return Complex(part(0), part(1), pairs.dtype)


def real_alone(pairs: ir.Value) -> ir.Value | None:
    """The real numbers of which PyTorch made complex ones to compute with others; None of any other pairs."""
    made = pairs.producer()
    if made is None or made.op_type != "Concat" or len(made.inputs) != 2:
        return None
    real, imag = (each.producer() if each is not None else None for each in made.inputs)
    if real is None or real.op_type != "Unsqueeze" or imag is None or imag.op_type != "Expand":
        return None
    filled = known_tensor(imag.inputs[0])
    return real.inputs[0] if filled is not None and not filled.numpy().any() else None


def divided(pairs: ir.Value, by: ir.Value | complex) -> ir.Value:
    """Each number by another one: PyTorch's exporter divides by squares, which float16 has not of numbers from 256 on."""
    above = parted(pairs)
    if not isinstance(by, ir.Value):
        return (above / constant(complex(by), above)).pairs
    real = real_alone(by)
    return (above / (parted(by) if real is None else Complex(real, real, real.dtype, was_real=True))).pairs


def both_parted(a: ir.Value, b: ir.Value) -> tuple[Complex, Complex]:
    """Two operands of which one may be real, which the exporter does not say: what broadcasts tells."""
    kinds = [(x, y) for x, y in ((True, True), (True, False), (False, True)) if _broadcast(_shape(a, x), _shape(b, y))]
    if len(kinds) != 1:
        raise NotImplementedError("whether an operand beside a complex one is real cannot be told by its shape")
    ((first, second),) = kinds
    return parted(a) if first else _from_real(a), parted(b) if second else _from_real(b)


def _shape(value: ir.Value, paired: bool) -> tuple[object, ...] | None:
    shape = lengths(value)
    if not paired:
        return shape
    return shape[:-1] if shape and shape[-1] == 2 else None


def _broadcast(a: tuple[object, ...] | None, b: tuple[object, ...] | None) -> bool:
    if a is None or b is None:
        return False
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


def _from_real(value: ir.Value) -> Complex:
    return Complex(value, operators().Sub(value, value), value.dtype, was_real=True)


def before_pairs(pairs: ir.Value, dim: int) -> int:
    """An axis of the complex tensor as one of its pairs."""
    rank = len(lengths(pairs))
    return dim if dim >= 0 else dim + rank - 1 if rank else dim - 1


def polar(size: ir.Value, turn: ir.Value, dtype: ir.DataType | None) -> Complex:
    """The number of that size at that angle."""
    op = operators()
    return Complex(op.Mul(size, op.Cos(turn)), op.Mul(size, op.Sin(turn)), dtype)


def constant(value: complex, like: Complex) -> Complex:
    """A single complex number beside others."""
    op = operators()
    real, imag = (op.Constant(value=like.number(part)) for part in (value.real, value.imag))
    return like.with_parts(real, imag)
