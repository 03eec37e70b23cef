"""Core AI's numbers in fewer bits: weights are unpacked while the graph is made, other values as they run."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreai_to_onnx.lowering import CoreAILowering, Operand, carrier, lowers, to_carrier
from coreproof.model.budget import afford


@lowers("blockwise_shift_scale")
def blockwise_shift_scale(
    low: CoreAILowering, data: Operand, scale: Operand, offset1: Operand, offset2: Operand
) -> Operand:
    """``scale * (data - offset1) + offset2``, where one number of the latter three stands for a block of data."""
    operands = [data, scale, offset1, offset2]
    if not any(isinstance(operand, ir.Value) for operand in operands):
        stored = np.asarray(data)
        afford("an unpacked weight", stored.shape, 4, where=low.where)
        shifts = [_spread(low, to_carrier(np.asarray(o)).astype(np.float64), stored.shape) for o in operands[1:]]
        return _typed(low, shifts[0] * (to_carrier(stored).astype(np.float64) - shifts[1]) + shifts[2])
    lengths, blocks = low.shape(data), low.shape(scale)
    if any(block not in (1, length) for length, block in zip(lengths, blocks, strict=True)):
        raise low.refuse(
            "of values that are known at run time only it is lowered with whole axes as blocks", found=blocks
        )
    return _dequantised(low, data, scale, offset1, offset2)


def _spread(low: CoreAILowering, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Each number repeated over its block."""
    for axis, (length, blocks) in enumerate(zip(shape, array.shape, strict=True)):
        if blocks == 0 or length % blocks:
            raise low.refuse("its blocks do not divide the data", expected=list(shape), found=list(array.shape))
        array = np.repeat(array, length // blocks, axis=axis)
    return array


def _typed(low: CoreAILowering, array: np.ndarray) -> np.ndarray:
    """A weight in the type of the result."""
    held = low.made[0]
    dtype = np.dtype(np.float32) if held is None or held.dtype is None else np.dtype(held.dtype)
    return array.astype(dtype)


def _dequantised(low: CoreAILowering, data: Operand, scale: Operand, offset1: Operand, offset2: Operand) -> ir.Value:
    to = carrier(low.element) or ir.DataType.FLOAT
    centred = low.op("Sub", low.cast(data, to), low.cast(offset1, to))
    return low.op("Add", low.op("Mul", centred, low.cast(scale, to)), low.cast(offset2, to))


def _along(low: CoreAILowering, x: Operand, axis: Operand, *numbers: Operand) -> list[Operand]:
    """Numbers that stand for an axis, shaped to meet the tensor; those that stand for all of it as they are."""
    axes, rank = low.integers(axis, "axis"), low.rank(x)
    if all(low.rank(number) == 0 for number in numbers):
        return list(numbers)
    shape = [-1 if i == axes[0] % rank else 1 for i in range(rank)]
    return [number if low.rank(number) == 0 else low.reshape(number, shape) for number in numbers]


@lowers("dequantize")
def dequantize(
    low: CoreAILowering, x: Operand, scale: Operand, offset1: Operand, offset2: Operand, axis: Operand
) -> ir.Value:
    return _dequantised(low, x, *_along(low, x, axis, scale, offset1, offset2))


@lowers("quantize", steps=True)
def quantize(
    low: CoreAILowering, x: Operand, scale: Operand, offset1: Operand, offset2: Operand, axis: Operand
) -> ir.Value:
    by, first, second = _along(low, x, axis, scale, offset1, offset2)
    floats = [low.cast(value, ir.DataType.FLOAT) for value in (x, by, first, second)]
    steps = low.op("Div", low.op("Sub", floats[0], floats[3]), floats[1])
    if low.element[:2] not in ("si", "ui"):
        return low.op("Add", steps, floats[2])
    bits, signed = int(low.element[2:]), low.element.startswith("s")
    low_end, high_end = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    moved = low.op("Add", low.op("Round", steps), floats[2])
    return low.op("Clip", moved, np.float32(low_end), np.float32(high_end))


@lowers("lut_to_dense", exact=True)
def lut_to_dense(low: CoreAILowering, indices: Operand, lut: Operand, axis: Operand) -> np.ndarray:
    """Each index stands for one entry of the table of its block, of one number or of several along an axis."""
    codes = low.constant(indices, "indices").astype(np.int64)
    tables = low.constant(lut, "lut")
    rank, along = codes.ndim, low.axis(axis, rank=codes.ndim)
    if tables.ndim != rank + 2 or any(n % b for n, b in zip(codes.shape, tables.shape, strict=False)):
        raise low.refuse("its table does not fit the indices", expected=f"rank {rank + 2}", found=list(tables.shape))
    width = tables.shape[-1]
    afford("an unpacked weight", (*codes.shape, width), tables.dtype.itemsize, where=low.where)
    blocks = [np.arange(n) // (n // b) for n, b in zip(codes.shape, tables.shape[:rank], strict=True)]
    # [*indices, width], whose last axis then stands behind the one that it widens
    entries = tables[(*np.ix_(*blocks), codes)] if rank else tables[codes]
    widened = np.moveaxis(entries, -1, along + 1)
    shape = [n * (width if i == along else 1) for i, n in enumerate(codes.shape)]
    dense: np.ndarray = widened.reshape(shape)
    return dense


@lowers("build_sparse_with_bitmask", exact=True)
def build_sparse(low: CoreAILowering, values: Operand, bitmask: Operand) -> np.ndarray:
    """The dense form stands for the sparse one: nothing else is done with that than to unpack it."""
    mask = low.constant(bitmask, "bitmask").astype(bool)
    held = low.constant(values, "values")
    if held.size != int(mask.sum()):
        raise low.refuse("it has another number of values than of places", expected=int(mask.sum()), found=held.size)
    dense = np.zeros(mask.shape, held.dtype)
    dense[mask] = held.ravel()
    return dense


@lowers("sparse_with_bitmask_to_dense", exact=True)
def sparse_to_dense(low: CoreAILowering, x: Operand) -> Operand:
    return x
