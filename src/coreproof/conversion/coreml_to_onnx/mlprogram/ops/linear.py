"""MIL's matrix products: linear, matmul, einsum."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers


@lowers("linear", error="linear", weights_may_vary=True)
def linear(low: Lowering, *, x: Operand, weight: Operand, bias: Operand = None) -> ir.Value:
    # Gemm takes matrices of floats alone, and adds the bias in one operator
    if low.rank(x) == 2 and low.is_float(x):
        return low.op("Gemm", x, weight, bias, transB=1)
    product = low.op("MatMul", x, transposed(low, weight))
    return product if bias is None else low.op("Add", product, bias)


@lowers("matmul", error="linear", word="linear", weights_may_vary=True)
def matmul(low: Lowering, *, x: Operand, y: Operand, transpose_x: bool = False, transpose_y: bool = False) -> ir.Value:
    # From iOS17 on one side may hold integers.
    if low.is_float(x) != low.is_float(y):
        x, y = low.cast(x, ir.DataType.FLOAT), low.cast(y, ir.DataType.FLOAT)
    # A transposition does not touch a vector, which has no second dimension.
    first = transposed(low, x) if transpose_x and low.rank(x) > 1 else x
    second = transposed(low, y) if transpose_y and low.rank(y) > 1 else y
    return low.op("MatMul", first, second)


@lowers("einsum", error="linear", weights_may_vary=True, variadic="values")
def einsum(low: Lowering, *, values: tuple[Operand, ...], equation: str) -> ir.Value:
    return low.op("Einsum", *values, equation=equation.replace(" ", ""))


def transposed(low: Lowering, x: Operand) -> Operand:
    """``x`` with its last two dimensions swapped; a constant is swapped now."""
    if not isinstance(x, ir.Value):
        swapped = np.ascontiguousarray(np.swapaxes(np.asarray(x), -2, -1))
        low.shared.names[id(swapped)] = f"{low.shared.names.get(id(x), 'const')}/transposed"
        return swapped
    rank = low.rank(x)
    return low.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])
