"""PyTorch's operators that its exporter does not know, or by halves, written out in ONNX.

They are bags of embeddings, distances within one set, and two functions of statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import floordiv

import numpy as np
import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.rewritten import cdist
from coreproof.conversion.torch_to_onnx.writing import (
    known_length,
    lengths,
    number,
    numbers,
    operators,
    polynomial,
    whole,
)
from coreproof.model.onnx.constants import known_tensor
from coreproof.model.torch.model import import_torch


def written_out_operators() -> Mapping[Callable[..., object], Callable[..., object]]:
    """PyTorch operator -> how it is written in ONNX, as ``torch.onnx.export`` takes them."""
    aten = import_torch().ops.aten
    return {
        aten.embedding_bag.default: embedding_bag,
        aten.embedding_bag.padding_idx: embedding_bag,
        aten._embedding_bag.default: embedding_bag,  # noqa: SLF001 - what a bag becomes in an exported program
        aten._embedding_bag_forward_only.default: embedding_bag,  # noqa: SLF001
        aten._pdist_forward.default: pdist,  # noqa: SLF001
        aten.erfinv.default: erfinv,
        aten.special_erfinv.default: erfinv,
        aten.lgamma.default: lgamma,
        aten.special_gammaln.default: lgamma,
        # the exporter decomposes these two, unless somebody registers the complex one
        aten.squeeze.dims: squeeze,
        aten.sgn.default: sign,
        aten._neg_view.default: negated,  # noqa: SLF001 - the imaginary part of a conjugate
        floordiv: floor_divided,  # of lengths, and of whole numbers that were taken out of tensors
    }


def negated(x: ir.Value) -> ir.Value:
    """What PyTorch reads as its negative."""
    return operators().Neg(x)


def floor_divided(x: ir.Value, divisor: ir.Value | int) -> ir.Value:
    """``x // divisor`` as Python has it: ONNX's quotient of whole numbers is cut off towards zero."""
    op = operators()
    if _is_length(x) and (_is_length(divisor) if isinstance(divisor, ir.Value) else divisor > 0):
        return op.Div(x, divisor)
    return op.Div(op.Sub(x, op.Mod(x, divisor)), divisor)


_OF_LENGTHS = frozenset(("Add", "Mul", "Div", "Mod", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Cast", "Identity"))


def _is_length(value: ir.Value) -> bool:
    """Whether a number is made of lengths and stored numbers alone, by what makes nothing negative of them."""
    waiting, seen = [value], {id(value)}
    while waiting:
        now = waiting.pop()
        if (known := known_tensor(now)) is not None:
            if (known.numpy() < 0).any():
                return False
            continue
        node = now.producer()
        if node is None or node.op_type not in (*_OF_LENGTHS, "Shape", "Size"):
            return False
        # of what is only put into another form the first operand is the number
        read = node.inputs if node.op_type in ("Add", "Mul", "Div", "Mod") else node.inputs[:1]
        for each in read if node.op_type in _OF_LENGTHS else ():
            if each is not None and id(each) not in seen:
                seen.add(id(each))
                waiting.append(each)
    return True


def squeeze(x: ir.Value, dim: Sequence[int]) -> ir.Value:
    """Without the given axes, where they are of length 1."""
    axes = [axis for axis in dim if lengths(x)[axis] == 1]
    return operators().Squeeze(x, whole(*axes)) if axes else operators().Identity(x)


def sign(x: ir.Value) -> ir.Value:
    """-1, 0 or 1."""
    return operators().Sign(x)


# networks


def embedding_bag(
    weight: ir.Value,
    indices: ir.Value,
    offsets: ir.Value,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: ir.Value | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[ir.Value, ...]:
    """Sums (0), means (1) or maxima (2) of the rows of each bag, which begins at its offset; the other results are not made."""
    op = operators()
    begins = op.Slice(offsets, whole(0), whole(-1), whole(0)) if include_last_offset else offsets
    # the bag of each index is the last that has begun
    row = op.CastLike(_in_a_column(indices), offsets)
    begun = op.Cast(op.LessOrEqual(op.Unsqueeze(begins, whole(0)), row), to=int(ir.DataType.INT64))
    bag = op.Sub(op.ReduceSum(begun, whole(1), keepdims=0), whole(1))
    inside = op.Equal(_in_a_column(begins), op.Unsqueeze(bag, whole(0)))
    if padding_idx is not None and padding_idx >= 0:
        kept = op.Not(op.Equal(indices, op.CastLike(number(padding_idx, ir.DataType.INT64), indices)))
        inside = op.And(inside, op.Unsqueeze(kept, whole(0)))
    share = op.CastLike(inside, weight)
    rows = op.Gather(weight, indices, axis=0)
    total = op.ReduceSum(share, whole(1), keepdims=1)
    if mode == 2:
        lowest = op.CastLike(number(-math.inf, ir.DataType.FLOAT), weight)
        seen = op.Where(op.Unsqueeze(inside, whole(2)), op.Unsqueeze(rows, whole(0)), lowest)
        nothing = op.Equal(total, op.CastLike(number(0, ir.DataType.FLOAT), weight))
        made = op.Where(
            nothing, op.CastLike(number(0, ir.DataType.FLOAT), weight), op.ReduceMax(seen, whole(1), keepdims=0)
        )
    else:
        if per_sample_weights is not None:
            rows = op.Mul(rows, op.Unsqueeze(per_sample_weights, whole(1)))
        made = op.MatMul(share, rows)
        if mode == 1:
            # an empty bag is 0, and not 0 / 0
            made = op.Div(made, op.Max(total, op.CastLike(number(1, ir.DataType.FLOAT), weight)))
    # what is handed on itself would be taken for the input
    return made, bag, op.Identity(offsets), op.Identity(offsets)


def _in_a_column(vector: ir.Value) -> ir.Value:
    """0, 1, 2 ... for each element, one below another; counted while the model runs where their number is free."""
    op = operators()
    (count,) = lengths(vector) or (None,)
    if isinstance(count, int):
        made: ir.Value = op.Constant(value=numbers(np.arange(count).reshape(count, 1), ir.DataType.INT64))
        return made
    end = op.Squeeze(op.Shape(vector), whole(0))
    one = ir.tensor(1, dtype=ir.DataType.INT64)
    return op.Unsqueeze(op.Range(ir.tensor(0, dtype=ir.DataType.INT64), end, one), whole(1))


def pdist(x: ir.Value, p: float = 2.0) -> ir.Value:
    """The distance of each pair of rows, once."""
    op = operators()
    count = known_length(x, 0, "pdist")
    first, second = np.triu_indices(count, 1)
    flat = op.Reshape(cdist(x, x, p), whole(-1))
    return op.Gather(flat, numbers(first * count + second, ir.DataType.INT64), axis=0)


# statistics

_NEAR = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
         0.246640727, 1.50140941)  # fmt: skip
_FAR = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
        1.00167406, 2.83297682)  # fmt: skip
"""erfinv(x) / x as polynomials of w = -log(1 - x^2), less 2.5, or of its root less 3 (Giles, Approximating erfinv)."""


def erfinv(x: ir.Value) -> ir.Value:
    """The x whose erf is given; infinite at 1 and -1."""
    op, one = operators(), number(1, x.dtype)
    # (1 - x)(1 + x), since 1 - x^2 loses the digits of an x near 1
    return erfinv_beside(x, op.Mul(op.Sub(one, x), op.Add(one, x)), x.dtype)


def erfinv_beside(x: ir.Value, beside: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """The same where 1 - x^2 is known."""
    op = operators()
    one = number(1, dtype)
    w = op.Neg(op.Log(beside))
    near, far = op.Sub(w, number(2.5, dtype)), op.Sub(op.Sqrt(w), number(3, dtype))
    made = op.Where(op.Less(w, number(5, dtype)), polynomial(near, _NEAR, dtype), polynomial(far, _FAR, dtype))
    at_end = op.Equal(op.Abs(x), one)
    return op.Mul(op.Where(at_end, number(math.inf, dtype), made), x)


_LANCZOS = (676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
            -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7)  # fmt: skip
"""Of Lanczos' series for the gamma function with g = 7, behind its first term, which is 1."""


def lgamma(x: ir.Value) -> ir.Value:
    """log |gamma(x)|, by Lanczos' series from a half on, below by its mirror image."""
    op = operators()
    dtype = x.dtype
    mirrored = op.Less(x, number(0.5, dtype))
    z = op.Sub(op.Where(mirrored, op.Sub(number(1, dtype), x), x), number(1, dtype))
    total: ir.Value | ir.TensorProtocol = number(0.99999999999980993, dtype)
    for k, coefficient in enumerate(_LANCZOS, start=1):
        total = op.Add(total, op.Div(number(coefficient, dtype), op.Add(z, number(k, dtype))))
    t = op.Add(z, number(7.5, dtype))
    # log gamma(z + 1) = (z + 1/2) log t - t + log(sqrt(2 pi) A(z)), with t = z + g + 1/2
    made = op.Mul(op.Add(z, number(0.5, dtype)), op.Log(t))
    made = op.Add(op.Sub(made, t), op.Add(op.Log(total), number(0.5 * math.log(2 * math.pi), dtype)))
    # Euler's reflection: gamma(x) gamma(1 - x) = pi / sin(pi x)
    wave = op.Abs(op.Sin(op.Mul(x, number(math.pi, dtype))))
    return op.Where(mirrored, op.Sub(op.Log(op.Div(number(math.pi, dtype), wave)), made), made)
