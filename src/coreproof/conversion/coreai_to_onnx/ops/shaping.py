"""Core AI operations that move numbers to another shape or order, repeat them, or join and cut tensors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers


@lowers("reshape", exact=True, error="move", hands_on="reshaped", keeps_order=True)
def reshape(low: CoreAILowering, x: Operand, new_shape: Operand) -> ir.Value:
    if isinstance(new_shape, ir.Value):
        # -1 leaves one length open: only a 0 would have to be told from "as it is"
        return low.op("Reshape", x, low.i64(new_shape))
    return low.reshape(x, low.integers(new_shape, "new_shape"))


@lowers("transpose", exact=True, error="move", hands_on="reshaped")
def transpose(low: CoreAILowering, x: Operand, permutation: Operand) -> ir.Value:
    return low.op("Transpose", x, perm=low.integers(permutation, "permutation"))


@lowers("expand_dims", exact=True, error="move", keeps_order=True)
def expand_dims(low: CoreAILowering, x: Operand, axes: Operand) -> ir.Value:
    return low.op("Unsqueeze", x, low.integers(axes, "axes"))


@lowers("shrink_dims", exact=True, error="move", hands_on="reshaped", keeps_order=True)
def shrink_dims(low: CoreAILowering, x: Operand, axes: Operand) -> ir.Value:
    return low.op("Squeeze", x, low.integers(axes, "axes"))


@lowers("concat", exact=True, error="move")
def concat(low: CoreAILowering, dimension: Operand, *inputs: Operand) -> ir.Value:
    # the dialect asks for equal ranks; coreai-torch puts single lengths of a shape, and the interpreter takes them
    joined = [low.op("Unsqueeze", x, [0]) if low.rank(x) == 0 else x for x in inputs]
    return low.op("Concat", *joined, axis=low.integer(dimension, "dimension"))


@lowers("split", exact=True, error="move")
def split(low: CoreAILowering, x: Operand, sizes: Operand, dim: Operand) -> tuple[ir.Value, ...]:
    axis, count = low.integer(dim, "dim"), len(low.made)
    if low.rank(sizes):
        return low.ops("Split", x, low.i64(sizes), axis=axis, outputs=count)
    size, length = low.integer(sizes, "split_size_or_sections"), low.shape(x)[axis]
    before = [size] * (count - 1)
    if length is not None:
        return low.ops("Split", x, [*before, length - sum(before)], axis=axis, outputs=count)
    rest = low.op("Sub", low.op("Gather", low.dims(x), [axis], axis=0), [sum(before)])
    return low.ops("Split", x, low.op("Concat", before, rest, axis=0) if before else rest, axis=axis, outputs=count)


@lowers("tile", exact=True, error="move", hands_on="reshaped")
def tile(low: CoreAILowering, x: Operand, dims: Operand) -> ir.Value:
    (given,) = low.fixed(low.shape(dims), "it needs repeats whose count is known")
    # of fewer repeats than axes the first are left out
    before = [1] * (low.rank(x) - given)
    return low.op("Tile", x, low.op("Concat", before, low.i64(dims), axis=0) if before else low.i64(dims))


@lowers("broadcast_to", exact=True, error="move", hands_on="reshaped")
def broadcast_to(low: CoreAILowering, x: Operand, shape: Operand) -> ir.Value:
    return low.op("Expand", x, low.i64(shape))


@lowers("broadcast_in_dims", exact=True, error="move", hands_on="reshaped")
def broadcast_in_dims(low: CoreAILowering, x: Operand, dim_sizes: Operand, axes: Operand) -> ir.Value:
    along, rank = low.integers(axes, "axes"), low.rank(x)
    if isinstance(dim_sizes, ir.Value):
        sizes = [low.op("Slice", low.i64(dim_sizes), [i], [i + 1]) for i in range(len(along))]
        wanted = {axis % rank: size for axis, size in zip(along, sizes, strict=True)}
        return low.op("Expand", x, low.op("Concat", *(wanted.get(i, [1]) for i in range(rank)), axis=0))
    target = [1] * rank
    for axis, length in zip(along, np.atleast_1d(low.constant(dim_sizes, "dim_sizes")).tolist(), strict=True):
        target[axis] = int(length)
    return low.op("Expand", x, target)


@lowers("broadcast_shapes", exact=True, positions=True)
def broadcast_shapes(low: CoreAILowering, one: Operand, other: Operand) -> ir.Value:
    # lengths are 1, or alike: the larger one counts, but a length of 0 goes before 1
    a, b = low.value(low.i64(one)), low.value(low.i64(other))
    lengths = [low.shape(value)[0] for value in (a, b)]
    first, second = low.fixed(lengths, "it needs shapes of known rank")
    more = first - second
    ones = [1] * abs(more)
    if more:
        a, b = (a, low.op("Concat", ones, b, axis=0)) if more > 0 else (low.op("Concat", ones, a, axis=0), b)
    return low.op("Where", low.op("Equal", a, np.array(1, np.int64)), b, a)


@lowers("get_shape", exact=True)
def get_shape(low: CoreAILowering, x: Operand) -> ir.Value:
    known = low.shape(x)
    if all(n is not None for n in known):
        return low.op("Identity", np.array(known, np.int64))
    return low.dims(x)


@lowers("reverse", exact=True, error="move")
def reverse(low: CoreAILowering, x: Operand, dims: Operand) -> ir.Value:
    axes = low.integers(dims, "dims")
    count = len(axes)
    return low.op("Slice", x, [-1] * count, [np.iinfo(np.int64).min] * count, axes, [-1] * count)


@lowers("range", exact=True)
def arange(low: CoreAILowering, start: Operand, stop: Operand, step: Operand) -> ir.Value:
    return low.op("Range", start, stop, step)
