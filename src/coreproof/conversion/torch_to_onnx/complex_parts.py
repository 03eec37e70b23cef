"""Operators that PyTorch's exporter writes for real numbers alone, and that complex ones take part by part, or as pairs.

What moves numbers or adds them up does so with real and imaginary parts alike: by the exporter's own function for real numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from itertools import product

import onnx_ir as ir

from coreproof.conversion.torch_to_onnx.complex_values import Complex, before_pairs, both_parted, constant, parted
from coreproof.conversion.torch_to_onnx.placed import select_scatter
from coreproof.conversion.torch_to_onnx.writing import known_length, lengths, numbers, operators, whole
from coreproof.model.torch.model import import_torch

Target = Callable[..., object]
Written = Callable[..., ir.Value]


def complex_parts(real: Callable[[Target], Written | None]) -> Mapping[Target, Written]:
    """PyTorch operator -> how it is written where its operands are complex; ``real`` gives the function for real numbers."""
    torch = import_torch()
    aten, prims = torch.ops.aten, torch.ops.prims
    # which of the operands are complex; the others are positions
    moved: Mapping[Target, tuple[int, ...]] = {
        aten.gather.default: (0,), aten.pad.default: (0,), aten.constant_pad_nd.default: (0,), aten.tril.default: (0,),
        aten.triu.default: (0,), aten.diagonal.default: (0,), aten.diagonal_copy.default: (0,), aten.unfold.default: (0,),
        aten.tile.default: (0,), aten.repeat_interleave.self_int: (0,), aten.zeros_like.default: (0,),
        aten.scatter.src: (0, 3), aten.scatter_add.default: (0, 3), aten.slice_scatter.default: (0, 1),
    }  # fmt: skip
    wrapped: list[tuple[Target, Callable[[Written], Written]]] = [
        *((operator, partial(_by_parts, places)) for operator, places in moved.items()),
        # a last axis more is nothing to these
        *((operator, _as_pairs) for operator in (aten.index.Tensor, aten.embedding.default, aten.index_put.default)),
        *((operator, _along) for operator in (aten.split.Tensor, aten.split_with_sizes.default)),
        (aten.unbind.int, _unbound),
        (aten.linalg_vector_norm.default, _of_sizes),
        (prims.var.default, _added),
        (aten.einsum.default, _einsum),
    ]
    written = {operator: wrap(function) for operator, wrap in wrapped if (function := real(operator)) is not None}
    return {
        **written,
        aten.bmm.default: lambda a, b: _product(parted(a), parted(b)).pairs,
        aten.select_scatter.default: _by_parts((0, 1), select_scatter),
        aten.copy.default: lambda z, other, non_blocking=False: operators().Expand(other, operators().Shape(z)),
        aten.dot.default: dot,
        aten.linear.default: linear,
        aten.addcmul.default: addcmul,
        aten.lerp.Tensor: lerp,
        aten.lerp.Scalar: lerp,
        # numbers of Python's that are divided by, or that a tensor is taken from, PyTorch makes tensors of
        aten.mul.Scalar: lambda z, by: _by_one(z, by, lambda a, b: a * b),
        aten.add.Scalar: lambda z, other, alpha=1: _by_one(z, alpha * other, lambda a, b: a + b),
        aten.sub.Scalar: lambda z, other, alpha=1: _by_one(z, alpha * other, lambda a, b: a - b),
        aten.masked_fill.Scalar: masked_fill,
        aten.masked_fill.Tensor: masked_fill,
        aten.ones_like.default: ones_like,
        aten.isnan.default: lambda z: _either(z, operators().IsNaN),
        aten.isinf.default: lambda z: _either(z, operators().IsInf),
        aten.isfinite.default: isfinite,
        aten.eq.Tensor: equal,
        aten.ne.Tensor: lambda a, b: operators().Not(equal(a, b)),
        aten.prod.dim_int: prod,
        aten.cumprod.default: cumprod,
        prims.conj_physical.default: lambda z: parted(z).conjugate().pairs,
    }


def filled(real: Written, value: float | None = None) -> Written:
    """``full``, or ``zeros`` and ``ones`` of a ``value``, as pairs where complex numbers are asked for; else by ``real``."""
    of_parts = {ir.DataType.COMPLEX64: ir.DataType.FLOAT, ir.DataType.COMPLEX128: ir.DataType.DOUBLE}

    def written(size: ir.Value | Sequence[int], *given: complex, **named: object) -> ir.Value:
        asked = named.get("dtype")
        if asked is None and any(isinstance(each, complex) for each in given):
            asked = ir.DataType.COMPLEX64
        part = next((part for kind, part in of_parts.items() if kind == asked), None)
        if part is None:
            return real(size, *given, **named)
        op, filling = operators(), complex(given[0] if value is None else value)
        pair = numbers([filling.real, filling.imag], part)
        if isinstance(size, ir.Value):
            return op.Expand(pair, op.Concat(size, op.Constant(value=whole(2)), axis=0))
        if all(isinstance(n, int) for n in size):
            return op.Expand(pair, whole(*size, 2))
        # free lengths are values
        each = (op.Reshape(n, whole(1)) if isinstance(n, ir.Value) else op.Constant(value=whole(n)) for n in (*size, 2))
        return op.Expand(pair, op.Concat(*each, axis=0))

    return written


# by the function for real numbers


def _by_parts(places: Sequence[int], function: Written) -> Written:
    def written(*operands: object, **named: object) -> ir.Value:
        given_at = ((place, operands[place]) for place in places)
        apart = {place: parted(operand) for place, operand in given_at if isinstance(operand, ir.Value)}

        def at(which: str) -> ir.Value:
            given = [getattr(apart[i], which) if i in apart else operand for i, operand in enumerate(operands)]
            return function(*given, **named)

        first = apart[places[0]]
        return first.with_parts(at("real"), at("imag")).pairs

    return written


def _as_pairs(function: Written) -> Written:
    return function


def _along(function: Written) -> Written:
    """Several pieces of an axis."""

    def written(pairs: ir.Value, sizes: object, dim: int = 0) -> ir.Value:
        return function(pairs, sizes, before_pairs(pairs, dim))

    return written


def _unbound(function: Written) -> Written:
    def written(pairs: ir.Value, dim: int = 0) -> ir.Value:
        return function(pairs, before_pairs(pairs, dim))

    return written


def _of_sizes(function: Written) -> Written:
    def written(pairs: ir.Value, *operands: object, **named: object) -> ir.Value:
        sizes = parted(pairs).size
        sizes.type, sizes.shape = pairs.type, ir.Shape(lengths(pairs)[:-1])
        return function(sizes, *operands, **named)

    return written


def _added(function: Written) -> Written:
    """A variance: that of the real part and that of the imaginary one."""

    def written(pairs: ir.Value, *operands: object, **named: object) -> ir.Value:
        z = parted(pairs)
        return operators().Add(function(z.real, *operands, **named), function(z.imag, *operands, **named))

    return written


def _einsum(function: Written) -> Written:
    """A sum of products: each choice of parts, one of each operand, goes to the part that its powers of i make it."""

    def written(equation: str, tensors: Sequence[ir.Value], path: object = None) -> ir.Value:
        op = operators()
        operands = [parted(each) for each in tensors]
        powers: list[list[ir.Value]] = [[], [], [], []]
        for chosen in product((0, 1), repeat=len(operands)):
            taken = [z.imag if which else z.real for which, z in zip(chosen, operands, strict=True)]
            powers[sum(chosen) % 4].append(function(equation, taken))
        # one operand makes no square of i, and two no third power
        signed = [reduce(op.Add, powers[at]) for at in (0, 1)]
        for at in (0, 1):
            signed[at] = reduce(op.Sub, powers[at + 2], signed[at])
        return operands[0].with_parts(*signed).pairs

    return written


# by themselves


def _product(a: Complex, b: Complex) -> Complex:
    return a.multiplied(b, operators().MatMul)


def _by_one(pairs: ir.Value, other: complex, function: Callable[[Complex, Complex], Complex]) -> ir.Value:
    """Each number with one of Python's, real or complex."""
    z = parted(pairs)
    return function(z, constant(complex(other), z)).pairs


def dot(a: ir.Value, b: ir.Value) -> ir.Value:
    """The sum of the products of two rows, neither of them mirrored."""
    op = operators()
    return (parted(a) * parted(b)).each(lambda part: op.ReduceSum(part, whole(0), keepdims=0)).pairs


def linear(x: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    """x times the transposed weight, and the bias."""
    op = operators()
    made = _product(parted(x), parted(weight).each(lambda part: op.Transpose(part, perm=[1, 0])))
    return (made if bias is None else made + parted(bias)).pairs


def addcmul(pairs: ir.Value, first: ir.Value, second: ir.Value, value: float = 1.0) -> ir.Value:
    """A sum with a product."""
    product = parted(first) * parted(second)
    return (parted(pairs) + (product if value == 1 else product.scaled(value))).pairs


def lerp(pairs: ir.Value, end: ir.Value, weight: ir.Value | complex) -> ir.Value:
    """A part of the way from one number to another."""
    start = parted(pairs)
    way = parted(end) - start
    if isinstance(weight, ir.Value):
        return (start + way * parted(weight)).pairs
    if isinstance(weight, complex):
        return (start + way * constant(weight, way)).pairs
    return (start + way.scaled(float(weight))).pairs


def masked_fill(pairs: ir.Value, mask: ir.Value, value: ir.Value | complex) -> ir.Value:
    """One number wherever the mask is true."""
    op = operators()
    filled = value
    if not isinstance(value, ir.Value):
        number_of = complex(value)
        filled = op.Constant(value=numbers([number_of.real, number_of.imag], pairs.dtype))
    return op.Where(op.Unsqueeze(mask, whole(-1)), filled, pairs)


def ones_like(pairs: ir.Value, **_: object) -> ir.Value:
    """1 wherever there is a number."""
    op = operators()
    return op.Expand(op.Constant(value=numbers([1.0, 0.0], pairs.dtype)), op.Shape(pairs))


def _either(pairs: ir.Value, told: Written) -> ir.Value:
    z = parted(pairs)
    return operators().Or(told(z.real), told(z.imag))


def isfinite(pairs: ir.Value) -> ir.Value:
    """Whether both parts are numbers and not infinite."""
    op = operators()
    return op.Not(op.Or(_either(pairs, op.IsNaN), _either(pairs, op.IsInf)))


def equal(a: ir.Value, b: ir.Value) -> ir.Value:
    """Whether both parts are the same."""
    op = operators()
    first, second = both_parted(a, b)
    return op.And(op.Equal(first.real, second.real), op.Equal(first.imag, second.imag))


def prod(pairs: ir.Value, dim: int, keepdim: bool = False, dtype: int | None = None) -> ir.Value:
    """All the numbers of an axis, multiplied in turn."""
    op = operators()
    axis = before_pairs(pairs, dim)
    z = parted(pairs)
    each = [
        z.each(lambda part, at=at: op.Gather(part, whole(at), axis=axis))  # type: ignore[misc]
        for at in range(known_length(pairs, axis, "a product of complex numbers"))
    ]
    if not each:
        kept = op.ReduceSum(pairs, whole(axis), keepdims=int(keepdim))
        return op.Add(kept, op.Constant(value=numbers([1.0, 0.0], pairs.dtype)))
    made = reduce(lambda a, b: a * b, each)
    return (made if keepdim else made.each(lambda part: op.Squeeze(part, whole(axis)))).pairs


def cumprod(pairs: ir.Value, dim: int, dtype: int | None = None) -> ir.Value:
    """The product of each number with all before it: with the one before, with the two before those, and so on."""
    op = operators()
    axis = before_pairs(pairs, dim)
    count = known_length(pairs, axis, "a running product of complex numbers")
    made, reach = pairs, 1
    while reach < count:
        kept = op.Slice(made, whole(0), whole(count - reach), whole(axis))
        head = op.Slice(made, whole(0), whole(reach), whole(axis))
        tail = op.Slice(made, whole(reach), whole(count), whole(axis))
        product = (_parted(tail, pairs) * _parted(kept, pairs)).pairs
        made, reach = op.Concat(head, product, axis=axis), 2 * reach
    return op.Identity(made) if made is pairs else made


def _parted(pairs: ir.Value, like: ir.Value) -> Complex:
    z = parted(pairs)
    return Complex(z.real, z.imag, like.dtype)
