"""Weights that are written while a program is built: each goes to its file at once, and only its place stays in memory.

coremltools holds all constants of a program until it writes them at the end. Here its builder is given arrays that are mapped
from the file that they have just been written to, and its exporter asks where they stand. The file is what coremltools would
have written, byte for byte: where the program's order is not the one in which it was built, it is put in order once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coreproof.conversion.onnx_to_coreml.mil import Program, Var
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.coreml.weight_file import BlobWriter, blob_of

_MAPPED = 1 << 16
"""Bytes from which on an array is mapped; smaller ones stay in memory as they are."""
_CAN_MAP = os.name != "nt"
"""A file that is mapped cannot be removed on Windows."""
_CONST = "const"
_FILE = "@model_path/weights/weight.bin"


@dataclass(frozen=True, eq=False)
class _Blob:
    """An array as the builder has it, and where in the file it stands and ends."""

    array: np.ndarray
    offset: int
    end: int


class WeightStream:
    """The weights' file of one program for a Core ML ``specification`` version, below ``folder``."""

    def __init__(self, folder: Path, specification: int) -> None:
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        self._path = folder / "weights" / "weight.bin"
        self._specification = specification
        self._built = BlobWriter(self._path.with_name("built.bin"))
        self._blobs: list[_Blob] = []
        self._written: dict[int, _Blob] = {}  # the same by id() of their arrays, which they hold
        self._ordered: BlobWriter | None = None  # where the program's order is another one
        self._next = 0  # of the blobs, while the program is written
        self._known: dict[int, MIL_pb2.Value] = {}  # by id(): the program, which is written meanwhile, holds its values

    def builder(self, builder: type) -> type:
        """coremltools' builder, whose constants are written when they are made, those too that it makes by itself."""
        make: Callable[..., Var] = getattr(builder, _CONST)

        def const(**operands: object) -> Var:
            return make(**{**operands, "val": self._kept(operands["val"])})

        # a subclass, not a wrapper: operations make their constants through the class that they are called on
        return type("StreamingBuilder", (builder,), {_CONST: staticmethod(const)})

    def _kept(self, value: object) -> object:
        if type(value) is not np.ndarray or not self._belongs(value):
            return value
        offset = self._built.write(*blob_of(value, _mil_name(value)))
        if value.nbytes >= _MAPPED and _CAN_MAP and not value.dtype.metadata:
            value = self._built.mapped(offset, value.dtype, value.shape)
        self._blobs.append(_Blob(value, offset, self._built.end))
        self._written[id(value)] = self._blobs[-1]
        return value

    def _belongs(self, value: np.ndarray) -> bool:
        from coremltools.converters.mil.backend.mil.load import should_use_weight_file

        return bool(should_use_weight_file(value, self._specification))

    def export(self, program: Program) -> MIL_pb2.Program:
        """The program as a message, whose weights stand in the file, which is finished by it."""
        from coremltools.converters.mil.backend.mil.load import MILProtoExporter

        exporter = MILProtoExporter(program, str(self._path.parent), self._specification)
        exporter.create_file_value = self._file_value
        made: MIL_pb2.Program = exporter.export()
        self._finish()
        return made

    def _file_value(self, var: Var) -> MIL_pb2.Value:
        from coremltools.converters.mil.backend.mil.helper import create_file_value_tensor, types_to_proto_primitive

        if id(var) not in self._known:
            offset = self._place(var)
            assert var.val is not None
            dtype = types_to_proto_primitive(var.dtype)
            self._known[id(var)] = create_file_value_tensor(_FILE, offset, var.val.shape, dtype)
        return self._known[id(var)]

    def _place(self, var: Var) -> int:
        """Where the constant stands in the finished file, which is asked for in the program's order."""
        blob = self._written.get(id(var.val))
        if self._ordered is None:
            if blob is not None and self._next < len(self._blobs) and self._blobs[self._next].array is var.val:
                self._next += 1
                return self._blobs[self._next - 1].offset
            self._ordered = BlobWriter(self._path.with_name("ordered.bin"))
            for before in self._blobs[: self._next]:
                self._ordered.copy(self._built, before.offset)
        if blob is not None:
            return self._ordered.copy(self._built, blob.offset)
        value = np.asarray(var.val)
        return self._ordered.write(*blob_of(value, _mil_name(value)))

    @property
    def _end(self) -> int:
        """Where the last blob ends that was asked for."""
        return self._blobs[self._next - 1].end if self._next else 0

    def _finish(self) -> None:
        if self._ordered is None and self._next < len(self._blobs):
            self._built.cut(self._end, self._next)
        kept = self._ordered or self._built
        kept.close()
        self.discard()
        if self._known:  # a program without weights has no file
            kept.path.replace(self._path)
        kept.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Closes what is open, where nothing comes of the program."""
        for writer in (self._built, self._ordered):
            if writer is not None:
                writer.close()
        if self._ordered is not None:
            self._built.path.unlink(missing_ok=True)


def _mil_name(array: np.ndarray) -> str | None:
    """MIL's name of a dtype of fewer than eight bits; None for NumPy's own."""
    if not array.dtype.metadata:
        return None
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(types.numpy_type_to_builtin_type(array.dtype)))
