"""Weights that stay in the ONNX file until they are asked for: a model of gigabytes is read without them.

An ONNX file is one message. Of a large one the bytes of its large tensors are stepped over, and the rest is parsed; what was
left out is read from the open file each time that it is asked for, and nothing keeps it.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from coreproof.errors import UnreadableModelError
from coreproof.model.files.wire import Extent, extents, field_bytes, varint_bytes

_LARGE_FILE = 1 << 24
"""Below that many bytes a file is read as a whole."""
_LARGE_TENSOR = 1 << 14
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DOC_STRING, _METADATA = 1, 2, 8, 9, 12, 16
_PLAIN_FIELDS = frozenset([_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _DOC_STRING, _METADATA])
"""Numbers of fields (onnx.proto: ModelProto, GraphProto, TensorProto); a tensor that says more is parsed as it is."""
_BYTES = 2


@dataclass(frozen=True)
class Message:
    """A parsed model, and of each of its initializers that was left in the file, by its place, what lies there."""

    proto: onnx.ModelProto
    left: Mapping[int, LeftInFile]


class OpenFile:
    """A file that is read here and there, as it was when it was opened, also where another takes its name meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        # a descriptor, not a file: it closes without a word when the last tensor goes
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._state = self._now()

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self._descriptor)
        return state.st_size, state.st_mtime_ns

    def __getstate__(self) -> tuple[Path, tuple[int, int]]:
        return self.path, self._state

    def __setstate__(self, state: tuple[Path, tuple[int, int]]) -> None:
        OpenFile.__init__(self, state[0])
        self._state = state[1]

    def read(self, into: np.ndarray, offset: int) -> None:
        """Fills a flat array of bytes. Raises UnreadableModelError where the file is no longer what it was."""
        with self._lock:
            if self._now() != self._state:
                raise UnreadableModelError(
                    "the file was written to after the model was read from it",
                    where=str(self.path),
                    fix="load the model again; a file that takes its place as a whole does no harm",
                )
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            with open(self._descriptor, "rb", buffering=0, closefd=False) as file:
                read = 0
                while read < into.size:
                    # a system reads 2 GB at most in one go
                    count = file.readinto(into[read:].data)
                    if not count:
                        raise UnreadableModelError("the file is cut short", where=str(self.path))
                    read += count


@dataclass(frozen=True)
class LeftInFile:
    """The bytes of a tensor in a file."""

    file: OpenFile
    offset: int
    size: int

    def tensor(self, held: ir.TensorProtocol) -> ir.LazyTensor:
        """``held``, whose bytes are missing, with those of the file."""
        dtype, shape = held.dtype, ir.Shape(held.shape.numpy())
        return ir.LazyTensor(_Read(self, dtype, tuple(shape.numpy()), held.name), dtype, shape, name=held.name)


@dataclass(frozen=True)
class _Read:
    """Reads a tensor; a class and no closure, so that a model can be pickled."""

    left: LeftInFile
    dtype: ir.DataType
    shape: tuple[int, ...]
    name: str | None

    def __call__(self) -> ir.TensorProtocol:
        array = np.empty(self.shape, self.dtype.numpy())
        self.left.file.read(array.reshape(-1).view(np.uint8), self.left.offset)
        return ir.Tensor(array, dtype=self.dtype, name=self.name)


def read_message(path: Path) -> Message:
    """The model in a file. Raises DecodeError where its bytes do not parse."""
    proto = onnx.ModelProto()
    # on Windows an open file can be neither replaced nor removed
    if path.stat().st_size >= _LARGE_FILE and os.name != "nt":
        file = OpenFile(path)
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            light, left = _without_weights(mapped, file)
        if left:
            proto.ParseFromString(light)
            return Message(proto, left)
    proto.ParseFromString(path.read_bytes())
    return Message(proto, {})


def _without_weights(mapped: mmap.mmap, file: OpenFile) -> tuple[bytes, dict[int, LeftInFile]]:
    """The message without the bytes of its large tensors, and where those stand; empty where nothing is to be left out."""
    left: dict[int, LeftInFile] = {}
    inner: list[bytes] = []
    try:
        fields = list(extents(mapped, 0, len(mapped)))
        graphs = [f for f in fields if f.number == _GRAPH]
        # several would be merged by a parser
        if len(graphs) != 1 or graphs[0].wire != _BYTES:
            return b"", {}
        at = 0
        for part in extents(mapped, graphs[0].content, graphs[0].end):
            is_initializer = part.number == _INITIALIZER and part.wire == _BYTES
            raw = _raw_data(mapped, part) if is_initializer else None
            if raw is None:
                inner.append(mapped[part.start : part.end])
            else:
                inner.append(field_bytes(_INITIALIZER, mapped[part.content : raw.start] + mapped[raw.end : part.end]))
                left[at] = LeftInFile(file, raw.content, raw.end - raw.content)
            at += is_initializer
    except DecodeError:
        return b"", {}  # the parser says what is wrong with the whole
    light = field_bytes(_GRAPH, b"".join(inner))
    return b"".join(light if f is graphs[0] else mapped[f.start : f.end] for f in fields), left


def _raw_data(mapped: mmap.mmap, tensor: Extent) -> Extent | None:
    """The bytes of a large tensor that says nothing unusual; None for any other."""
    if tensor.end - tensor.content < _LARGE_TENSOR:
        return None
    fields = list(extents(mapped, tensor.content, tensor.end))
    raw = [f for f in fields if f.number == _RAW_DATA]
    if len(raw) != 1 or raw[0].wire != _BYTES or not {f.number for f in fields} <= _PLAIN_FIELDS:
        return None
    kinds = [mapped[f.content : f.end] for f in fields if f.number == _DATA_TYPE]
    return raw[0] if kinds and kinds[-1] in _WHOLE_BYTES else None


_WHOLE_BYTES = frozenset(
    varint_bytes(int(dtype))
    for dtype in ir.DataType
    if dtype not in (ir.DataType.UNDEFINED, ir.DataType.STRING) and dtype.bitwidth % 8 == 0
)
"""The data types, as they are written, whose elements are whole bytes."""


def array_of(tensor: ir.TensorProtocol) -> np.ndarray:
    """The numbers of a tensor; of a large one in a data file its own bytes are read, where onnx-ir maps the file and keeps it."""
    if isinstance(tensor, ir.ExternalTensor) and tensor.dtype.bitwidth % 8 == 0 and tensor.size:
        count = int(tensor.size)
        read = np.fromfile(tensor.path, tensor.dtype.numpy(), count, offset=int(tensor.offset or 0))
        if read.size == count:  # cut short: onnx-ir says so
            return read.reshape(tensor.shape.numpy())
    return tensor.numpy()
