"""What edits write into an ML Program: types, constants in the program itself, and blobs behind those of its weight file."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.coreml.weight_file import append_blob
from coreproof.model.files.paths import inside
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats.program import MIL_DTYPES

MIL_NUMBERS = {MIL_DTYPES[number]: number for number in MIL_pb2.DataType.values() if number in MIL_DTYPES}
"""dtype name -> MIL's number for it."""
DEFAULT_WEIGHT_FILE = "@model_path/weights/weight.bin"
_FEWEST_IN_FILE = 10
"""Elements from which on coremltools puts a constant into the weight file (backend/mil/load.py)."""
_IN_FILE = {"float16", "float32", "uint8", "int8"}
_IN_FILE_SINCE_9 = _IN_FILE | {"int16", "uint16", "int32", "uint32"}
"""What coremltools puts into the weight file (backend/mil/load.py), by the specification version of the model."""
_FIELDS = {
    "float32": "floats",
    "float64": "doubles",
    "int32": "ints",
    "int64": "longInts",
    "bool": "bools",
    "str": "strings",
}
_RAW = {"float16", "bfloat16", "int8", "uint8", "int16", "uint16", "uint32"}
"""Immediate values of these dtypes are the bytes of their elements."""
_NUMPY: dict[str, npt.DTypeLike] = {"bfloat16": ml_dtypes.bfloat16, "str": object}


class WeightStore:
    """The weight folder of a model being edited: the original's, until the first blob is added to a copy of it."""

    def __init__(self, origin: CoreMLModel) -> None:
        self.origin = origin
        self.folder: Path | None = origin.folder
        self._own = False

    def append(self, file_name: str, array: np.ndarray) -> int:
        """Puts the array behind the last blob of that weight file; returns the offset of its record."""
        if not self._own:
            # a copy of its own: others may read the original's files, or have them mapped into memory
            scratch = TemporaryFolder()
            weakref.finalize(self, scratch.cleanup)
            folder = Path(scratch.name)
            if self.folder is not None and (self.folder / "weights").is_dir():
                shutil.copytree(self.folder / "weights", folder / "weights", copy_function=shutil.copyfile)
                (folder / "weights").chmod(0o755)
            self.folder, self._own = folder, True
        assert self.folder is not None
        name = file_name.removeprefix("@model_path/")
        path = inside(self.folder, name, what="a weight file", where=self.origin.where)
        path.parent.mkdir(parents=True, exist_ok=True)
        return append_blob(path, array)

    def lend(self, model: CoreMLModel) -> None:
        """Keeps the folder as long as ``model`` lives."""
        weakref.finalize(model, _hold, self)


def _hold(store: WeightStore) -> None:
    """Called when the last model that reads ``store`` is gone; until then its reference keeps the folder."""


def tensor_type(dtype: str, shape: Sequence[int | None]) -> MIL_pb2.ValueType:
    """A ValueType message of a tensor; a length of None is one that is known when the program runs."""
    made = MIL_pb2.ValueType()
    set_tensor_type(made, dtype, shape)
    return made


def set_tensor_type(value_type: MIL_pb2.ValueType, dtype: str, shape: Sequence[int | None]) -> None:
    """Makes ``value_type`` this tensor's."""
    tensor = value_type.tensorType
    tensor.dataType = MIL_NUMBERS[dtype]
    tensor.rank = len(shape)  # beside the dimensions, which say it again: Core ML reads both
    del tensor.dimensions[:]
    for length in shape:
        dimension = tensor.dimensions.add()
        if length is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = length


def as_dtype(value: object, dtype: str, what: str) -> np.ndarray:
    """``value`` as an array of ``dtype``; EditError where it is of another kind, or beyond what the dtype holds."""
    given = np.asarray(value)
    kind = "text" if given.dtype.kind in "USO" else "bool" if given.dtype.kind == "b" else "number"
    wanted = "text" if dtype == "str" else "bool" if dtype == "bool" else "number"
    if kind != wanted:
        raise EditError(f"{what} takes another kind of value", expected=dtype, found=value)
    with np.errstate(over="ignore"):
        array = given.astype(_NUMPY.get(dtype, dtype))
    if kind == "number":
        real, stored = given.astype(np.float64), array.astype(np.float64)
        # a float may be rounded but not become infinite; a whole number has to stay what it is
        floats = np.isfinite(stored) | ~np.isfinite(real)
        if not (stored == real if np.issubdtype(array.dtype, np.integer) else floats).all():
            raise EditError(
                f"{what} holds numbers that {dtype} cannot hold",
                expected=dtype,
                found=f"{given.dtype}, from {real.min():g} to {real.max():g}",
            )
    return array


def write_value(value: MIL_pb2.Value, array: np.ndarray, dtype: str, store: WeightStore, file_name: str) -> None:
    """Makes the Value message ``value`` this array: in the weight file where coremltools would put it there, else at once."""
    value.Clear()
    set_tensor_type(value.type, dtype, array.shape)
    stored = _IN_FILE_SINCE_9 if store.origin.spec.specificationVersion >= 9 else _IN_FILE
    if dtype in stored and array.size >= _FEWEST_IN_FILE:
        value.blobFileValue.fileName = file_name
        value.blobFileValue.offset = store.append(file_name, np.ascontiguousarray(array))
        return
    tensor = value.immediateValue.tensor
    if dtype in _RAW:
        tensor.bytes.values = np.ascontiguousarray(array).tobytes()
        return
    if dtype not in _FIELDS:
        raise EditError(f"a constant of dtype {dtype} cannot be written", expected=", ".join([*_FIELDS, *sorted(_RAW)]))
    field = getattr(tensor, _FIELDS[dtype])
    field.SetInParent()  # an array without elements has its field too, which says what it holds
    field.values.extend(array.reshape(-1).tolist())
