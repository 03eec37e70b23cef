"""Factors of matrices that PyTorch's exporter does not know: Cholesky's, triangular systems, Householder's QR.

They are written out column by column, as long as there are not too many columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import known_length, lengths, numbers, operators, whole
from coreproof.model.torch.model import import_torch

_LARGEST = 64
"""Columns up to which a matrix is taken apart."""


def factor_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.cholesky.default: cholesky,
        aten.linalg_cholesky.default: cholesky,
        aten.cholesky_solve.default: cholesky_solve,
        aten.cholesky_inverse.default: cholesky_inverse,
        aten.linalg_solve_triangular.default: solve_triangular,
        aten.triangular_solve.default: triangular_solve,
        aten.linalg_qr.default: qr,
    }


def _swapped(x: ir.Value) -> ir.Value:
    rank = len(lengths(x))
    return operators().Transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2])


def _size(x: ir.Value, axis: int, what: str) -> int:
    size = known_length(x, axis, what)
    if size > _LARGEST:
        raise NotImplementedError(f"{what} of more than {_LARGEST} columns")
    return size


def _column(x: ir.Value, at: int) -> ir.Value:
    return operators().Slice(x, whole(at), whole(at + 1), whole(-1))


def _row(x: ir.Value, at: int) -> ir.Value:
    return operators().Slice(x, whole(at), whole(at + 1), whole(-2))


# Cholesky; not cholesky_ex, which answers for matrices without a factor, too, and in ways of LAPACK alone


def cholesky(a: ir.Value, upper: bool = False) -> ir.Value:
    """L of A = L L^T, or its transpose; of what is not positive definite it holds NaN, where PyTorch raises."""
    op, size, dtype = operators(), _size(a, -1, "a Cholesky factor"), a.dtype
    rows = np.arange(size).reshape(size, 1)
    rest, columns = _swapped(a) if upper else a, []
    for step in range(size):
        # the mask stands in for writing into a part of the matrix, which ONNX has no operator for
        below = numbers(rows >= step, dtype)
        pivot = op.Sqrt(_row(_column(rest, step), step))
        column = op.Mul(op.Div(_column(rest, step), pivot), below)
        columns.append(column)
        if step + 1 < size:
            # what is left has the columns behind this one as its factor
            rest = op.Sub(rest, op.Mul(column, _turned(column, a)))
    factor = op.Concat(*columns, axis=-1)
    return _turned(factor, a) if upper else factor


def _turned(made: ir.Value, like: ir.Value) -> ir.Value:
    """A matrix that was made here, whose rank is that of another, transposed."""
    rank = len(lengths(like))
    return operators().Transpose(made, perm=[*range(rank - 2), rank - 1, rank - 2])


def cholesky_solve(b: ir.Value, factor: ir.Value, upper: bool = False) -> ir.Value:
    """X of A X = B, where the factor of A is given."""
    size = _size(factor, -1, "a system of equations")
    lower, other = (_swapped(factor), factor) if upper else (factor, _swapped(factor))
    half = _substituted(lower, b, size, b.dtype, upper=False)
    # L (L^T X) = B: first forwards, then backwards
    return _substituted(other, half, size, b.dtype, upper=True)


def cholesky_inverse(factor: ir.Value, upper: bool = False) -> ir.Value:
    """The inverse of A, where its factor is given."""
    size = _size(factor, -1, "an inverse")
    unit = operators().Expand(numbers(np.eye(size), factor.dtype), operators().Shape(factor))
    unit.type, unit.shape = factor.type, factor.shape
    return cholesky_solve(unit, factor, upper)


# triangular systems


def solve_triangular(
    a: ir.Value, b: ir.Value, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> ir.Value:
    """X of A X = B, or of X A = B, for a triangular A, of which the other triangle is not read."""
    size = _size(a, -1, "a system of equations")
    if left:
        return _substituted(a, b, size, b.dtype, upper=upper, unit=unitriangular)
    # X A = B is A^T X^T = B^T, and the transpose of an upper triangle is a lower one
    found = _substituted(_swapped(a), _swapped(b), size, b.dtype, upper=not upper, unit=unitriangular)
    return _turned(found, b)


def triangular_solve(
    b: ir.Value, a: ir.Value, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[ir.Value, ir.Value]:
    """The same as it was named before, and the matrix."""
    matrix, is_upper = (_swapped(a), not upper) if transpose else (a, upper)
    found = _substituted(matrix, b, _size(a, -1, "a system of equations"), b.dtype, upper=is_upper, unit=unitriangular)
    return found, operators().Identity(a)


def _substituted(
    a: ir.Value, b: ir.Value, size: int, dtype: ir.DataType | None, *, upper: bool, unit: bool = False
) -> ir.Value:
    """Row after row of X, each taken out of those of B that are left."""
    op, rest = operators(), b
    found: list[ir.Value] = []
    rows = np.arange(size).reshape(size, 1)
    order = range(size)[::-1] if upper else range(size)
    for step in order:
        column = _column(a, step)
        row = _row(rest, step) if unit else op.Div(_row(rest, step), _row(column, step))
        found.append(row)
        left = numbers(rows < step if upper else rows > step, dtype)
        rest = op.Sub(rest, op.Mul(op.Mul(column, left), row))
    return op.Concat(*(found[::-1] if upper else found), axis=-2)


# QR


def qr(a: ir.Value, mode: str = "reduced") -> tuple[ir.Value, ir.Value]:
    """Q and R by Householder's reflections, with the signs that LAPACK gives them."""
    op, dtype = operators(), a.dtype
    height, width = _size(a, -2, "a QR factor"), _size(a, -1, "a QR factor")
    kept = height if mode == "complete" else min(height, width)
    rows = np.arange(height).reshape(height, 1)
    zero, one, two = (numbers(n, dtype) for n in (0.0, 1.0, 2.0))
    rest, reflected = a, []
    for step in range(min(height - 1, width)):
        column = _column(rest, step)
        tail = op.Mul(column, numbers(rows > step, dtype))
        first = _row(column, step)
        beyond = op.ReduceSum(op.Mul(tail, tail), whole(-2), keepdims=1)
        norm = op.Sqrt(op.Add(op.Mul(first, first), beyond))
        # of the same sign as the first element: the sum of the two never cancels
        signed = op.Where(op.Less(first, zero), op.Neg(norm), norm)
        # v of I - 2 v v^T / v^T v; where nothing stands below, nothing is reflected
        vector = op.Add(tail, op.Mul(op.Add(first, signed), numbers(rows == step, dtype)))
        length = op.ReduceSum(op.Mul(vector, vector), whole(-2), keepdims=1)
        nothing = op.Equal(beyond, zero)
        share = op.Where(nothing, zero, op.Div(two, op.Where(nothing, one, length)))
        reflected.append((vector, share))
        rest = op.Sub(rest, op.Mul(vector, op.Mul(share, op.MatMul(_turned(vector, a), rest))))
    upper = op.Mul(rest, numbers(rows <= np.arange(width).reshape(1, width), dtype))
    r = op.Slice(upper, whole(0), whole(kept), whole(-2))
    batch = op.Slice(op.Shape(a), whole(0), whole(-2))
    if mode == "r":
        return op.ConstantOfShape(whole(0), value=numbers([0.0], dtype)), r
    shape = op.Concat(batch, op.Identity(whole(height, kept)), axis=0)
    q = op.Expand(numbers(np.eye(height, kept), dtype), shape)
    # Q is the product of the reflections, and the last one is applied first
    for vector, share in reversed(reflected):
        q = op.Sub(q, op.Mul(vector, op.Mul(share, op.MatMul(_turned(vector, a), q))))
    return q, r
