"""MIL's lists of tensors of one shape, carried as one tensor with the list's length in front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import Lowering, Operand, lowers
from coreproof.conversion.coreml_to_onnx.mlprogram.arguments import element_lengths

_ZEROS = {"fp16": np.float32, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}


@lowers("make_list", exact=True, passes_on=True, tuples=("elem_shape",))
def make_list(
    low: Lowering,
    *,
    init_length: Operand = 1,
    dynamic_length: bool = True,
    elem_shape: Sequence[Operand] = (),
    dtype: str = "fp32",
) -> ir.Value:
    lengths = [1 if n is None else n for n in element_lengths(elem_shape)]
    length = low.op("Reshape", low.i64(init_length), [1])
    zero: np.ndarray = np.zeros((), _ZEROS[dtype])
    return low.op("Expand", zero, low.op("Concat", length, lengths, axis=0))


@lowers("list_length", passes_on=True)
def list_length(low: Lowering, *, ls: Operand) -> ir.Value:
    return low.i32(low.op("Gather", low.dims(ls), np.array(0, np.int64)))


@lowers("list_read", exact=True, passes_on=True)
def list_read(low: Lowering, *, ls: Operand, index: Operand) -> ir.Value:
    return low.op("Gather", ls, index, axis=0)


@lowers("list_gather", exact=True, passes_on=True)
def list_gather(low: Lowering, *, ls: Operand, indices: Operand) -> ir.Value:
    return low.op("Gather", ls, indices, axis=0)


@lowers("list_write", exact=True, passes_on=True)
def list_write(low: Lowering, *, ls: Operand, index: Operand, value: Operand) -> ir.Value:
    position = low.op("Reshape", low.i64(index), [1])
    return _write(low, ls, position, low.op("Unsqueeze", value, [0]))


@lowers("list_scatter", exact=True, passes_on=True)
def list_scatter(low: Lowering, *, ls: Operand, indices: Operand, value: Operand) -> ir.Value:
    return _write(low, ls, low.value(low.i64(indices)), low.value(value))


def _write(low: Lowering, ls: Operand, positions: ir.Value, values: ir.Value) -> ir.Value:
    """Writes at ``positions``; a list that is too short grows with zeros first."""
    # to the end: an end beyond the length means it
    elements = low.op("Slice", low.dims(values), [1], [2**62])
    length = low.op("Slice", low.dims(ls), [0], [1])
    needed = low.op("Add", low.op("ReduceMax", positions, keepdims=0), [1])
    missing = low.op("Max", low.op("Sub", needed, length), [0])
    zero = low.op("Cast", np.float32(0), to=values.dtype)
    # A list whose elements had no known shape yet takes the shape of what is written.
    whole = low.op("Expand", ls, low.op("Concat", length, elements, axis=0))
    grown = low.op("Concat", whole, low.op("Expand", zero, low.op("Concat", missing, elements, axis=0)), axis=0)
    return low.op("ScatterND", grown, low.op("Unsqueeze", positions, [1]), values)
