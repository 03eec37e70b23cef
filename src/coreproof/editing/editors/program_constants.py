"""The settings and weights of an ML Program's operations: given other values, added, taken away."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from coreproof.conversion.operators import MIL
from coreproof.editing.editors.program_document import ProgramDocument, constant_operation
from coreproof.editing.editors.program_types import EditedTypes
from coreproof.editing.editors.program_weights import as_dtype, set_tensor_type
from coreproof.errors import EditError
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import program as mil
from coreproof.model.formats.program import MIL_DTYPES


class ProgramConstants:
    """Constants that operations read: written in place where one operation alone reads them, else made anew for it."""

    def __init__(self, document: ProgramDocument, types: EditedTypes) -> None:
        self._document, self._types = document, types

    def assign(self, operation: MIL_pb2.Operation, attribute: str, value: object, known: Mapping[str, bool]) -> None:
        """Gives an argument of an operation (``known``: its formal ones) another value; None takes it away."""
        key, index = _indexed(attribute)
        where = f"layer {mil.name(operation)!r}"
        if key not in known and key not in operation.inputs:
            raise EditError(
                f"{operation.type} has no attribute and no weight {attribute!r}",
                where=where,
                expected=", ".join(known),
                found=attribute,
            )
        if value is None:
            self._take_away(operation, key, known)
            return
        if key in operation.attributes and key != "name":
            # before iOS 18 the data of a compressed constant are its attributes
            stored = operation.attributes[key]
            dtype = MIL_DTYPES[stored.type.tensorType.dataType]
            stored.CopyFrom(self._document.literal(as_dtype(value, dtype, f"{where}, {key!r}"), dtype))
            return
        bound = list(operation.inputs[key].arguments) if key in operation.inputs else []
        if (len(bound) > 1 and index is None) or (index is not None and index >= len(bound)):
            raise EditError(
                f"{operation.type} has {len(bound)} of {key!r}",
                where=where,
                expected=f"{key}[0] to {key}[{len(bound) - 1}]",
                found=attribute,
            )
        binding = bound[index or 0] if bound else None
        dtype, shape = self._setting_type(operation, key, value, binding)
        array = as_dtype(value, dtype, f"{where}, {attribute!r}")
        if shape is not None and not isinstance(value, np.ndarray) and len(shape) != array.ndim:
            raise EditError(
                f"{key!r} has another rank", where=where, expected=f"{dtype}{list(shape)}", found=f"{value!r}"
            )
        if binding is not None and binding.WhichOneof("binding") == "value":
            binding.value.CopyFrom(self._document.literal(array, dtype))
            return
        self._store_constant(operation, key, binding, array, dtype)

    def _setting_type(
        self, operation: MIL_pb2.Operation, key: str, value: object, binding: MIL_pb2.Argument.Binding | None
    ) -> tuple[str, tuple[int | None, ...] | None]:
        """The dtype of an argument and, where it is a constant now, its shape."""
        if binding is not None and binding.WhichOneof("binding") == "value":
            if binding.value.type.WhichOneof("type") != "tensorType":
                raise EditError(
                    f"{key!r} is a list", where=f"layer {mil.name(operation)!r}", fix="use the verb relabel"
                )
            tensor = binding.value.type.tensorType
            return MIL_DTYPES[tensor.dataType], tuple(int(d.constant.size) for d in tensor.dimensions)
        if binding is not None:
            dtype, shape = self._document.type_of(binding.name)
            return dtype, shape if binding.name in self._document.constants() else None
        given = np.asarray(value)
        if given.dtype.kind in "USO":
            return "str", None
        if given.dtype.kind == "b":
            return "bool", None
        # ``y = 2`` of an addition is a float, ``axis = 2`` is none
        if given.dtype.kind in "iu" and key not in _FLOATS:
            return "int32", None
        return "float32" if key in MIL.traits(operation.type).get("wide", ()) else self._float_of(operation), None

    def _float_of(self, operation: MIL_pb2.Operation) -> str:
        """The float dtype that an operation computes in: that of the data that it reads, else of what it makes."""
        constants = self._document.constants()
        # data first: a constant may be of another width than what is computed with it
        names = [name for name in mil.reads(operation) if name not in constants] + list(mil.reads(operation))
        for name in (*names, *(o.name for o in operation.outputs)):
            value = self._document.graph.values.get(name)
            if value is not None and value.dtype in ("float16", "float32"):
                return value.dtype
        return "float32"

    def _store_constant(
        self,
        operation: MIL_pb2.Operation,
        key: str,
        binding: MIL_pb2.Argument.Binding | None,
        array: np.ndarray,
        dtype: str,
    ) -> None:
        """Puts the array into the constant that the argument reads, if nothing else reads it; else into a new one."""
        before = "" if binding is None else binding.name
        old = self._document.constants().get(before)
        if old is not None and old.type == "const" and self._document.readers(before) == 1:
            # in place: the name is kept, which scripts of edits may use
            old.attributes["val"].CopyFrom(self._document.literal(array, dtype))
            set_tensor_type(old.outputs[0].type, dtype, array.shape)
            self._types.changed(before)
            return
        # another operation reads the old one, and keeps it
        name = self._document.free(before if old is not None else f"{mil.name(operation)}_{key}_0")
        if binding is None:
            binding = operation.inputs[key].arguments.add()
        binding.name = name
        constant = constant_operation(name, self._document.literal(array, dtype))
        self._document.block.operations.insert(self._document.place_of(operation.outputs[0].name), constant)
        self._types.changed(name)
        self._document.drop_unread([before])

    def _take_away(self, operation: MIL_pb2.Operation, key: str, known: Mapping[str, bool]) -> None:
        if key not in operation.inputs:
            raise EditError(
                f"{operation.type} has no {key!r} here",
                where=f"layer {mil.name(operation)!r}",
                expected=", ".join(operation.inputs),
                found=key,
            )
        if not known.get(key, True):
            raise EditError(f"{operation.type} cannot be without {key!r}", where=f"layer {mil.name(operation)!r}")
        read = [b.name for b in operation.inputs[key].arguments if b.WhichOneof("binding") == "name"]
        del operation.inputs[key]
        self._document.drop_unread(read)


_FLOATS = {"y", "x", "alpha", "beta", "epsilon", "gamma", "bias", "constant_val", "weight", "mean", "variance"}
"""Arguments that are floats even where a whole number is given: operands of arithmetic operations, and weights."""


def _indexed(attribute: str) -> tuple[str, int | None]:
    """``values[1]`` as its argument and its place."""
    match = re.fullmatch(r"(\w+)\[(\d+)\]", attribute)
    return (match[1], int(match[2])) if match else (attribute, None)
