"""MIL's gathers and scatters in Core AI's operations."""

from __future__ import annotations

import numpy as np

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates


@translates("gather")
def gather(
    t: Translation,
    *,
    x: Operand,
    indices: Operand,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Tensor:
    value, index = t.value(x), t.value(indices)
    rank, batch = len(value.shape), int(batch_dims)
    at = int(axis) % rank
    batch = batch + len(index.shape) if batch < 0 else batch
    if batch:
        return _batched(t, value, index, at, batch)
    return taken(t, value, index, at)


def taken(t: Translation, x: Tensor, indices: Operand, at: int) -> Tensor:
    """The slices along an axis that the indices name; they stand where the axis was."""
    index = t.cast(t.value(indices), "si32")
    rank, picked = len(x.shape), len(index.shape)
    moved = t.transpose(x, [at, *(a for a in range(rank) if a != at)])
    column = t.expand_dims(index, [picked])
    made = t.op("gather_nd", moved, column, shape=[*index.shape, *moved.shape[1:]])
    # what was picked comes to stand where the axis was
    return t.transpose(made, [*range(picked, picked + at), *range(picked), *range(picked + at, picked + rank - 1)])


def _batched(t: Translation, x: Tensor, index: Tensor, at: int, batch: int) -> Tensor:
    """The first axes of both go together: one batch of them, flattened, with its own number in front of each index."""
    rank, picked = len(x.shape), len(index.shape) - batch
    moved = t.transpose(x, [*range(batch), at, *range(batch, at), *range(at + 1, rank)])
    lengths = t.fixed(moved.shape, "batches need an input of known size")
    places = t.fixed(index.shape, "batches need indices of known shape")
    count = int(np.prod(lengths[:batch]))
    flat = t.reshape(moved, [count, *lengths[batch:]])
    column = t.reshape(t.cast(index, "si32"), [count, *places[batch:], 1])
    own = np.broadcast_to(
        np.arange(count, dtype=np.int32).reshape([-1, *[1] * (picked + 1)]), [count, *places[batch:], 1]
    )
    pairs = t.concat([np.ascontiguousarray(own), column], picked + 1)
    made = t.op("gather_nd", flat, pairs, shape=[count, *places[batch:], *lengths[batch + 1 :]])
    spread = t.reshape(made, [*places, *lengths[batch + 1 :]])
    between = at - batch
    order = [
        *range(batch),
        *range(batch + picked, batch + picked + between),
        *range(batch, batch + picked),
        *range(batch + picked + between, rank - 1 + picked),
    ]
    return t.transpose(spread, order)


@translates("gather_along_axis")
def gather_along_axis(
    t: Translation, *, x: Operand, indices: Operand, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    value, index = t.value(x), t.cast(t.value(indices), "si32")
    at = int(axis) % len(value.shape)
    return t.op("gather_along_axis", value, index, si(at), shape=index.shape)


@translates("gather_nd")
def gather_nd(
    t: Translation, *, x: Operand, indices: Operand, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    value, index, batch = t.value(x), t.cast(t.value(indices), "si32"), int(batch_dims)
    (depth,) = t.fixed(index.shape[-1:], "the length of an index is not known")
    if not batch:
        return t.op("gather_nd", value, index, shape=[*index.shape[:-1], *value.shape[depth:]])
    lengths, places = t.fixed(value.shape), t.fixed(index.shape)
    count = int(np.prod(lengths[:batch]))
    flat = t.reshape(value, [count, *lengths[batch:]])
    inner = t.reshape(index, [count, *places[batch:]])
    own = np.arange(count, dtype=np.int32).reshape([-1, *[1] * (len(inner.shape) - 1)])
    pairs = t.concat(
        [np.ascontiguousarray(np.broadcast_to(own, [count, *places[batch:-1], 1])), inner], len(inner.shape) - 1
    )
    made = t.op("gather_nd", flat, pairs, shape=[count, *places[batch:-1], *lengths[batch + depth :]])
    return t.reshape(made, [*places[:-1], *lengths[batch + depth :]])


_MODES = ("update", "add", "sub", "mul", "div", "max", "min")


@translates("scatter_along_axis")
def scatter_along_axis(
    t: Translation,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    return _scattered(t, t.value(data), t.value(indices), updates, int(axis), mode, checked=validate_indices)


def _scattered(
    t: Translation, data: Tensor, indices: Tensor, updates: Operand, axis: int, mode: str, *, checked: bool
) -> Tensor:
    """Each update at the place along an axis that its index names; one that names none goes nowhere."""
    if mode not in _MODES:
        raise t.refuse("this mode is not known", expected=_MODES, found=mode)
    at = axis % len(data.shape)
    (length,) = t.fixed(data.shape[at : at + 1], "the axis that is written along has to be known")
    index, held = t.cast(indices, "si32"), data
    is_free = not checked and t.scope.opset not in ("CoreML5", "CoreML6")
    if is_free:
        # from iOS17 on an index may lie outside, below 0 too: a spare place behind the others takes what goes nowhere
        inside = t.binary("and", t.binary("greater", index, -1, "i1"), t.binary("greater", length, index, "i1"))
        index = t.where(inside, index, si(length))
        held = t.pad(data, [(0, int(i == at)) for i in range(len(data.shape))])
    made = t.op(
        "scatter_along_axis", held, index, t.value(updates, data.element), si(at), shape=held.shape,
        scatter_mode=f"#coreai.scatter_mode<{mode}>",
    )  # fmt: skip
    return t.pad(made, [(0, -int(i == at)) for i in range(len(data.shape))]) if is_free else made


@translates("scatter")
def scatter(
    t: Translation,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """One index a slice becomes one index an element: along ``axis``, the same for all other dimensions."""
    held, index, put = t.value(data), t.value(indices), t.value(updates, t.element(data))
    rank = len(held.shape)
    at = int(axis) % rank
    if len(index.shape) != 1:
        lengths = t.fixed(put.shape, "its updates need a known shape")
        count = int(np.prod(t.fixed(index.shape)))
        put = t.reshape(put, [*lengths[:at], count, *lengths[at + len(index.shape) :]])
        index = t.reshape(index, [count])
    column = t.expand_dims(index, [a for a in range(rank) if a != at])
    everywhere = t.broadcast_to(column, t.fixed(put.shape, "its updates need a known shape"))
    return _scattered(t, held, everywhere, put, at, mode, checked=validate_indices)


@translates("scatter_nd")
def scatter_nd(
    t: Translation,
    *,
    data: Operand,
    indices: Operand,
    updates: Operand,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """Each place becomes a number in the flattened tensor, of which slices are rows."""
    held, index = t.value(data), t.cast(t.value(indices), "si32")
    lengths = t.fixed(held.shape, "it needs data of known size")
    places = t.fixed(index.shape, "it needs indices of known shape")
    depth, count = places[-1], int(np.prod(places[:-1]))
    rows, width = int(np.prod(lengths[:depth])), int(np.prod(lengths[depth:]))
    steps = si([int(np.prod(lengths[i + 1 : depth])) for i in range(depth)])
    limits = si(lengths[:depth])
    flat = t.reshape(index, [count, depth])
    if validate_indices or t.scope.opset in ("CoreML5", "CoreML6"):
        # counted from the end where it is negative
        flat = t.where(t.binary("greater", 0, flat, "i1"), t.binary("add", flat, limits), flat)
        number = t.reduce("reduce_sum", t.binary("mul", flat, steps), [1])
    else:
        number = t.reduce("reduce_sum", t.binary("mul", flat, steps), [1])
        inside = t.binary("and", t.binary("greater", flat, -1, "i1"), t.binary("greater", limits, flat, "i1"))
        fits = t.op("all", inside, si([1]), shape=[count, 1], element="i1")
        number = t.where(fits, number, si(-1))
    put = t.reshape(t.value(updates, held.element), [count, width])
    everywhere = t.broadcast_to(number, [count, width])
    made = _scattered(t, t.reshape(held, [rows, width]), everywhere, put, 0, mode, checked=validate_indices)
    return t.reshape(made, lengths)
