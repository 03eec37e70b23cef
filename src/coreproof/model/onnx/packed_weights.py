"""Weights in blocks of few bits, as ONNX Runtime's MatMulNBits stores them: the numbers that they stand for, and their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

Array = np.ndarray


class Blocks(NamedTuple):
    """A weight [N, K]: its dtype, its shape, its numbers, and how far those that it could have held lie apart."""

    dtype: str
    shape: tuple[int, int]
    read: Callable[[], Array]
    steps: Callable[[], Array]


def blocks_of(node: ir.Node, operands: Sequence[Callable[[], Array] | None]) -> Blocks | None:
    """The weight of a MatMulNBits whose ``operands`` can be read where they are stored; None where it is no such weight.

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
