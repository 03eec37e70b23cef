"""The memory-mapped reader and the writer of an ML Program's ``weight.bin`` (MILBlob storage, version 2).

Layout (coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp): a 64-byte header, then for each blob a 64-byte
metadata record and its data, both on 64-byte boundaries. A ``BlobFileValue``'s offset points at the metadata.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from coreproof.errors import UnreadableModelError
from coreproof.model.files.paths import regular_file

# little-endian whatever the machine: number of blobs, version
_HEADER = struct.Struct("<II")
# sentinel, dtype, bytes, where the data begins, bits of the last byte that are not used
_METADATA = struct.Struct("<IIQQQ")
_RECORD_BYTES = 64
# at the head of each record: an offset that points elsewhere is found out by it
_SENTINEL = 0xDEADBEEF
_PIECE = 1 << 24
_WINDOW = 1 << 28

_NAMES: dict[int, str] = {
    1: "float16",
    2: "float32",
    3: "uint8",
    4: "int8",
    5: "bfloat16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
    16: "float8_e4m3fn",
    17: "float8_e5m2",
}
"""blob dtype -> MIL's name of it (coremltools, mlmodel/src/MILBlob/Blob/BlobDataType.hpp)."""
SUB_BYTE = {"int4": (4, True), "uint4": (4, False), "uint3": (3, False), "uint2": (2, False), "uint1": (1, False),
            "uint6": (6, False)}  # fmt: skip
"""Integers that share bytes -> their bits, and whether they are signed."""
_SUB_BYTE = {number: SUB_BYTE[name] for number, name in _NAMES.items() if name in SUB_BYTE}
_WHOLE: dict[int, np.dtype] = {
    number: np.dtype(getattr(ml_dtypes, name, name)) for number, name in _NAMES.items() if name not in SUB_BYTE
}


class WeightFile:
    """Read access to one ``weight.bin``. Arrays come back as read-only views of the mapped file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise UnreadableModelError(
                "the model's weight file is missing",
                where=str(path),
                fix="copy the .mlpackage again, as a whole folder; a single file of it is not a model",
            )
        regular_file(path, what="the model's weight file")
        self._spans: dict[int, tuple[int, int]] = {}
        size = path.stat().st_size
        if size < _RECORD_BYTES:
            raise self._damaged(f"at least {_RECORD_BYTES} bytes", f"{size} bytes")
        # mapped, not read: weights of gigabytes cost memory only where they are looked at
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        _, version = _HEADER.unpack(self._bytes[: _HEADER.size].tobytes())
        if version != 2:
            raise self._damaged("blob storage version 2", f"version {version}")

    def read(self, offset: int) -> npt.NDArray[np.generic]:
        """The flat array whose metadata record stands at ``offset`` (bytes from the start of the file).

        Sub-byte integers are unpacked to one int8 or uint8 an element.
        """
        dtype, data, padding_bits = self.blob(offset)
        size, start = data.size, offset + _RECORD_BYTES
        if dtype in _WHOLE:
            itemsize = _WHOLE[dtype].itemsize
            if size % itemsize:
                raise self._damaged(f"whole {_WHOLE[dtype]} elements at byte {start}", f"{size} bytes")
            return data.view(_WHOLE[dtype])
        if dtype in _SUB_BYTE:
            bits, signed = _SUB_BYTE[dtype]
            # by its meaning less than a byte; anything else is taken for none
            padding = padding_bits if padding_bits < 8 else 0
            return unpack_bits(data, bits, (size * 8 - padding) // bits, signed=signed)
        raise self._damaged("a known blob dtype", f"dtype {dtype} at byte {offset}")

    def copy_blobs(self, target: Path, offsets: Iterable[int]) -> dict[int, int]:
        """Writes a weight file that holds the blobs at ``offsets`` only; returns where each stands there."""
        # two operations may share a blob: it is stored once
        wanted = list(dict.fromkeys(offsets))
        return dict(zip(wanted, write_blobs(target, [(self, offset) for offset in wanted]), strict=True))

    def check(self, offset: int, dtype: str | None = None, count: int | None = None) -> None:
        """Raises UnreadableModelError when the blob at ``offset`` is not there, or not the ``count`` elements of ``dtype``.

        ``dtype`` is MIL's name of it ("float16", "uint4"); what is None is not held against what is stored.
        """
        number, data, padding = self.blob(offset)
        bits = _WHOLE[number].itemsize * 8 if number in _WHOLE else _SUB_BYTE.get(number, (0, False))[0]
        if not bits:
            raise self._damaged("a known blob dtype", f"dtype {number} at byte {offset}")
        stored = (data.size * 8 - (padding if number in _SUB_BYTE and padding < 8 else 0)) // bits
        known = _NAMES.get(number)
        if (dtype is not None and known != dtype) or (count is not None and stored != count):
            raise self._damaged(
                f"{'?' if count is None else count} elements of {dtype} in the blob at byte {offset}",
                f"{stored} of {known}",
            )
        start = self.begins(offset) if data.size else offset + _RECORD_BYTES
        self._spans[offset] = (start, start + data.size)

    def require_separate_blobs(self) -> None:
        """Raises UnreadableModelError when two of the blobs that were checked overlap: no writer makes such a file."""
        ends = sorted([*((o, o + _RECORD_BYTES) for o in self._spans), *self._spans.values()])
        for (start, end), (following, _) in pairwise(ends):
            # an empty blob may stand where another begins
            if following < end and start != end:
                raise self._damaged(
                    "blobs beside each other", f"one at byte {following} inside the one at byte {start}"
                )

    def blob(self, offset: int) -> tuple[int, npt.NDArray[np.uint8], int]:
        """dtype, bytes and padding bits of the blob whose record stands at ``offset``."""
        dtype, size, start, padding_bits = self._record(offset)
        return dtype, self._slice(start, size), padding_bits

    def begins(self, offset: int) -> int:
        """Where in the file the bytes of the blob begin whose record stands at ``offset``."""
        return self._record(offset)[2]

    def _record(self, offset: int) -> tuple[int, int, int, int]:
        """dtype, number of bytes, where they begin, and padding bits."""
        record = self._slice(offset, _RECORD_BYTES)
        sentinel, dtype, size, start, padding_bits = _METADATA.unpack(record[: _METADATA.size].tobytes())
        if sentinel != _SENTINEL:
            raise self._damaged(f"a blob record at byte {offset}", f"{sentinel:#x}")
        return dtype, size, start, padding_bits

    def _slice(self, start: int, size: int) -> npt.NDArray[np.uint8]:
        if start + size > self._bytes.size:
            raise self._damaged(f"{size} bytes from byte {start}", f"the file ends at byte {self._bytes.size}")
        return self._bytes[start : start + size]

    def _damaged(self, expected: str, found: str) -> UnreadableModelError:
        return UnreadableModelError(
            "the model's weight file is damaged",
            where=str(self.path),
            expected=expected,
            found=found,
            fix="the file was probably cut short while it was copied or downloaded; copy it again",
        )


class BlobWriter:
    """A weight file that is being written: blob behind blob, each at once; the header, which counts them, at the end.

    Where a finished file stands at ``path``, its blobs stay, and others go behind them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # unbuffered: what was written can be mapped at once, and a large blob is not copied on its way
        self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        header = self._file.read(_HEADER.size)
        self._count = _HEADER.unpack(header)[0] if header else 0
        if not header:
            self._file.write(bytes(_RECORD_BYTES))
        self.end = self._file.seek(0, 2)
        """Where the last blob ends."""
        self._window: mmap.mmap | None = None
        self._mapped_from = 0

    def write(self, dtype: int, data: npt.NDArray[np.uint8], padding_bits: int = 0) -> int:
        """Appends a blob of flat bytes; returns where its metadata record stands."""
        offset = self._begin(dtype, data.size, padding_bits)
        self._put(data.data)
        return offset

    def copy(self, other: BlobWriter, offset: int) -> int:
        """Appends the blob that stands at ``offset`` of another file, piece by piece; returns where its record stands here."""
        _, dtype, size, start, padding_bits = _METADATA.unpack(other.read(offset, _METADATA.size))
        placed = self._begin(dtype, size, padding_bits)
        for at in range(start, start + size, _PIECE):
            self._put(other.read(at, min(_PIECE, start + size - at)))
        return placed

    def _begin(self, dtype: int, size: int, padding_bits: int) -> int:
        offset = self.end + -self.end % _RECORD_BYTES
        record = _METADATA.pack(_SENTINEL, dtype, size, offset + _RECORD_BYTES, padding_bits)
        self._put(bytes(offset - self.end) + record.ljust(_RECORD_BYTES, b"\0"))
        self._count += 1
        return offset

    def _put(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:  # a system writes 2 GB at most in one go
            count = self._file.write(rest)
            rest, self.end = rest[count:], self.end + count

    def read(self, start: int, size: int) -> bytes:
        """Bytes of the file as it is so far."""
        self._file.seek(start)
        data = self._file.read(size)
        self._file.seek(self.end)
        return data

    def cut(self, end: int, count: int) -> None:
        """Drops all blobs but the first ``count``, which end at byte ``end``."""
        self.end, self._count = self._file.seek(end), count

    def mapped(self, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
        """The numbers of the blob at ``offset``, the last one, mapped: they take memory only where they are looked at."""
        start, count = offset + _RECORD_BYTES, math.prod(shape)
        stop = start + count * dtype.itemsize
        if self._window is None or stop > self._mapped_from + len(self._window):
            # many blobs a map, as each map holds a descriptor; the file is longer for a while than what stands in it
            self._mapped_from = start - start % mmap.ALLOCATIONGRANULARITY
            length = max(_WINDOW, stop - self._mapped_from)
            self._file.truncate(self._mapped_from + length)
            self._window = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ, offset=self._mapped_from)
        return np.frombuffer(self._window, dtype, count, start - self._mapped_from).reshape(shape)

    def close(self) -> None:
        """Writes the header."""
        if not self._file.closed:
            self._file.truncate(self.end)
            self._file.seek(0)
            self._file.write(_HEADER.pack(self._count, 2))
            self._file.close()


def blob_of(array: np.ndarray, name: str | None = None) -> tuple[int, npt.NDArray[np.uint8], int]:
    """How an array lies in a weight file: the number of its dtype, its bytes, and padding bits.

    ``name``: MIL's name of a dtype whose integers share bytes ("int4"), which NumPy holds a byte each.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if name in SUB_BYTE:
        bits, _ = SUB_BYTE[name]
        packed = pack_bits(flat.view(np.uint8), bits)
        return next(n for n, known in _NAMES.items() if known == name), packed, packed.size * 8 - flat.size * bits
    return next(n for n, dtype in _WHOLE.items() if dtype == array.dtype), flat.view(np.uint8), 0


def pack_bits(values: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """The lowest ``bits`` bits of each number, least significant first, running over byte borders: see ``unpack_bits``."""
    stream = np.unpackbits(values.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(stream.reshape(-1), bitorder="little")


def unpack_bits(data: npt.NDArray[np.uint8], bits: int, count: int, *, signed: bool) -> npt.NDArray[np.generic]:
    """``count`` integers of ``bits`` bits each, least significant bit first, running over byte borders.

    Source: MILBlob SubByteTypes.cpp; signed values are two's complement.
    """
    stream = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
    # bit k of an element counts 2**k; at most eight bits, so the sum fits a byte
    values: npt.NDArray[np.uint8] = (stream << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if not signed:
        return values
    sign = 1 << (bits - 1)
    # flipping the sign bit and taking its weight away extends it: 0b1111 of four bits becomes -1
    return ((values ^ sign).astype(np.int16) - sign).astype(np.int8)


def write_blobs(target: Path, wanted: Iterable[tuple[WeightFile, int]]) -> list[int]:
    """Writes a weight file of blobs of others, given by file and offset; returns where each stands there.

    Blobs of the same bytes and dtype are stored once, whatever files they come from.
    """
    moved: list[int] = []
    known: dict[tuple[int, int, int, bytes], int] = {}
    target.unlink(missing_ok=True)
    out = BlobWriter(target)
    for file, offset in wanted:
        dtype, data, padding = file.blob(offset)
        key = (dtype, data.size, padding, hashlib.sha256(data.data).digest())
        if key not in known:
            known[key] = out.write(dtype, data, padding)
        moved.append(known[key])
    out.close()
    return moved


def append_blob(path: Path, array: npt.NDArray[np.generic]) -> int:
    """Puts ``array`` behind the last blob of the weight file at ``path`` (made anew when absent); the others stay as they are.

    Returns where its metadata record stands. Sub-byte integers are not written.
    """
    out = BlobWriter(path)
    try:
        return out.write(*blob_of(array))
    finally:
        out.close()
