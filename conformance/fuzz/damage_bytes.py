"""Damage to bytes, whatever they mean: flipped, cut, inserted, moved, zeroed, and numbers that are written over others."""

from __future__ import annotations

import struct
from random import Random

INTEGERS = (
    0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 17, 63, 64, 100, 127, 128, 255, 256, 999, 1000, 4096, 32767, 32768, 65535, 65536,
    1 << 20, 10**6, 10**9, (1 << 31) - 1, 1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63),
)  # fmt: skip
"""Lengths, indices and counts at the borders where programs break."""
LARGEST = 4 << 20
"""No damage makes a file longer than this."""


def damage_bytes(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Damaged bytes, and how they were damaged."""
    if not data:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 32))), "bytes: filled"
    way = rng.choice(_WAYS)
    return way(rng, data)[:LARGEST], f"bytes: {way.__name__.lstrip('_')}"


def _place(rng: Random, data: bytes) -> int:
    """Anywhere; the beginning and the end, where headers and directories stand, more often."""
    end = rng.random()
    if end < 0.25:
        return rng.randrange(min(len(data), 64))
    if end < 0.4:
        return len(data) - 1 - rng.randrange(min(len(data), 64))
    return rng.randrange(len(data))


def _flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[_place(rng, data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.choice((0, 1, len(data) // 2, len(data) - 1, rng.randrange(len(data))))]


def _behead(rng: Random, data: bytes) -> bytes:
    return data[rng.randrange(len(data)) :]


def _remove(rng: Random, data: bytes) -> bytes:
    start = _place(rng, data)
    return data[:start] + data[start + rng.choice((1, 2, 4, 8, 64, 1 + rng.randrange(len(data)))) :]


def _insert(rng: Random, data: bytes) -> bytes:
    start = _place(rng, data)
    added = bytes(rng.randrange(256) for _ in range(rng.choice((1, 2, 4, 64))))
    return data[:start] + rng.choice((added, b"\0" * len(added), b"\xff" * len(added))) + data[start:]


def _repeat(rng: Random, data: bytes) -> bytes:
    start = _place(rng, data)
    part = data[start : start + rng.choice((1, 8, 64, 512))]
    return data[:start] + part * rng.choice((2, 3, 100)) + data[start:]


def _splice(rng: Random, data: bytes) -> bytes:
    length = 1 + rng.randrange(min(len(data), 64))
    source, target = _place(rng, data), _place(rng, data)
    return data[:target] + data[source : source + length] + data[target + length :]


def _zero(rng: Random, data: bytes) -> bytes:
    start, length = _place(rng, data), rng.choice((1, 4, 16, 256))
    return data[:start] + b"\0" * len(data[start : start + length]) + data[start + length :]


def _number(rng: Random, data: bytes) -> bytes:
    form = rng.choice(("<b", "<h", "<i", "<q", ">h", ">i", ">q"))
    size = struct.calcsize(form)
    bound = 1 << (8 * size)
    number = rng.choice(INTEGERS) % bound
    start = _place(rng, data)
    if rng.random() < 0.5:
        start -= start % size  # where a header's fields stand
    order = "little" if form[0] == "<" else "big"
    return data[:start] + number.to_bytes(size, order) + data[start + size :]


_WAYS = (_flip, _flip, _overwrite, _cut, _behead, _remove, _insert, _repeat, _splice, _zero, _number, _number)
