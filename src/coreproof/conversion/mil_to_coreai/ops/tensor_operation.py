"""MIL operations that make, join, split, sort or search tensors, in Core AI's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.mil_to_coreai.ops.gathering import taken
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates, ui
from coreproof.model.budget import afford
from coreproof.model.coreai.element_types import TensorType


@translates("fill")
def fill(t: Translation, *, shape: Operand, value: Operand = 0.0) -> Tensor:
    return _filled(t, value, shape)


@translates("fill_like", since="iOS16")
def fill_like(t: Translation, *, ref_tensor: Operand, value: Operand = 0.0) -> Tensor:
    lengths = t.shape(ref_tensor)
    if None not in lengths:
        return _filled(t, value, t.fixed(lengths))
    return _filled(t, value, t.op("get_shape", ref_tensor, shape=[len(lengths)], element="ui32"))


def _filled(t: Translation, number: Operand, shape: Operand) -> Tensor:
    held = t.value(number)
    if not isinstance(shape, Tensor):
        return t.broadcast_to(held, t.integers(shape, "shape"))
    rank = t.fixed(shape.shape, "the rank of the result is not known")[0]
    return t.op("broadcast_to", held, t.cast(shape, "ui32"), shape=t.outputs[0].shape or (None,) * rank)


@translates("range_1d")
def range_1d(t: Translation, *, end: Operand, start: Operand, step: Operand) -> Tensor:
    values = [t.value(v) for v in (start, end, step)]
    # vectors of one number as well
    scalars = [t.reshape(v, []) if v.shape else v for v in values]
    return t.op("range", *scalars, shape=t.outputs[0].shape or (None,))


@translates("concat")
def concat(t: Translation, *, values: Sequence[Operand], axis: int, interleave: bool = False) -> Tensor:
    parts = [t.value(v) for v in values]
    if not parts[0].shape:
        return t.concat([t.expand_dims(v, [0]) for v in parts], 0)
    at = int(axis) % len(parts[0].shape)
    if not interleave:
        return t.concat(parts, at)
    # first of each, second of each, ...: side by side behind the axis, and merged into it
    stacked = t.concat([t.expand_dims(v, [at + 1]) for v in parts], at + 1)
    lengths = parts[0].shape
    return t.reshape(stacked, [*t.fixed(lengths[:at]), -1, *t.fixed(lengths[at + 1 :])])


@translates("stack")
def stack(t: Translation, *, values: Sequence[Operand], axis: int) -> Tensor:
    at = int(axis) % (t.rank(values[0]) + 1)
    return t.concat([t.expand_dims(v, [at]) for v in values], at)


@translates("split")
def split(
    t: Translation, *, x: Operand, axis: int, num_splits: Operand = None, split_sizes: Operand = None
) -> list[Tensor]:
    value = t.value(x)
    at, count = int(axis) % len(value.shape), len(t.outputs)
    if split_sizes is None:
        (length,) = t.fixed(value.shape[at : at + 1], "the axis that is split has to be known")
        sizes = [length // count] * count
    else:
        sizes = t.integers(split_sizes, "split_sizes")
    if count == 1:
        return [value]
    lengths = [[n if i == at else m for i, m in enumerate(value.shape)] for n in sizes]
    made = [t.result(TensorType(value.element, tuple(each)), "split") for each in lengths]
    read = [value, t.value(ui(sizes)), t.value(si(at))]
    t.append("split", [v.name for v in read], [v.name for v in made])
    return made


@translates("tile")
def tile(t: Translation, *, x: Operand, reps: Operand) -> Tensor:
    value = t.value(x)
    if isinstance(reps, Tensor):
        return t.op("tile", value, t.cast(reps, "ui32"), shape=t.outputs[0].shape or (None,) * len(value.shape))
    times = t.integers(reps, "reps")
    lengths = [None if n is None else n * r for n, r in zip(value.shape, times, strict=True)]
    return t.op("tile", value, ui(times), shape=lengths) if any(r != 1 for r in times) else value


_PADS = {"constant": "constant", "reflect": "reflect", "reflection": "reflect", "replicate": "replicate"}


@translates("pad")
def pad(t: Translation, *, x: Operand, pad: Operand, mode: str = "constant", constant_val: Operand = 0.0) -> Tensor:
    """``pad`` holds (before, after) of each of the last dimensions in turn."""
    if mode not in _PADS:
        raise t.refuse("this mode is not known", expected=sorted(_PADS), found=mode)
    value = t.value(x)
    if isinstance(pad, Tensor):
        return _padded(t, value, pad, constant_val, _PADS[mode])
    amounts = t.integers(pad, "pad")
    pairs = [(0, 0)] * (len(value.shape) - len(amounts) // 2) + list(zip(amounts[::2], amounts[1::2], strict=True))
    return t.pad(value, pairs, float(np.ravel(t.constant(constant_val, "constant_val"))[0]), _PADS[mode])


def _padded(t: Translation, x: Tensor, pad: Tensor, fill: Operand, mode: str) -> Tensor:
    """With amounts that are known at run time only."""
    (count,) = t.fixed(pad.shape, "how many axes it pads has to be known")
    amounts: Tensor = t.cast(pad, "ui32")
    if count < 2 * len(x.shape):
        amounts = t.concat([ui([0] * (2 * len(x.shape) - count)), amounts], 0)
    lengths = t.outputs[0].shape or (None,) * len(x.shape)
    number = t.value(fill, x.element)
    number = t.reshape(number, []) if number.shape else number
    return t.op("pad", x, amounts, number, shape=lengths, padding_mode=f"#coreai.padding_mode<{mode}>")


_SUM = "0 : i32"
"""The dialect numbers what a scan combines by: the sum is the first."""


@translates("cumsum")
def cumsum(t: Translation, *, x: Operand, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    value = t.value(x)
    at, rank = int(axis) % len(value.shape), len(value.shape)
    made = t.op("scan", value, ui(at), np.array(bool(reverse)), shape=value.shape, scan_op=_SUM)
    if not exclusive:
        return made
    # moved on by one element, with a zero in front, or behind
    before, after = (-1, 1) if reverse else (1, -1)
    return t.pad(made, [(before, after) if i == at else (0, 0) for i in range(rank)])


@translates("band_part")
def band_part(t: Translation, *, x: Operand, lower: int = -1, upper: int = -1) -> Tensor:
    value = t.value(x)
    rows, columns = t.fixed(value.shape[-2:])
    afford("a mask of rows and columns", [rows, columns], 8)
    off = np.arange(columns) - np.arange(rows)[:, None]
    kept = (off >= -lower if lower >= 0 else True) & (off <= upper if upper >= 0 else np.ones_like(off, bool))
    return t.where(np.broadcast_to(kept, off.shape).copy(), value, t.like(0, value))


@translates("one_hot")
def one_hot(
    t: Translation,
    *,
    indices: Operand,
    one_hot_vector_size: Operand,
    axis: int = -1,
    on_value: Operand = 1,
    off_value: Operand = 0,
) -> Tensor:
    index = t.cast(t.value(indices), "si32")
    size = t.integers(one_hot_vector_size, "one_hot_vector_size")[0]
    rank = len(index.shape) + 1
    at = int(axis) % rank
    numbers = np.arange(size, dtype=np.int32).reshape([-1 if i == at else 1 for i in range(rank)])
    hot = t.binary("equal", t.expand_dims(index, [at]), numbers, "i1")
    return t.where(hot, on_value, off_value)


@translates("non_zero")
def non_zero(t: Translation, *, x: Operand) -> Tensor:
    value = t.value(x)
    return t.op("non_zero", value, shape=[None, len(value.shape)], element="si32")


@translates("argsort")
def argsort(t: Translation, *, x: Operand, axis: int = -1, ascending: bool = False) -> Tensor:
    return _order(t, t.value(x), int(axis), descending=not ascending)


def _order(t: Translation, x: Tensor, axis: int, *, descending: bool) -> Tensor:
    operands: list[Operand] = [x, si(axis % len(x.shape)), np.array(descending), np.array(True)]
    return t.op("argsort", *operands, shape=x.shape, element="si32")


@translates("topk")
def topk(
    t: Translation,
    *,
    x: Operand,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | list[Tensor]:
    value = t.value(x)
    at = int(axis) % len(value.shape)
    order = _order(t, value, at, descending=not ascending)
    if k != -1:
        ends = [int(k) if i == at else (_ALL if n is None else n) for i, n in enumerate(value.shape)]
        lengths = [int(k) if i == at else n for i, n in enumerate(value.shape)]
        order = t.op("slice", order, si([0] * len(ends)), si(ends), si([1] * len(ends)), shape=lengths)
    values = t.op("gather_along_axis", value, order, si(at), shape=order.shape)
    # always sorted: MIL leaves the order open where sort is false
    wanted = "ui16" if output_indices_dtype == "uint16" else "si32"
    return [values, t.cast(order, wanted)] if return_indices else values


_ALL = int(np.iinfo(np.int32).max)


@translates("sliding_windows")
def sliding_windows(t: Translation, *, x: Operand, axis: int, size: int, stride: int = 1) -> Tensor:
    value = t.value(x)
    at = int(axis) % len(value.shape)
    (length,) = t.fixed(value.shape[at : at + 1], "it needs to know the length of its axis")
    if size < 1 or stride < 1:
        raise t.refuse("its windows make no sense", expected="a size and a stride above 0", found=[size, stride])
    afford("the places that its windows read", [max(0, (length - size) // stride + 1), size], 4)
    starts = np.arange(0, length - int(size) + 1, int(stride), dtype=np.int32)
    return taken(t, value, starts[:, None] + np.arange(int(size), dtype=np.int32), at)
