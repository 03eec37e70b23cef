"""Arrays in one file, from process to process: their bytes end to end, and for each a line that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np

from coreproof.model.coreai.element_types import dtype_named
from coreproof.model.files.entries import Entry

Place: TypeAlias = tuple[str, list[int], int]
"""dtype, shape and offset of an array."""


class ArrayFile:
    """A file that arrays are added to."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, array: np.ndarray) -> Place:
        """Writes an array; where it lies."""
        offset = self._file.tell()
        self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        self._file.write(bytes(-self._file.tell() % 8))
        return array.dtype.name, list(array.shape), offset


def written(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Place]:
    """Writes arrays by name into one file; where each lies."""
    with ArrayFile(path) as file:
        return {name: file.add(array) for name, array in arrays.items()}


def mapped(path: Path) -> np.ndarray:
    """The bytes of such a file, mapped."""
    # an empty file cannot be
    return np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)


def pairs(array: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs along a last axis: as they lie in memory, and as other models take and make them."""
    real = np.dtype(f"f{array.dtype.itemsize // 2}")
    return np.ascontiguousarray(array).reshape(*array.shape, 1).view(real)


def of_pairs(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Complex numbers of this dtype, of pairs along a last axis."""
    real = np.dtype(f"f{dtype.itemsize // 2}")
    numbers: np.ndarray = np.ascontiguousarray(array, real).view(dtype)
    return numbers.reshape(array.shape[:-1])


def at(held: np.ndarray, place: Entry) -> np.ndarray:
    """The array that lies at a place among the bytes. Raises what the entry's document raises for what cannot be one."""
    dtype, lengths, offset = place.each(3)
    shape = [length.whole(0) for length in lengths.each()]
    try:
        kind = dtype_named(dtype.text())
    except ValueError:
        raise dtype.refuse("a dtype") from None
    count = int(np.prod(shape, dtype=object)) if shape else 1
    start = offset.whole(0)
    if start + count * kind.itemsize > held.size:
        raise place.refuse(f"{count * kind.itemsize} bytes at {start}", f"{held.size} in all")
    return held[start : start + count * kind.itemsize].view(kind).reshape(shape)
