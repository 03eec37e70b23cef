"""PyTorch's operators on whole matrices that its exporter does not know: inverses, systems of equations, determinants.

An inverse is found as Gauss and Jordan do, written out row by row, with the largest element of a column as its pivot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.writing import known_length, lengths, number, numbers, operators, whole
from coreproof.model.torch.model import import_torch

_LARGEST = 64
"""Rows up to which the elimination is written out."""


def matrix_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.linalg_inv.default: inverse,
        aten.inverse.default: inverse,
        aten.linalg_inv_ex.default: inverse_ex,
        aten.linalg_solve.default: solve,
        aten.linalg_solve_ex.default: solve_ex,
        aten.linalg_slogdet.default: slogdet,
        aten.slogdet.default: slogdet,
        aten.logdet.default: logdet,
        aten.linalg_matrix_exp.default: matrix_exp,
    }


def inverse(a: ir.Value) -> ir.Value:
    """The inverse; that a matrix has none shows in infinities."""
    size = _size(a)
    unit = numbers(np.eye(size), a.dtype)
    return _eliminated(a, operators().Expand(unit, operators().Shape(a)), size, size, a.dtype)


def inverse_ex(a: ir.Value, check_errors: bool = False) -> tuple[ir.Value, ir.Value]:
    """The same, and zeros, which say that nothing failed."""
    return inverse(a), _no_errors(a)


def solve(a: ir.Value, b: ir.Value, left: bool = True) -> ir.Value:
    """X of A X = B, or of X A = B; B may be a vector for each matrix."""
    op = operators()
    size, ranks = _size(a), (len(lengths(a)), len(lengths(b)))
    # torch.linalg.solve: B holds vectors where its shape is that of A without the last length
    is_vector = ranks[1] == 1 or (ranks[1] == ranks[0] - 1 and str(lengths(b)) == str(lengths(a)[:-1]))
    rank = max(ranks[0], ranks[1] + is_vector)
    # X A = B is A' X' = B', with ' for transposed
    matrix = a if left else _swapped(a, ranks[0])
    right = op.Unsqueeze(b, whole(-1)) if is_vector else b if left else _swapped(b, ranks[1])
    columns = 1 if is_vector else known_length(b, -1 if left else -2, "a system of equations")
    shapes = [lengths(v)[: rank_of - 2] for v, rank_of in ((a, ranks[0]), (b, ranks[1] + is_vector))]
    if str(shapes[0]) != str(shapes[1]):
        known = [tuple(n for n in shape if isinstance(n, int)) for shape in shapes]
        if list(map(len, known)) != list(map(len, shapes)):
            raise NotImplementedError("systems of equations that are repeated, of free numbers of them")
        batch = np.broadcast_shapes(*known)
        matrix, right = op.Expand(matrix, whole(*batch, size, size)), op.Expand(right, whole(*batch, size, columns))
    found = _eliminated(matrix, right, size, columns, a.dtype)
    return op.Squeeze(found, whole(-1)) if is_vector else found if left else _swapped(found, rank)


def solve_ex(a: ir.Value, b: ir.Value, left: bool = True, check_errors: bool = False) -> tuple[ir.Value, ir.Value]:
    """The same, and zeros, which say that nothing failed."""
    return solve(a, b, left), _no_errors(a)


def _swapped(x: ir.Value, rank: int) -> ir.Value:
    return operators().Transpose(x, perm=[*range(rank - 2), rank - 1, rank - 2])


def slogdet(a: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The sign of the determinant, and the logarithm of its size."""
    op = operators()
    determinant = op.Det(a)
    return op.Sign(determinant), op.Log(op.Abs(determinant))


def logdet(a: ir.Value) -> ir.Value:
    """The logarithm of the determinant; NaN where that is negative."""
    return operators().Log(operators().Det(a))


def matrix_exp(a: ir.Value) -> ir.Value:
    """e to the power of a matrix, by halving until it is small, a Taylor series, and squaring as often as it was halved.

    The terms fall below float32's digits at half a norm: 0.5^11 / 11! is 1e-11. Halved only as often as the norm of each
    matrix asks for, since each squaring doubles what rounding did. Nicholas Higham, Functions of Matrices (2008), chapter 10.
    """
    op = operators()
    dtype, size = a.dtype, known_length(a, -1, "the exponential of a matrix")
    # the largest sum of a row's sizes bounds the norm
    norm = op.ReduceMax(op.ReduceSum(op.Abs(a), whole(-1), keepdims=1), whole(-2), keepdims=1)
    halvings = [op.Greater(norm, number(2.0**k / 2, dtype)) for k in range(_HALVINGS)]
    half, one = number(0.5, dtype), number(1.0, dtype)
    small = a
    for asked in halvings:
        small = op.Mul(small, op.Where(asked, half, one))
    unit = numbers(np.eye(size), dtype)
    # Horner's scheme: 1 + A (1 + A/2 (1 + A/3 (...)))
    series = op.Add(unit, op.Mul(small, number(1 / _TERMS, dtype)))
    for term in range(_TERMS - 1, 0, -1):
        series = op.Add(unit, op.MatMul(op.Mul(small, number(1 / term, dtype)), series))
    made = series
    for asked in halvings:
        made = op.Where(asked, op.MatMul(made, made), made)
    return made


_TERMS, _HALVINGS = 11, 8
"""Of the series of a matrix exponential; it is halved at most so often: e to a norm beyond 128 is beyond float32."""


def _size(a: ir.Value) -> int:
    size = known_length(a, -1, "an inverse")
    if size > _LARGEST:
        raise NotImplementedError(f"an elimination of more than {_LARGEST} rows")
    return size


def _no_errors(a: ir.Value) -> ir.Value:
    op = operators()
    return op.ConstantOfShape(op.Slice(op.Shape(a), whole(0), whole(-2)), value=numbers([0], ir.DataType.INT32))


def _eliminated(a: ir.Value, b: ir.Value, size: int, columns: int, dtype: ir.DataType | None) -> ir.Value:
    """What B becomes while A becomes the unit matrix."""
    op = operators()
    both = op.Concat(a, b, axis=-1)
    rows = np.arange(size).reshape(size, 1)
    for step in range(size):
        column = op.Abs(op.Slice(both, whole(step), whole(step + 1), whole(-1)))
        # those above are settled
        open_rows = op.Sub(op.Mul(column, numbers(rows >= step, dtype)), numbers(rows < step, dtype))
        best = op.ArgMax(open_rows, axis=-2, keepdims=1)
        chosen = op.CastLike(op.Equal(numbers(rows, ir.DataType.INT64), best), both)
        pivot = op.ReduceSum(op.Mul(both, chosen), whole(-2), keepdims=1)
        own = op.Slice(both, whole(step), whole(step + 1), whole(-2))
        both = op.Add(both, op.Mul(chosen, op.Sub(own, pivot)))  # the two rows change places
        row = op.Div(pivot, op.Slice(pivot, whole(step), whole(step + 1), whole(-1)))
        others, here = numbers(rows != step, dtype), numbers(rows == step, dtype)
        share = op.Mul(op.Slice(both, whole(step), whole(step + 1), whole(-1)), others)
        both = op.Add(op.Mul(op.Sub(both, op.Mul(share, row)), others), op.Mul(row, here))
    return op.Slice(both, whole(size), whole(size + columns), whole(-1))
