"""EditedTypes: the types that an ML Program declares, made to follow from its inputs again after an edit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.lowering import OPSETS, Declared, handler_for
from coreproof.conversion.coreml_to_onnx.mlprogram.block import lower_operations
from coreproof.conversion.coreml_to_onnx.mlprogram.literals import declared
from coreproof.conversion.coreml_to_onnx.mlprogram.shapes import ProgramTypes
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import known
from coreproof.conversion.operators import MIL
from coreproof.editing.editors.coreml_interface import declare_array
from coreproof.editing.editors.program_document import ProgramDocument, copied
from coreproof.editing.editors.program_weights import MIL_NUMBERS, set_tensor_type
from coreproof.errors import ConversionError, EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import MIL_pb2, Model_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import program as mil
from coreproof.model.graph import Value

CAST_DTYPES = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}
"""What casts call the dtypes that they do not call by numpy's name."""

PROGRAM_ARRAY_DTYPES = {dtype: number for dtype, number in classic.ARRAY_DTYPES.items() if dtype != "float64"}
"""The dtypes that a multi-array of an ML Program can have."""


def carried_dtype(dtype: str, specification: int) -> str:
    """The dtype of the multi-array that carries a value of ``dtype`` in or out, where a feature cannot have it itself."""
    if dtype == "float16":
        return "float16" if specification >= classic.FLOAT16_FEATURES_SINCE else "float32"
    if dtype in PROGRAM_ARRAY_DTYPES:
        return dtype
    # what no multi-array holds is cast on the way in and out
    if dtype in ("float64", "bfloat16"):
        return "float32"
    if dtype in ("bool", "int8", "uint8", "int16", "uint16"):
        return "int32"
    raise EditError(
        f"a value of dtype {dtype} cannot be a feature", expected=", ".join(PROGRAM_ARRAY_DTYPES), found=dtype
    )


class EditedTypes:
    """Which values may have another type since the last look, and what all of them are declared as.

    ``retyped`` are values whose operations read another dtype than before: theirs follows from that, others keep their own.
    """

    def __init__(self, document: ProgramDocument) -> None:
        self._document = document
        self.stale: set[str] = set()
        self.retyped: set[str] = set()

    def changed(self, *values: str) -> None:
        """The program is another one; what makes ``values`` may make another type of them."""
        self._document.changed()
        self.stale.update(values)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """A change that fails half way is undone."""
        kept = Model_pb2.Model()
        kept.CopyFrom(self._document.spec)
        stale, retyped = set(self.stale), set(self.retyped)
        try:
            yield
        except EditError:
            # the whole model: a change may reach operations, description and types
            self._document.restore(kept)
            self.stale, self.retyped = stale, retyped
            raise
        finally:
            self._document.changed()

    def dtypes(self, values: Iterable[str]) -> list[str | None]:
        """What the values are declared as now, None for those that nothing makes."""
        known = self._document.graph.values
        return [known[name].dtype if name in known else None for name in values]

    def known(self, values: Iterable[str]) -> list[Value] | None:
        """The declared types of values; None where they do not say all: behind an edit, where lengths are open.

        Of constants the names too: a type may follow from the numbers of one.
        """
        if self.stale:
            return None
        found = [self._document.graph.values.get(name) for name in values]
        # an open length could be any; what follows from it is not known either
        if any(v is None or v.shape is None or None in v.shape for v in found):
            return None
        return [v if v.constant else replace(v, name="") for v in found if v is not None]

    def renew(self) -> TypeFollower | None:
        """Makes the declared types behind the edits follow again, those of the outputs' features included."""
        if not self.stale:
            return None
        document = self._document
        follower = TypeFollower(document.model, document.function, self.stale, self.retyped)
        follower.follow(document.block.operations)
        touched = self.stale | follower.changed
        self.stale, self.retyped = set(), set()
        document.changed()
        # only those behind an edit: others may declare less than is known, or differ and be a fault of their own
        for feature in list(document.description.output):
            if feature.name in touched and feature.type.WhichOneof("Type") == "multiArrayType":
                self._redeclare(feature)
        return follower

    def _redeclare(self, feature: Model_pb2.FeatureDescription) -> None:
        """A described output follows its value; one that cannot have the value's dtype gets it cast."""
        value = self._document.graph.values.get(feature.name)
        if value is None or value.shape is None or value.dtype is None:
            return
        dtype, shape = self._document.type_of(feature.name)
        array, carried = feature.type.multiArrayType, carried_dtype(dtype, self._document.spec.specificationVersion)
        if carried != dtype:
            self._document.cast_output(feature.name, carried)
        array.dataType = PROGRAM_ARRAY_DTYPES[carried]
        if array.shape and tuple(array.shape) != shape:
            declare_array(feature, carried, shape)


def formal_inputs(operator: str, opset: str, where: str) -> dict[str, bool]:
    """The arguments of a MIL operation in their order, and whether each may be left out.

    Raises EditError for an operation that does not exist in this opset; the message says which opset brings it.
    """
    import inspect

    handler = handler_for(operator, opset)
    if handler is None:
        brought = min(MIL.versions(operator), default=None)
        since = next((name for name, version in OPSETS.items() if brought is not None and version >= brought), None)
        raise EditError(
            f"there is no operation {operator!r} in {opset}",
            where=where,
            expected="an operation of MIL" if since is None else f"{since} or later",
            found=opset if since is not None else operator,
            fix="convert the model for a newer target" if since is not None else None,
        )
    # the first is the lowering itself
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    return {p.name: p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}


class TypeFollower:
    """Walks through a function and writes anew what the operations behind ``stale`` values declare.

    Dtypes stay as they were declared, except of ``retyped`` values, whose operations read another dtype now, and behind them.
    ``changed`` are then the values that have another type than before; ``problems`` says, for values whose
    operation does not accept its inputs, why (they keep what they declared).
    """

    def __init__(
        self, model: CoreMLModel, function: MIL_pb2.Function, stale: Collection[str], retyped: Collection[str] = ()
    ) -> None:
        self.model = model
        self.stale = set(stale)
        self.changed = self.stale.intersection(named.name for named in function.inputs)
        self.problems: dict[str, ConversionError] = {}
        self._types = {named.name: declared(named) for named in function.inputs}
        self._retyped = set(retyped)
        # a damaged description does not keep the program from being followed
        self._walk = ProgramTypes(model, function, described=False)
        self._low = self._walk.low

    def follow(self, operations: Iterable[MIL_pb2.Operation]) -> None:
        """Goes through the operations in order."""
        for operation in operations:
            if operation.type == "const":
                lower_operations(self._low, self.model, [operation])
            elif self._is_stale(operation):
                self._renew(operation)
            elif self._says_enough(operation):
                for output in operation.outputs:
                    self._walk.take_as_declared(declared(output))
            else:
                self._walk.lower(operation)
            for output in operation.outputs:
                self._types[output.name] = declared(output)

    def _is_stale(self, operation: MIL_pb2.Operation) -> bool:
        # made by an edited operation, or of a value whose type has changed
        return not (self.stale.isdisjoint(mil.writes(operation)) and self.changed.isdisjoint(mil.reads(operation)))

    def _says_enough(self, operation: MIL_pb2.Operation) -> bool:
        """Whether what an operation declares is all that later types can follow from: no shape is computed from floats."""
        outputs = [declared(output) for output in operation.outputs]
        if not all("float" in o.dtype and o.shape is not None and None not in o.shape for o in outputs):
            return False
        return any(isinstance(self._low.environment.get(name), ir.Value) for name in mil.reads(operation))

    def _renew(self, operation: MIL_pb2.Operation) -> None:
        # some handlers go by the declared shape where they cannot tell: it must not speak of what was before
        blank = copied(operation)
        for output in blank.outputs:
            if output.type.WhichOneof("type") in ("tensorType", None):
                output.type.tensorType.ClearField("dimensions")
                output.type.tensorType.dimensions.add().unknown.variadic = True
        error = self._walk.lower(blank)
        for output in operation.outputs:
            if error is not None:
                self.problems[output.name] = error
            self._declare(operation, output)

    def _declare(self, operation: MIL_pb2.Operation, output: MIL_pb2.NamedValueType) -> None:
        before = declared(output)
        made = self._low.environment.get(output.name)
        if made is None:
            if before.shape is not None and output.type.WhichOneof("type") == "tensorType":
                self._walk.take_as_declared(before)
            return
        if output.type.WhichOneof("type") not in ("tensorType", None) or operation.type == "classify":
            return
        shape = known(made) if isinstance(made, ir.Value) else np.asarray(made).shape
        if shape is None:
            return
        same_rank = before.shape is not None and len(before.shape) == len(shape)
        # nothing that it reads has changed: a length that was declared is still true where none can be inferred
        if before.shape is not None and same_rank and self.changed.isdisjoint(mil.reads(operation)):
            shape = tuple(b if n is None else n for b, n in zip(before.shape, shape, strict=True))
        dtype = self._dtype(operation, before, made)
        if dtype != before.dtype:
            self._retyped.add(output.name)
        if dtype != before.dtype or tuple(shape) != before.shape:
            set_tensor_type(output.type, dtype, shape)
            self.changed.add(output.name)

    def _dtype(self, operation: MIL_pb2.Operation, before: Declared, made: object) -> str:
        """The dtype of a result: as declared, unless the operation is new, casts, or reads what has another dtype now."""
        if operation.type == "cast" or "output_dtype" in operation.inputs:
            wanted = "dtype" if operation.type == "cast" else "output_dtype"
            name = next((binding.name for key, binding in mil.bindings(operation) if key == wanted), "")
            said = str(self._low.environment.get(name, before.dtype))
            return CAST_DTYPES.get(said, said)
        if before.dtype in MIL_NUMBERS and self._retyped.isdisjoint([before.name, *mil.reads(operation)]):
            return before.dtype
        kind = _kind(made)
        if kind == "bool":
            return "bool"
        # MIL gives a result the dtype of the first argument of its kind: x before its weight, data before indices
        order = list(formal_inputs(operation.type, self._low.opset, self.model.where))
        read = sorted(
            mil.bindings(operation), key=lambda item: order.index(item[0]) if item[0] in order else len(order)
        )
        dtypes = (self._types[binding.name].dtype for _, binding in read if binding.name in self._types)
        fitting = (d for d in dtypes if d in MIL_NUMBERS and d not in ("bool", "str"))
        default = "float32" if kind == "float" else "int32"
        return next((d for d in fitting if ("float" in d) == (kind == "float")), default)


def _kind(made: object) -> str:
    """What the lowering carries a value as: all floats as float32, all whole numbers as one type."""
    if isinstance(made, ir.Value):
        return "bool" if made.dtype == ir.DataType.BOOL else "float" if made.dtype == ir.DataType.FLOAT else "int"
    return {"b": "bool", "f": "float"}.get(np.asarray(made).dtype.kind, "int")
