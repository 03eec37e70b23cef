"""MIL operations that make, join, split, sort or search tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.model.budget import afford


@lowers("shape", error="move", passes_on=True, positions=True)
def shape(low: Lowering, *, x: Operand, output_dtype: str = "int32") -> ir.Value:
    return low.i32(low.dims(x))


@lowers("fill", exact=True, error="move")
def fill(low: Lowering, *, shape: Operand, value: Operand = 0.0) -> ir.Value:
    return low.op("Expand", value, low.i64(shape))


@lowers("fill_like", since="iOS16", exact=True)
def fill_like(low: Lowering, *, ref_tensor: Operand, value: Operand = 0.0) -> ir.Value:
    return low.op("Expand", value, low.dims(ref_tensor))


@lowers("range_1d")
def range_1d(low: Lowering, *, end: Operand, start: Operand, step: Operand) -> ir.Value:
    scalars = [low.value(v) for v in (start, end, step)]
    # ONNX's Range takes scalars alone, MIL vectors of one number too
    return low.op("Range", *(low.op("Squeeze", v) if low.rank(v) else v for v in scalars))


@lowers("concat", exact=True, error="move", word="cat", variadic="values", hands_on="part")
def concat(low: Lowering, *, values: Sequence[Operand], axis: int, interleave: bool = False) -> ir.Value:
    if low.rank(values[0]) == 0:
        return low.op("Concat", *(low.op("Unsqueeze", v, [0]) for v in values), axis=0)
    at = int(axis) % low.rank(values[0])
    if not interleave:
        return low.op("Concat", *values, axis=at) if len(values) > 1 else low.op("Identity", values[0])
    # first of each, second of each, ...: side by side behind the axis, and merged into it
    stacked = stack(low, values=values, axis=at + 1)
    lengths = [0 if n is None else n for n in low.shape(values[0])]
    # ONNX, Reshape: 0 copies a length, so that those before the axis may be free
    merged = [*(0 if i < at else n for i, n in enumerate(lengths[:at])), -1, *lengths[at + 1 :]]
    if any(n is None for n in low.shape(values[0])[at + 1 :]):
        raise low.refuse("interleave needs the lengths behind its axis", found=low.shape(values[0]))
    return low.op("Reshape", stacked, np.array(merged, np.int64))


@lowers("stack", exact=True, error="move", variadic="values")
def stack(low: Lowering, *, values: Sequence[Operand], axis: int) -> ir.Value:
    # counted in the result, which has one dimension more
    at = int(axis) % (low.rank(values[0]) + 1)
    return low.op("Concat", *(low.op("Unsqueeze", v, [at]) for v in values), axis=at)


@lowers("split", exact=True, error="move", hands_on="part")
def split(
    low: Lowering, *, x: Operand, axis: int, num_splits: Operand = None, split_sizes: Operand = None
) -> Sequence[ir.Value]:
    count = len(low.outputs)
    if split_sizes is not None:
        return low.ops("Split", x, low.i64(split_sizes), axis=int(axis), outputs=count)
    return low.ops("Split", x, axis=int(axis), num_outputs=count, outputs=count)


@lowers("tile", exact=True, error="move", hands_on="reshaped")
def tile(low: Lowering, *, x: Operand, reps: Operand) -> ir.Value:
    return low.op("Tile", x, low.i64(reps))


@lowers("pad", exact=True, error="move", hands_on="part")
def pad(low: Lowering, *, x: Operand, pad: Operand, mode: str = "constant", constant_val: Operand = 0.0) -> ir.Value:
    """``pad`` holds (before, after) of each of the last dimensions in turn; ONNX wants all befores first."""
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "reflection": "reflect"}
    if mode not in modes:
        raise low.refuse("this mode is not known", expected=sorted(modes), found=mode)
    if isinstance(pad, ir.Value):
        pairs = low.op("Reshape", low.i64(pad), [-1, 2])
        amounts: Operand = low.op("Reshape", low.op("Transpose", pairs, perm=[1, 0]), [-1])
    else:
        given = np.asarray(pad, np.int64).reshape(-1, 2)
        # of every dimension: ONNX Runtime moves transposes past a Pad as if it never named its axes, and fails
        amounts = np.concatenate([np.zeros((low.rank(x) - len(given), 2), np.int64), given]).T.reshape(-1)
    fill: Operand = None
    if mode == "constant":
        fill = (
            constant_val if low.is_float(x) else np.asarray(constant_val).astype(bool if low.is_bool(x) else np.int32)
        )
    return low.op("Pad", x, amounts, fill, mode=modes[mode])


@lowers("cumsum", error="average")
def cumsum(low: Lowering, *, x: Operand, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> ir.Value:
    return low.op("CumSum", x, np.array(axis, np.int64), exclusive=int(exclusive), reverse=int(reverse))


@lowers("band_part", exact=True)
def band_part(low: Lowering, *, x: Operand, lower: int = -1, upper: int = -1) -> ir.Value:
    # carried as numbers, of which Trilu leaves zeros, and made truths again below
    carried = low.i32(x) if low.is_bool(x) else low.value(x)
    kept = carried
    # -1 keeps all of a side
    if lower >= 0:
        kept = low.op("Trilu", kept, np.array(-int(lower), np.int64), upper=1)
    if upper >= 0:
        kept = low.op("Trilu", kept, np.array(int(upper), np.int64), upper=0)
    return low.cast(kept, ir.DataType.BOOL) if low.is_bool(x) else kept


@lowers("one_hot", exact=True, positions=True)
def one_hot(
    low: Lowering,
    *,
    indices: Operand,
    one_hot_vector_size: Operand,
    axis: int = -1,
    on_value: Operand = 1,
    off_value: Operand = 0,
) -> ir.Value:
    depth = low.op("Reshape", low.i64(one_hot_vector_size), [1])
    # A negative index is hot nowhere; ONNX would count it from the end.
    index = low.op("Where", low.op("Less", indices, 0), depth, low.value(low.i64(indices)))
    # 0 and 1 first: the two values may be computed, and OneHot wants them as one vector
    hot = low.op("OneHot", index, depth, np.array([0, 1], np.float32), axis=int(axis))
    if low.is_bool(on_value):
        on_value, off_value = int(low.constant(on_value, "on_value")), int(low.constant(off_value, "off_value"))
    chosen = low.op("Where", low.cast(hot, ir.DataType.BOOL), on_value, off_value)
    return low.cast(chosen, ir.DataType.BOOL) if low.outputs[0].dtype == "bool" else chosen


@lowers("non_zero", error="move", positions=True)
def non_zero(low: Lowering, *, x: Operand) -> ir.Value:
    return low.i32(low.op("Transpose", low.op("NonZero", x), perm=[1, 0]))


@lowers("argsort", exact=True, indices=0)
def argsort(low: Lowering, *, x: Operand, axis: int = -1, ascending: bool = False) -> ir.Value:
    _, order = _top(low, x, None, axis, largest=not ascending)
    return low.i32(order)


@lowers("topk", exact=True, error="move", indices=1, positions=True)
def topk(
    low: Lowering,
    *,
    x: Operand,
    k: Operand = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> ir.Value | tuple[ir.Value, ...]:
    values, order = _top(low, x, None if k == -1 else k, axis, largest=not ascending)
    return (values, low.i32(order)) if return_indices else values


def _top(low: Lowering, x: Operand, k: Operand, axis: int, *, largest: bool) -> tuple[ir.Value, ...]:
    """The k first along ``axis`` in order (all when k is None) and where they stood."""
    if k is None:
        count: Operand = low.op("Gather", low.dims(x), [axis])
    else:
        count = low.op("Reshape", low.i64(k), [1]) if isinstance(k, ir.Value) else [k]
    # always sorted: MIL leaves the order open where sort is false
    return low.ops("TopK", x, count, axis=int(axis), largest=int(largest), sorted=1, outputs=2)


@lowers("sliding_windows", exact=True)
def sliding_windows(low: Lowering, *, x: Operand, axis: int, size: int, stride: int = 1) -> ir.Value:
    at = int(axis) % low.rank(x)
    length = low.shape(x)[at]
    if length is None:
        raise low.refuse("it needs to know the length of its axis")
    if size < 1 or stride < 1:
        raise low.refuse("its windows make no sense", expected="a size and a stride above 0", found=[size, stride])
    afford("the places that its windows read", [max(0, (length - size) // stride + 1), size], 8)
    starts = np.arange(0, length - int(size) + 1, int(stride), dtype=np.int64)
    return low.op("Gather", x, starts[:, None] + np.arange(int(size)), axis=at)
