"""Arrays of a .npz that others made: no pickle, no header believed before its bytes are there, no expansion without bound."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from coreproof.errors import CoreproofError
from coreproof.model.budget import afford
from coreproof.model.files.entries import LARGEST, Fail
from coreproof.model.files.paths import regular_file

Array = np.ndarray

DAMAGE = (OSError, ValueError, EOFError, RuntimeError, OverflowError, struct.error, zlib.error, zipfile.BadZipFile)
"""What reading a damaged archive may raise; RuntimeError where it seems encrypted or compressed in another way."""

_EXPANDS = 16
"""Times its stored bytes up to which an array is believed without asking the memory budget."""

_KINDS = "biufcSU"
_WIDEST = {"f": 8, "c": 16}
"""Bytes of the widest floats that every machine has, and every engine is told of."""
_LONGEST_HEADER = 1 << 16
"""Bytes in which an array's header has to end: a header may claim to be of any length, too."""


class Archive:
    """An open .npz (or .zip) of arrays. Every reader raises what ``fail`` makes, or TooLargeError for what expands too far."""

    def __init__(self, file: zipfile.ZipFile, path: Path, fail: Fail) -> None:
        self._file, self._path, self._fail = file, path, fail
        self._expanded = 0

    @property
    def members(self) -> tuple[str, ...]:
        """The names of what is held."""
        return tuple(self._file.namelist())

    def text(self, member: str) -> bytes:
        """A member that is a text, as bytes."""
        with self._opened(member) as (info, stream):
            if info.file_size > LARGEST:
                raise ValueError(f"{member!r} has {info.file_size:,} bytes, more than any such text")
            return stream.read()

    def array(self, member: str) -> Array:
        """A member as the array that it is; its header is held against the bytes that follow it before memory is taken."""
        with self._opened(member) as (info, stream):
            begin = stream.read(_LONGEST_HEADER)
            shape, fortran, dtype, start = _header(begin)
            size = math.prod(shape) * dtype.itemsize
            if size != info.file_size - start:
                held = info.file_size - start
                raise ValueError(
                    f"array {member!r} is {dtype}{list(shape)}, {size} bytes, and {held} are stored for it"
                )
            self._afford(member, info, size)
            # empty: every byte is written below, or an error raised
            array = np.empty(shape, dtype, order="F" if fortran else "C")
            if size:
                # in the order of its memory, so that bytes of Fortran's order land where they belong
                _fill(array.reshape(-1, order="A").view(np.uint8), begin[start:], stream)
            stream.read(1)  # reading to the end checks the sum
            # engines take the machine's own order of bytes only
            return array if dtype.isnative else array.astype(dtype.newbyteorder("="))

    @contextmanager
    def _opened(self, member: str) -> Iterator[tuple[zipfile.ZipInfo, IO[bytes]]]:
        with _failing(self._fail):
            info = self._file.NameToInfo.get(member)
            if info is None:
                raise self._fail(f"it holds no {member!r}")
            with self._file.open(info) as stream:
                yield info, stream

    def _afford(self, member: str, info: zipfile.ZipInfo, size: int) -> None:
        # what is stored byte for byte is no larger than the file, and needs no leave
        if info.file_size > _EXPANDS * max(info.compress_size, 1):
            self._expanded += size
            afford(f"{member!r}, of {info.compress_size:,} bytes,", size=self._expanded, where=self._path)


@contextmanager
def open_archive(path: Path, fail: Fail) -> Iterator[Archive]:
    """The archive at ``path``; whatever zipfile raises over a damaged one becomes what ``fail`` makes."""
    with _failing(fail):
        regular_file(path, error=_Irregular)
        file = zipfile.ZipFile(path)
    with file:
        yield Archive(file, path, fail)


def read_npz(path: Path, fail: Fail) -> Mapping[str, Array]:
    """All arrays of a file that numpy.savez wrote, by name."""
    with open_archive(path, fail) as archive:
        return {name.removesuffix(".npy"): archive.array(name) for name in archive.members}


def read_npy(path: Path, fail: Fail) -> Array:
    """The array of a file that numpy.save wrote; its header is held against the bytes that follow it."""
    with _failing(fail):
        regular_file(path, error=_Irregular)
        with path.open("rb") as stream:
            shape, _, dtype, start = _header(stream.read(_LONGEST_HEADER))
        size, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
        if size != held:
            raise ValueError(f"it is {dtype}{list(shape)}, {size} bytes, and {held} are stored for it")
        array: Array = np.load(path, allow_pickle=False)
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


class _Irregular(CoreproofError):
    """Not an ordinary file; the caller says what it should have been."""


@contextmanager
def _failing(fail: Fail) -> Iterator[None]:
    try:
        yield
    except _Irregular as error:
        raise fail(f"{error.found}") from None
    except CoreproofError:
        raise
    except (*DAMAGE, SyntaxError, tokenize.TokenError, TypeError, LookupError) as error:
        raise fail(str(error) or type(error).__name__) from None


def _header(begin: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, dtype, and where the numbers begin."""
    stream = io.BytesIO(begin)
    npy: Any = np.lib.format
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"version {version} of an array's header is not read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        shape, fortran, dtype = readers[version](stream)
    # a longdouble has another width on each kind of machine
    known = dtype.kind in _KINDS and dtype.itemsize <= _WIDEST.get(dtype.kind, dtype.itemsize)
    if dtype.hasobject or dtype.fields is not None or not known or any(n < 0 for n in shape):
        raise ValueError(f"an array of {dtype}{list(shape)} is not read")
    return tuple(int(n) for n in shape), bool(fortran), dtype, stream.tell()


def _fill(target: npt.NDArray[np.uint8], begin: bytes, stream: IO[bytes]) -> None:
    target[: len(begin)] = np.frombuffer(begin, np.uint8)
    done = len(begin)
    while done < target.size:
        piece = stream.read(min(1 << 20, target.size - done))
        if not piece:
            raise EOFError(f"{target.size - done} bytes are missing")
        target[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
        done += len(piece)


def names_of(path: Path) -> Iterable[str]:
    """What a zip archive holds; nothing where the file is none."""
    try:
        regular_file(path)
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (*DAMAGE, CoreproofError):
        return ()
