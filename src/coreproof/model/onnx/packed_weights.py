"""Weights in blocks of few bits, as operators of ONNX Runtime store them: the numbers that they stand for, and their steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray


class Blocks(NamedTuple):
    """A weight: its dtype, its shape, its numbers, and how far those that it could have held lie apart."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Array]
    steps: Callable[[], Array]


Operands = Sequence[Callable[[], Array] | None]


def blocks_of(node: ir.Node, operands: Operands, shapes: Sequence[tuple[int, ...]]) -> tuple[int, Blocks] | None:
    """The weight of a node that stores it in blocks, and which of its inputs that is; None of any other node.

    ``operands`` read what the inputs hold, None where that is not stored; ``shapes`` are those of what is.
    """
    if node.domain == "com.microsoft" and node.op_type == "MatMulNBits":
        found = _of_product(node, operands, shapes)
        return None if found is None else (1, found)
    if node.domain == "com.microsoft" and node.op_type == "GatherBlockQuantized":
        found = _of_table(node, operands, shapes)
        return None if found is None else (0, found)
    return None


def _of_table(node: ir.Node, operands: Operands, shapes: Sequence[tuple[int, ...]]) -> Blocks | None:
    """The table of a GatherBlockQuantized.

    Source: ContribOperators.md of ONNX Runtime: blocks along quantize_axis; bytes hold several numbers along the last axis, and
    their zero points likewise, 2^(bits - 1) where there are none; integers of 4 bits have 0.
    """
    given = [*operands, None, None][:4]
    data, scales, zeros = given[0], given[2] if len(given) > 2 else None, given[3] if len(given) > 3 else None
    bits, size = node.attributes.get_int("bits", 4), node.attributes.get_int("block_size", 128)
    if data is None or scales is None or size <= 0 or bits not in (2, 4, 8):
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None and zeros is None:
        return None
    counted = shapes[2]
    axis = node.attributes.get_int("quantize_axis", 1) % max(1, len(counted))
    shape = list(shapes[0])
    if (packed := data().dtype == np.uint8) and shape:
        shape[-1] *= 8 // bits
    blocks = (*shape[:axis], -(-shape[axis] // size), *shape[axis + 1 :]) if len(shape) == len(counted) else ()
    if blocks != counted:
        return None

    def spread(each: Array) -> Array:
        return np.take(each, np.arange(shape[axis]) // size, axis).astype(np.float32)

    def read() -> Array:
        numbers = (unpacked(data(), bits) if packed else data()).astype(np.float32)
        middle = np.full(counted, float(1 << (bits - 1)) if packed else 0.0)
        if zeros is not None:
            raw = unpacked(zeros(), bits) if packed else zeros()
            middle = raw[tuple(slice(0, n) for n in counted)]
        dense: Array = (numbers - spread(middle)) * spread(scales())
        return dense

    return Blocks(f"uint{bits}", tuple(shape), read, lambda: np.abs(spread(scales())))


def _of_product(node: ir.Node, operands: Operands, shapes: Sequence[tuple[int, ...]]) -> Blocks | None:
    """The weight [N, K] of a MatMulNBits whose ``operands`` can be read where they are stored; None where it is no such weight.

    Source: ContribOperators.md of ONNX Runtime: each row in blocks along K, the last of which is stored in full; the first
    numbers in the lowest bits; zero points packed as the weights are, or floats, 2^(bits - 1) where there are none.
    """
    rows, columns, size = (node.attributes.get_int(name, 0) for name in ("N", "K", "block_size"))
    bits = node.attributes.get_int("bits", 4)
    given = [*operands, None, None, None, None, None][:5]
    if bits not in (2, 4, 8) or min(rows, columns, size) <= 0 or node.attributes.get_int("weight_prepacked", 0) != 0:
        return None
    data, scales, zeros, order = given[1:5]
    stored = [node.inputs[at] is not None for at in range(1, min(5, len(node.inputs)))]
    if data is None or scales is None or any(s and g is None for s, g in zip(stored, given[1:], strict=False)):
        return None
    count = -(-columns // size)
    sizes = [math.prod(shape) for shape in shapes]
    filled = sizes[1] * 8 == rows * count * size * bits and sizes[2] == rows * count
    if not filled or (zeros is not None and sizes[3] not in (rows * count, rows * -(-count * bits // 8))):
        return None
    if order is not None and sizes[4] < columns:
        return None

    def group() -> Array:
        return np.repeat(np.arange(count), size)[:columns] if order is None else order().reshape(-1)[:columns]

    def steps() -> Array:
        return np.abs(scales().astype(np.float32).reshape(rows, count)[:, group()])

    def read() -> Array:
        numbers = unpacked(data(), bits).reshape(rows, -1)[:, :columns].astype(np.float32)
        middle = np.full((rows, count), float(1 << (bits - 1)), np.float32)
        if zeros is not None:
            raw = zeros().reshape(rows, -1)
            middle = (unpacked(raw, bits) if raw.dtype == np.uint8 else raw)[:, :count].astype(np.float32)
        dense: Array = (numbers - middle[:, group()]) * scales().astype(np.float32).reshape(rows, count)[:, group()]
        return dense

    return Blocks(f"uint{bits}", (rows, columns), read, steps)


def unpacked(data: Array, bits: int) -> Array:
    """Bytes [..., n] as the numbers that they hold, [..., n * 8 / bits], the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts: Array = (data.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return parts.reshape(*data.shape[:-1], -1)
