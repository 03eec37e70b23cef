"""What an ML Program's features rest on inside: the function's inputs, the block's outputs, casts, scale and bias, labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod

import numpy as np
import numpy.typing as npt

from coreproof.editing.editors.coreml_interface import CoreMLInterface, Feature, Lengths, is_image
from coreproof.editing.editors.program_document import ProgramDocument, keep_name
from coreproof.editing.editors.program_types import PROGRAM_ARRAY_DTYPES, EditedTypes, carried_dtype
from coreproof.editing.editors.program_weights import set_tensor_type, tensor_type
from coreproof.errors import EditError
from coreproof.model.coreml.literals import read_literal
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import program as mil


class ProgramInterface(CoreMLInterface):
    """A feature is declared three times, in the description, as input or output of the function, and as a type; they stay alike.

    What a description cannot say of a program is said by operations: a picture's scale and bias, casts at both ends.
    """

    array_dtypes = PROGRAM_ARRAY_DTYPES
    keeps_rank = True
    scaling_layer = "mul"

    document: ProgramDocument

    def __init__(self, document: ProgramDocument, types: EditedTypes) -> None:
        super().__init__(document)
        self._types = types

    def all_or_nothing(self) -> AbstractContextManager[None]:
        return self._types.all_or_nothing()

    # outputs

    def shape_of(self, value: str) -> Lengths:
        document = self.document
        self._types.renew()
        is_made = document.graph.producer(value) is not None
        if value in document.graph.inputs or (document.graph.values[value].constant and not is_made):
            raise EditError(
                f"{value!r} cannot be an output: it is an input or a constant",
                where=self.document.where,
                fix="insert an identity behind it",
            )
        return document.type_of(value)[1]

    def bring_out(self, value: str) -> tuple[str, Lengths]:
        document = self.document
        dtype, shape = document.type_of(value)
        carried = self.carried_dtype(dtype)
        if not shape:
            # a multi-array has a dimension at least: a number by itself gets one of length 1 for the outside
            inner, shape = document.call_inside(value, "scalar"), (1,)
            axes = document.literal(np.zeros(1, np.int32), "int32")
            name, place = document.free(f"{value}_lifted"), document.place_of(inner) + 1
            document.insert(place, "expand_dims", name, value, inner, ("axes", axes), tensor_type(dtype, shape))
        if carried != dtype:
            document.cast_output(value, carried)
        return carried, shape

    def output_replaced(self, old: str | None, new: str | None) -> None:
        outputs = list(self.document.block.outputs)
        fresh = [] if new is None else [new]
        place = outputs.index(old) if old in outputs else len(outputs)
        self.document.block.outputs[:] = [*outputs[:place], *fresh, *outputs[place + 1 :]]

    # inputs

    def carried_dtype(self, dtype: str) -> str:
        return carried_dtype(dtype, self.document.spec.specificationVersion)

    def check_array(self, name: str, lengths: Sequence[int]) -> None:
        if not lengths:
            raise EditError(
                f"{name!r} is a number by itself", expected="an input of one dimension at least", found=list(lengths)
            )

    def feed(self, value: str, lengths: Sequence[int], dtype: str, carried: str) -> None:
        document, types = self.document, self._types
        named = next((n for n in document.function.inputs if n.name == value), None)
        if named is not None:
            if types.dtypes([value]) != [carried]:
                types.retyped.update(document.made_from(value))
            set_tensor_type(named.type, carried, lengths)
            types.changed(value)
            return
        document.identifier(value)
        self._step_aside(value)
        set_tensor_type(document.function.inputs.add(name=value).type, carried, lengths)
        document.changed()
        if carried != dtype:
            inner = document.free(f"{value}_to_{dtype}")
            for operation in document.block.operations:
                mil.rename_reads(operation, {value: inner})
            document.insert_cast(value, inner, dtype, 0)
        types.changed(*document.made_from(value))

    def _step_aside(self, value: str) -> None:
        """What makes ``value`` so far goes, or calls it by another name where it makes other values as well."""
        maker = next((op for op in self.document.block.operations if value in mil.writes(op)), None)
        if maker is None:
            return
        if len(maker.outputs) == 1:
            self.document.remove(value)
            return
        keep_name(maker)
        for output in maker.outputs:
            if output.name == value:
                output.name = self.document.free(f"{value}_unread")

    # pictures

    def picture_of(self, feature: Feature) -> tuple[int, int, int]:
        shape = self.document.type_of(feature.name)[1]
        channels = shape[1] if len(shape) == 4 else None
        if shape[:1] != (1,) or channels not in (1, 3) or (not is_image(feature) and None in shape):
            raise EditError(
                f"{feature.name!r} does not have the shape of one picture",
                where=self.document.where,
                expected="[1, 3, height, width] or [1, 1, height, width]",
                found=list(shape),
            )
        return channels or 0, shape[2] or 0, shape[3] or 0

    def become_picture(self, name: str, is_input: bool, before: str | None, colour: str) -> None:
        # the order of the channels is the description's alone: Core ML hands the planes over as it says
        self.become_dtype(name, is_input, "float16" if colour == "GRAY_FLOAT16" else "float32")

    def become_array(self, name: str, is_input: bool) -> tuple[str, Lengths]:
        for operation in self._preprocessing(name) if is_input else ():
            self._bypass(operation)
        dtype, shape = self.document.type_of(name)
        return self.carried_dtype(dtype), shape

    def preprocess(self, name: str, colour: str, scale: float | None, bias: Sequence[float] | float | None) -> None:
        """One multiplication and one addition behind the picture, in the place of those that it has."""
        _, shape = self.document.type_of(name)
        channels = shape[1] or 1
        factor, offset = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        for operation in self._preprocessing(name):
            number = np.broadcast_to(self._number(operation).reshape(-1), channels)
            if operation.type in ("mul", "real_div"):
                factor = factor * number if operation.type == "mul" else factor / number
            else:
                offset = offset + number if operation.type == "add" else offset - number
            self._bypass(operation)
        if scale is not None:
            factor = np.full(channels, scale, np.float32)
        if bias is not None:
            given = np.atleast_1d(np.asarray(bias, np.float32))
            if given.size not in (1, channels):
                raise EditError("there is one bias for each channel", expected=channels, found=given.size)
            offset = np.broadcast_to(given, channels)
        # each is put directly behind the picture, so that the last one comes first
        if np.any(offset != 0):
            self._put_behind(name, "add", f"{name}__biased__", offset)
        if np.any(factor != 1):
            self._put_behind(name, "mul", f"{name}__scaled__", factor)

    def _preprocessing(self, name: str) -> list[MIL_pb2.Operation]:
        """The operations behind a picture that scale it and then shift it, casts left out."""
        document = self.document
        found: list[MIL_pb2.Operation] = []
        constants, value = document.constants(), name
        stages = [("mul", "real_div"), ("add", "sub")]
        while True:
            readers = [op for op in document.block.operations if value in mil.reads(op)]
            if len(readers) != 1 or document.readers(value) != 1:
                return found
            operation = readers[0]
            bound = {key: binding.name for key, binding in mil.bindings(operation)}
            if operation.type != "cast":
                # a scale or a shift may be lacking, but the other way round they are the network's own
                while stages and operation.type not in stages[0]:
                    stages.pop(0)
                other = next((n for n in bound.values() if n != value), None)
                data_first = bound.get("x") == value or operation.type in ("mul", "add")
                if not stages or other not in constants or not data_first or constants[other].type != "const":
                    return found
                _, shape = document.type_of(value)
                stored = np.shape(self._number(operation))
                if prod(stored) not in (1, shape[1]) or (prod(stored) > 1 and stored[-3:] != (shape[1], 1, 1)):
                    return found
                stages.pop(0)
                found.append(operation)
            value = operation.outputs[0].name

    def _number(self, operation: MIL_pb2.Operation) -> npt.NDArray[np.float32]:
        """The constant that one operand of an arithmetic operation is."""
        constants = self.document.constants()
        name = next(b.name for _, b in mil.bindings(operation) if b.name in constants)
        return np.asarray(read_literal(self.document.model, constants[name].attributes["val"]), np.float32)

    def _bypass(self, operation: MIL_pb2.Operation) -> None:
        data = self.document.bypass(operation)
        self._types.changed(*self.document.made_from(data))

    def _put_behind(self, name: str, operator: str, wish: str, numbers: npt.NDArray[np.float32]) -> None:
        """A new operation between a feature and all that read it."""
        document = self.document
        made = document.free(wish)
        dtype, shape = document.type_of(name)
        for reader in document.block.operations:
            mil.rename_reads(reader, {name: made})
        array = numbers[:1].reshape(()) if np.all(numbers == numbers[0]) else numbers.reshape(1, -1, 1, 1)
        value = document.literal(array.astype(dtype), dtype)
        document.insert(0, operator, made, made, name, ("y", value), tensor_type(dtype, shape))

    # dtypes

    def become_dtype(self, name: str, is_input: bool, dtype: str) -> None:
        """Within, all is as it was, with casts where they are needed."""
        version = self.document.spec.specificationVersion
        if dtype == "float16" and version < classic.FLOAT16_FEATURES_SINCE:
            raise EditError(
                "float16 features came with iOS 16",
                where=self.document.where,
                expected=f"specification version {classic.FLOAT16_FEATURES_SINCE} or later",
                found=version,
                fix="convert the model for iOS 16 or later",
            )
        if self.document.type_of(name)[0] != dtype:
            (self._enter_as if is_input else self._leave_as)(name, dtype)

    def _enter_as(self, name: str, dtype: str) -> None:
        document = self.document
        before, shape = document.type_of(name)
        named = next(n for n in document.function.inputs if n.name == name)
        set_tensor_type(named.type, dtype, shape)
        document.changed()
        readers = [op for op in document.block.operations if name in mil.reads(op)]
        # a cast reads any dtype: it stays, or goes where it would cast to what comes in
        casts = [op.outputs[0].name for op in readers if op.type == "cast"]
        inner = document.free(f"{name}_to_{before}")
        for reader in readers:
            if reader.type != "cast":
                mil.rename_reads(reader, {name: inner})
        if len(casts) < len(readers):
            document.insert_cast(name, inner, before, 0)
        for made in casts:
            if document.type_of(made)[0] == dtype and made not in document.block.outputs:
                document.bypass(document.block.operations[document.place_of(made)])

    def _leave_as(self, name: str, dtype: str) -> None:
        document = self.document
        maker = document.block.operations[document.place_of(name)]
        if maker.type == "cast" and document.readers(name) == 1:
            source = next(b.name for key, b in mil.bindings(maker) if key == "x")
            # what is cast for the outside alone can bear the output's name itself
            free = source not in document.block.outputs and source not in document.graph.inputs
            if free and document.type_of(source)[0] == dtype:
                document.remove(name)
                mil.rename(document.block, {source: name})
                document.changed()
                return
        document.cast_output(name, dtype)

    # shapes

    @contextmanager
    def resized(self, name: str, lengths: Lengths, *, flexible: bool) -> Iterator[None]:
        """A picture's batch and channels stay; a length that varies is unknown to the program."""
        yield
        dtype, before = self.document.type_of(name)
        named = next(n for n in self.document.function.inputs if n.name == name)
        set_tensor_type(named.type, dtype, [*before[:2], *lengths] if is_image(self.find(name)[0]) else lengths)
        self._types.changed(name)
        self._types.renew()

    # labels

    def _classify(self) -> MIL_pb2.Operation | None:
        return next((op for op in self.document.block.operations if op.type == "classify"), None)

    def scores(self) -> tuple[str, int | None] | None:
        operation = self._classify()
        if operation is None:
            return None
        _, shape = self.document.type_of(operation.inputs["probabilities"].arguments[0].name)
        return f"layer {mil.name(operation)!r}", None if None in shape else prod(n or 1 for n in shape)

    def write_labels(self, labels: Sequence[str] | Sequence[int], *, whole: bool) -> bool:
        """Written as they were stored: as a list or a tensor, among the arguments or in a constant."""
        operation = self._classify()
        assert operation is not None
        binding = operation.inputs["classes"].arguments[0]
        constant = self.document.constants()[binding.name] if binding.WhichOneof("binding") == "name" else None
        stored = binding.value if constant is None else constant.attributes["val"]
        kind = stored.type.listType.type if stored.type.WhichOneof("type") == "listType" else stored.type
        whole = whole and kind.tensorType.dataType != MIL_pb2.STRING
        _write_labels(stored, labels, whole=whole)
        if constant is not None:
            constant.outputs[0].type.CopyFrom(stored.type)
        number = MIL_pb2.INT64 if whole else MIL_pb2.STRING
        for output in operation.outputs:
            if output.type.WhichOneof("type") == "dictionaryType":
                output.type.dictionaryType.keyType.tensorType.dataType = number
            else:
                output.type.tensorType.dataType = number
        return whole


def _write_labels(stored: MIL_pb2.Value, labels: Sequence[str | int], *, whole: bool) -> None:
    dtype = "int64" if whole else "str"
    if stored.type.WhichOneof("type") != "listType":
        set_tensor_type(stored.type, dtype, [len(labels)])
        stored.immediateValue.tensor.Clear()
        _extend(stored.immediateValue.tensor, labels, whole=whole)
        return
    # a list has a type and a Value for each of its items
    set_tensor_type(stored.type.listType.type, dtype, ())
    stored.type.listType.length.constant.size = len(labels)
    values = stored.immediateValue.list.values
    del values[:]
    for label in labels:
        item = values.add()
        set_tensor_type(item.type, dtype, ())
        _extend(item.immediateValue.tensor, [label], whole=whole)


def _extend(tensor: MIL_pb2.TensorValue, labels: Sequence[str | int], *, whole: bool) -> None:
    if whole:
        tensor.longInts.values.extend(int(label) for label in labels)
    else:
        tensor.strings.values.extend(str(label) for label in labels)
