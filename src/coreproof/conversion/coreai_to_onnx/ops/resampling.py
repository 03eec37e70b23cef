"""Core AI's interpolation: numbers between the elements of a grid."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, lowers

Numbers: TypeAlias = ir.Value | np.ndarray
"""Numbers that are known now, or at run time only."""


@lowers("interpolate", error="average", interpolates=True)
def interpolate(low: CoreAILowering, x: Operand, shape: Operand, scale: Operand, offset: Operand) -> ir.Value:
    """Axis by axis: element ``i`` lies at ``(i + 0.5 - offset) / scale - 0.5`` of the input, within its edges."""
    mode = low.attribute("interpolation_mode")
    if mode not in ("nearest_neighbor", "linear"):
        raise low.refuse("its mode is not known", found=mode)
    value = low.value(x)
    for axis, length in enumerate(low.shape(x)):
        wanted, by, shift = (_entry(low, vector, axis) for vector in (shape, scale, offset))
        at = _places(low, value, axis, wanted, by, shift)
        if length is not None and np.array_equal(_known(at), np.arange(length)):
            continue
        # where no place lies between two elements, none is weighed with 0: infinity would become NaN
        as_they_are = np.array_equal(_known(by), 1) and np.array_equal(_known(shift), 0)
        nearest = mode == "nearest_neighbor" or as_they_are or np.array_equal(_known(at), np.rint(_known(at)))
        value = _nearest(low, value, axis, at) if nearest else _between(low, value, axis, at)
    return low.op("Identity", value)


def _known(at: Numbers) -> np.ndarray:
    """The numbers where they are known now, else NaN, which equals none."""
    return at if isinstance(at, np.ndarray) else np.array(np.nan)


def _entry(low: CoreAILowering, vector: Operand, axis: int) -> Numbers:
    """What a vector says of one axis, in float64 and without axes: known now wherever that part of it is."""
    if not isinstance(vector, ir.Value):
        return np.asarray(vector).astype(np.float64).ravel()[axis : axis + 1].reshape(())
    if vector.const_value is not None:
        return _entry(low, vector.const_value.numpy(), axis)
    made = vector.producer()
    for part in made.inputs if made is not None and made.op_type == "Concat" else ():
        length = None if part is None else low.shape(part)[0]
        if length is None:
            break
        if axis < length:
            return _entry(low, part, axis)
        axis -= length
    return low.cast(low.op("Gather", vector, np.array(axis, np.int64), axis=0), ir.DataType.DOUBLE)


def _places(
    low: CoreAILowering,
    x: ir.Value,
    axis: int,
    wanted: Numbers,
    by: Numbers,
    shift: Numbers,
) -> Numbers:
    """Where along an axis of ``x`` each element of the result lies, in float64."""
    length, half, one = low.shape(x)[axis], np.array(0.5), np.array(1.0)
    if length is not None and not any(isinstance(known, ir.Value) for known in (wanted, by, shift)):
        at: np.ndarray = np.clip(
            (np.arange(int(_known(wanted))) + 0.5 - _known(shift)) / _known(by) - 0.5, 0, length - 1
        )
        return at
    last = low.op("Sub", _entry(low, low.dims(x), axis) if length is None else np.array(float(length)), one)
    counted = low.op("Range", np.array(0.0), wanted, one)
    place = low.op("Sub", low.op("Div", low.op("Sub", low.op("Add", counted, half), shift), by), half)
    return low.op("Max", low.op("Min", place, last), np.array(0.0))


def _nearest(low: CoreAILowering, x: ir.Value, axis: int, at: Numbers) -> ir.Value:
    rounded: Operand = low.op("Round", at) if isinstance(at, ir.Value) else np.rint(at)
    return low.op("Gather", x, low.i64(rounded), axis=axis)


def _between(low: CoreAILowering, x: ir.Value, axis: int, at: Numbers) -> ir.Value:
    if not low.is_float(x):
        raise low.refuse("between whole numbers it is not lowered", found=str(low.given[0]))
    left, right = low.op("Floor", at), low.op("Ceil", at)
    share = low.op("Reshape", low.op("Sub", at, left), [-1 if i == axis else 1 for i in range(low.rank(x))])
    dtype = ir.DataType.FLOAT if x.dtype is None else x.dtype
    a, b = (low.op("Gather", x, low.cast(i, ir.DataType.INT64), axis=axis) for i in (left, right))
    rest = low.op("Sub", np.array(1.0), share)
    return low.op("Add", low.op("Mul", a, low.cast(rest, dtype)), low.op("Mul", b, low.cast(share, dtype)))


@lowers("interpolate_coordinates", error="average", interpolates=True)
def interpolate_coordinates(low: CoreAILowering, x: Operand, coords: Operand) -> ir.Value:
    """At places that are given: of each place its neighbours on the grid, by their nearness."""
    mode, lengths = low.attribute("interpolation_mode"), low.fixed(low.shape(x))
    last = np.array(lengths, np.float32) - 1
    at = low.op("Min", low.op("Max", low.cast(coords, ir.DataType.FLOAT), np.zeros_like(last)), last)
    if mode == "nearest_neighbor":
        return low.op("GatherND", x, low.i64(low.op("Round", at)))
    if mode != "linear":
        raise low.refuse("its mode is not known", found=mode)
    if len(lengths) > _MOST_AXES:
        raise low.refuse("it has more axes than are lowered", expected=f"at most {_MOST_AXES}", found=len(lengths))
    left = low.op("Floor", at)
    share = low.op("Sub", at, left)
    rest = low.op("Sub", np.float32(1), share)
    parts = []
    for corner in itertools.product((0, 1), repeat=len(lengths)):
        places = low.op("Min", low.op("Add", left, np.array(corner, np.float32)), last)
        weights = low.op("Where", np.array(corner, bool), share, rest)
        weight = low.op("ReduceProd", weights, [-1], keepdims=0)
        parts.append(low.op("Mul", low.op("GatherND", x, low.i64(places)), weight))
    return low.op("Sum", *parts) if len(parts) > 1 else parts[0]


_MOST_AXES = 5
