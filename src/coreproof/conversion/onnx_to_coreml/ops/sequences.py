"""Sequences of tensors and optional values. Core ML has neither: the places in a sequence are known, and it is written out."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Items, Operand
from coreproof.conversion.onnx_to_coreml.ops.control_flow import stack
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, is_known
from coreproof.conversion.onnx_to_coreml.ops.indexing import part, picked
from coreproof.conversion.onnx_to_coreml.ops.joining import concat


def _items(ctx: Context, sequence: Operand) -> list[Operand]:
    if not isinstance(sequence, Items):
        raise ctx.refuse("a tensor", "a sequence of tensors")
    return list(sequence.items)


def _place(ctx: Context, position: Operand, count: int, most: int) -> int:
    """A place that counts from the end where it is negative; ``most``: the last that may be said."""
    at = ctx.integers(position, "position")[0]
    found = at + count if at < 0 else at
    if not 0 <= found <= most:
        raise ctx.refuse(f"place {at} of a sequence of {count} tensors", f"{-count} to {most}")
    return found


@lowering("SequenceEmpty", since=11, error="move", sequences=True)
def sequence_empty(ctx: Context, *, dtype: int = 1) -> Result:
    return Items(())


@lowering("SequenceConstruct", since=11, error="move", sequences=True)
def sequence_construct(ctx: Context, *inputs: Operand) -> Result:
    return Items(inputs)


@lowering("SequenceInsert", since=11, error="move", sequences=True)
def sequence_insert(ctx: Context, sequence: Operand, tensor: Operand, position: Operand | None = None) -> Result:
    items = _items(ctx, sequence)
    # one behind the last is a place as well: there it is appended
    items.insert(len(items) if position is None else _place(ctx, position, len(items), len(items)), tensor)
    return Items(items)


@lowering("SequenceErase", since=11, error="move", sequences=True)
def sequence_erase(ctx: Context, sequence: Operand, position: Operand | None = None) -> Result:
    items = _items(ctx, sequence)
    at = np.array(-1) if position is None else position
    del items[_place(ctx, at, len(items), len(items) - 1)]
    return Items(items)


@lowering("SequenceAt", since=11, error="move", hands_on="part", sequences=True)
def sequence_at(ctx: Context, sequence: Operand, position: Operand) -> Result:
    items = _items(ctx, sequence)
    return items[_place(ctx, position, len(items), len(items) - 1)]


@lowering("SequenceLength", since=11, error="move", positions=True, sequences=True)
def sequence_length(ctx: Context, sequence: Operand) -> Result:
    return np.array(len(_items(ctx, sequence)), np.int64)


@lowering("SplitToSequence", since=11, error="move", sequences=True)
def split_to_sequence(
    ctx: Context, x: Operand, split: Operand | None = None, *, axis: int = 0, keepdims: int = 1
) -> Result:
    """One place each, without their axis unless ``keepdims``; or parts as long as ``split`` says, all alike or one by one."""
    axis = axis_of(axis, ctx.rank(x))
    length = x.shape[axis]
    if not is_known(length):
        raise ctx.refuse(
            f"the axis {axis}, which it cuts, has a free length", "a fixed length", "fix the input's shape"
        )
    if split is None and not keepdims:
        return Items([picked(ctx, x, axis, i) for i in range(int(length))])
    sizes = [1] * int(length) if split is None else ctx.integers(split, "list of lengths")
    if split is not None and ctx.rank(split) == 0:
        (each,) = sizes
        # ONNX, SplitToSequence: the last part is smaller where the length is no multiple
        sizes = [min(each, int(length) - at) for at in range(0, int(length), each)]
    ends = np.cumsum(sizes).tolist()
    return Items([part(ctx, x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)])


@lowering("ConcatFromSequence", since=11, error="move", hands_on="part", sequences=True)
def concat_from_sequence(ctx: Context, sequence: Operand, *, axis: int, new_axis: int = 0) -> Result:
    items = _items(ctx, sequence)
    if not items:
        raise ctx.refuse("a sequence without tensors", "at least one")
    if new_axis:
        return stack(ctx, items, axis_of(axis, ctx.rank(items[0]) + 1))
    return concat(ctx, *items, axis=axis)


@lowering("Optional", since=15, error="move", sequences=True)
def optional(ctx: Context, x: Operand | None = None, *, type: object = None) -> Result:
    if x is None:
        raise ctx.refuse("a value that is left out", "a value")
    return x


@lowering("OptionalGetElement", since=15, error="move", hands_on="whole", sequences=True)
def optional_get_element(ctx: Context, x: Operand) -> Result:
    return x


@lowering("OptionalHasElement", since=15, error="move", truths=True, sequences=True)
def optional_has_element(ctx: Context, x: Operand | None = None) -> Result:
    return np.array(x is not None)
