"""The bytes that a file of MLIR's bytecode keeps beside its graph: where each lies, by its name.

The format is MLIR's own (https://mlir.llvm.org/docs/BytecodeFormat): sections, of which one holds texts, one the bytes, and one
whose they are. The bindings give such bytes out as text in hexadecimal only, which takes most of the time that reading does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

GRAPH = "main.mlirb"
"""The file of an asset that holds its program."""
_MAGIC = b"ML\xefR"
_TEXTS, _BYTES, _WHOSE = 0, 5, 6
_ALIGNED = 0x80
_BLOB = 0


def resources(data: np.ndarray) -> Mapping[str, np.ndarray]:
    """The bytes by name, as parts of ``data``, which are those of the file. Raises ValueError where it is not to be read."""
    if bytes(data[:4]) != _MAGIC:
        raise ValueError("the file does not begin as MLIR's bytecode does")
    sections = dict(_sections(data))
    if _WHOSE not in sections:
        return {}
    missing = {_TEXTS, _BYTES} - sections.keys()
    if missing:
        raise ValueError(f"MLIR's bytecode has no section {min(missing)}")
    texts, held, whose = _texts(sections[_TEXTS]), sections[_BYTES], _Reader(sections[_WHOSE])
    found: dict[str, np.ndarray] = {}
    at = 0
    # groups that no dialect owns are counted and named by a text, those of dialects fill what is left: one form for both
    whose.number()
    while not whose.done:
        whose.number()
        for _ in range(whose.number()):
            name, size, kind = whose.number(), whose.number(), whose.bytes(1)[0]
            if name >= len(texts) or at + size > held.size:
                raise ValueError("MLIR's bytecode says that bytes lie where none are")
            # one that is only declared has none
            if kind == _BLOB and size:
                found[texts[name]] = _blob(held, at, at + size)
            at += size
    return found


def _blob(held: np.ndarray, start: int, end: int) -> np.ndarray:
    """One entry: how its bytes are aligned, how many there are, and the bytes."""
    reader = _Reader(held[:end], start)
    alignment, size = reader.number(), reader.number()
    reader.align(alignment)
    return reader.bytes(size)


def _sections(data: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    reader = _Reader(data, len(_MAGIC))
    reader.number()  # the version
    reader.text()  # who wrote it
    while not reader.done:
        head = int(reader.bytes(1)[0])
        size = reader.number()
        if head & _ALIGNED:
            reader.align(reader.number())
        yield head & ~_ALIGNED, reader.bytes(size)


def _texts(section: np.ndarray) -> list[str]:
    """All texts: first their lengths, the last one's first, then themselves, each with a zero behind it."""
    reader = _Reader(section)
    count = reader.number()
    if count > section.size:
        raise ValueError(f"MLIR's bytecode says that it holds {count:,} texts in {section.size:,} bytes")
    lengths = [reader.number() for _ in range(count)]
    return [bytes(reader.bytes(length))[:-1].decode() for length in reversed(lengths)]


class _Reader:
    """Goes through bytes from a place on. Each step raises ValueError where they end before it does."""

    def __init__(self, data: np.ndarray, at: int = 0) -> None:
        self._data = data
        self._at = at

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= self._data.size

    def bytes(self, count: int) -> np.ndarray:
        """The next so many."""
        if self._at + count > self._data.size:
            raise ValueError(f"MLIR's bytecode ends at {self._data.size:,}, before what begins at {self._at:,}")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self) -> int:
        """A whole number: the zeros at the end of its first byte say how many bytes follow that one."""
        first = int(self.bytes(1)[0])
        if first == 0:
            return int.from_bytes(self.bytes(8).tobytes(), "little")
        more = (first & -first).bit_length() - 1
        whole = first | int.from_bytes(self.bytes(more).tobytes(), "little") << 8
        return whole >> (more + 1)

    def text(self) -> str:
        """A text that ends with a zero."""
        start = self._at
        while self.bytes(1)[0]:
            pass
        return bytes(self._data[start : self._at - 1]).decode()

    def align(self, to: int) -> None:
        """On to the next place that is a multiple of this many bytes."""
        if to < 1 or to & (to - 1):
            raise ValueError(f"MLIR's bytecode aligns to {to} bytes")
        self._at = -(-self._at // to) * to
