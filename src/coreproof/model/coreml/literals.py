"""Reads the constants of an ML Program: immediate values and blobs of the weight file, as numpy arrays."""

from __future__ import annotations

import math
from typing import Protocol, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from coreproof.errors import UnreadableModelError
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.coreml.weight_file import SUB_BYTE, WeightFile, unpack_bits
from coreproof.model.formats.program import MIL_DTYPES


class WithWeights(Protocol):
    """A model whose constants may lie in weight files: as much of ``CoreMLModel`` as reading them takes."""

    @property
    def where(self) -> str:
        """How messages name the model."""

    def weight_file(self, file_name: str) -> WeightFile:
        """The reader for a BlobFileValue's ``fileName``."""


_NUMPY: dict[str, npt.DTypeLike] = {
    "bfloat16": ml_dtypes.bfloat16,
    **{name: np.int8 if signed else np.uint8 for name, (_, signed) in SUB_BYTE.items()},
}

BITS: dict[str, int] = {
    name: SUB_BYTE[name][0] if name in SUB_BYTE else 8 * np.dtype(_NUMPY.get(name, name)).itemsize
    for name in MIL_DTYPES.values()
    if name != "str"
}
"""MIL dtype -> bits an element takes where it is stored as bytes. Texts are not."""


Constant: TypeAlias = np.ndarray | np.generic | bool | int | str | list["Constant"]


def tensor_type(value_type: MIL_pb2.ValueType) -> MIL_pb2.TensorType | None:
    """The tensor type of a value; what a state wraps counts as its type. None for lists and dictionaries."""
    which = value_type.WhichOneof("type")
    if which == "stateType":
        return tensor_type(value_type.stateType.wrappedType)
    return value_type.tensorType if which == "tensorType" else None


def read_literal(model: WithWeights, value: MIL_pb2.Value) -> Constant:
    """A Value message: a Python number or text for scalars, an array for tensors, a list for lists; of dictionaries the pairs."""
    if value.WhichOneof("value") == "immediateValue":
        immediate = value.immediateValue
        kind = immediate.WhichOneof("value")
        if kind in ("list", "tuple"):
            return [read_literal(model, item) for item in getattr(immediate, kind).values]
        if kind == "dictionary":
            return [[read_literal(model, i.key), read_literal(model, i.value)] for i in immediate.dictionary.values]
    tensor = tensor_type(value.type)
    if tensor is None:
        raise UnreadableModelError(
            "a constant of an unknown kind", where=model.where, found=value.type.WhichOneof("type")
        )
    dtype = MIL_DTYPES.get(tensor.dataType, "?")
    shape = tuple(int(d.constant.size) for d in tensor.dimensions)
    count = math.prod(shape)
    if value.WhichOneof("value") == "blobFileValue":
        blob = value.blobFileValue
        flat: np.ndarray = model.weight_file(blob.fileName).read(int(blob.offset))
    else:
        try:
            flat = _immediate(value.immediateValue.tensor, dtype, count)
        except (OverflowError, TypeError, ValueError) as error:
            raise UnreadableModelError(
                "a constant does not hold what its type says",
                where=model.where,
                expected=f"{dtype}{list(shape)}",
                found=str(error),
                fix="the model is damaged; copy it again",
            ) from error
    if flat.size != count:
        raise UnreadableModelError(
            "a constant has another number of elements than its type says",
            where=model.where,
            expected=f"{dtype}{list(shape)}",
            found=f"{flat.size} elements",
            fix="the model or its weight file is damaged; copy it again",
        )
    return flat.reshape(shape) if shape else _scalar(flat[0])


def _immediate(tensor: MIL_pb2.TensorValue, dtype: str, count: int) -> np.ndarray:
    which = tensor.WhichOneof("value")
    if which is None:
        return np.empty(0, object if dtype == "str" else _NUMPY.get(dtype, dtype))
    values = getattr(tensor, which).values
    if (which == "strings") != (dtype == "str") or dtype == "?":
        raise ValueError(f"{which} for elements of type {dtype}")
    if which == "strings":
        # of Python's own texts: NumPy's fixed width would cut off NULs at their ends
        return np.array(list(values), object)
    # fields of floats, ints, bools and longs hold plain numbers; all other widths travel as bytes
    if which != "bytes":
        return np.array(values, _NUMPY.get(dtype, dtype))
    if dtype in SUB_BYTE:
        bits, signed = SUB_BYTE[dtype]
        if len(values) != -(-count * bits // 8):
            raise ValueError(f"{len(values)} bytes for {count} elements of {bits} bits")
        return unpack_bits(np.frombuffer(values, np.uint8), bits, count, signed=signed)
    if dtype not in BITS:
        raise ValueError(f"bytes for elements of type {dtype}")
    return np.frombuffer(values, np.dtype(_NUMPY.get(dtype, dtype)))


def _scalar(value: np.generic | str) -> Constant:
    """Booleans and int32 as Python's own; other numbers keep their dtype."""
    return value.item() if isinstance(value, np.bool_ | np.int32) else value
