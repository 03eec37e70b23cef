"""The features of an ML Program under another type: pictures and arrays, float16, other shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from coreproof.editing.editors.network_retype import BIASES, COLOURS, colour_of
from coreproof.editing.editors.program_features import ARRAY_DTYPES, array_feature, carried_dtype
from coreproof.editing.editors.program_interface import ProgramInterface
from coreproof.editing.editors.program_weights import (
    DEFAULT_WEIGHT_FILE,
    set_tensor_type,
    tensor_type,
    text_value,
    write_value,
)
from coreproof.errors import EditError
from coreproof.model.coreml.literals import read_literal
from coreproof.model.coreml.proto import MIL_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import program as mil

_FLIPPED = {"real_div": "mul", "sub": "add"}


class ProgramRetype(ProgramInterface):
    """What a description cannot say is said by operations: a picture's scale and bias, casts at the ends."""

    def retype(
        self,
        feature: str,
        kind: str | None = None,
        *,
        colour: str | None = None,
        scale: float | None = None,
        bias: Sequence[float] | float | None = None,
        dtype: str | None = None,
    ) -> None:
        described, is_input = self._feature(feature)
        is_image = described.type.WhichOneof("Type") == "imageType"
        wanted = kind or ("image" if is_image else "tensor")
        if wanted not in ("image", "tensor"):
            raise EditError("there is no such kind of feature", expected="image or tensor", found=kind)
        if wanted == "image" and dtype is not None:
            raise EditError("a picture has no dtype of its own", expected="kind = tensor with a dtype", found=dtype)
        if wanted == "tensor" and (colour is not None or scale is not None or bias is not None):
            raise EditError("colour, scale and bias belong to pictures", expected='kind = "image"', found=wanted)
        if not is_input and (scale is not None or bias is not None):
            raise EditError(
                f"the numbers of an output picture ({feature!r}) cannot be scaled by the description",
                fix="insert a mul in front of it",
            )
        with self._all_or_nothing():
            if wanted == "image":
                self._to_image(feature, is_input, is_image, colour)
                if scale is not None or bias is not None:
                    self._preprocess(feature, scale, bias)
                return
            if is_image:
                self._to_array(feature, is_input)
            if dtype is not None:
                self._as_dtype(feature, is_input, dtype)

    def _feature(self, name: str) -> tuple[Any, bool]:
        """The description of a feature that is a picture or an array, and whether it is an input."""
        for features, is_input in ((self._description.input, True), (self._description.output, False)):
            for feature in features:
                if feature.name == name:
                    kind = feature.type.WhichOneof("Type")
                    if kind not in ("imageType", "multiArrayType"):
                        raise EditError(f"{name!r} is neither a picture nor a multi-array", found=kind)
                    return feature, is_input
        known = [f.name for f in (*self._description.input, *self._description.output)]
        raise EditError(f"there is no feature {name!r}", where=self._where, expected=", ".join(known), found=name)

    # pictures

    def _to_image(self, name: str, is_input: bool, is_image: bool, colour: str | None) -> None:
        described, _ = self._feature(name)
        if colour is not None and colour not in COLOURS:
            raise EditError("there is no such colour layout", expected=", ".join(COLOURS), found=colour)
        dtype, shape = self._type(name)
        channels = shape[1] if len(shape) == 4 else None
        if len(shape) != 4 or shape[0] != 1 or channels not in (1, 3) or (not is_image and None in shape):
            raise EditError(
                f"{name!r} does not have the shape of one picture",
                where=self._where,
                expected="[1, 3, height, width] or [1, 1, height, width]",
                found=list(shape),
            )
        colour = colour or (colour_of(described) if is_image else "RGB" if channels == 3 else "GRAY")
        if (3 if colour in BIASES else 1) != channels:
            raise EditError(
                f"{name!r} has {channels} channels", expected=f"what a {colour} picture has", found=channels
            )
        carried = "float16" if colour == "GRAY_FLOAT16" else "float32"
        self._require_half(carried)
        if dtype != carried:
            self._carry(name, is_input, carried)
            described, _ = self._feature(name)
        if not is_image:
            optional = described.type.isOptional
            described.type.Clear()
            described.type.isOptional = optional
            described.type.imageType.height, described.type.imageType.width = shape[2] or 0, shape[3] or 0
        described.type.imageType.colorSpace = COLOURS[colour]
        self._changed()

    def _to_array(self, name: str, is_input: bool) -> None:
        """The numbers that the program reads behind a picture's scale and bias, or that it makes."""
        if is_input:
            for operation in self._preprocessing(name):
                self._bypass(operation)
        described, _ = self._feature(name)
        if described.type.imageType.WhichOneof("SizeFlexibility") is not None:
            raise EditError(
                f"{name!r} has a flexible size", fix="reshape it to one size first, and again when it is an array"
            )
        dtype, shape = self._type(name)
        optional = described.type.isOptional
        described.type.CopyFrom(array_feature(name, carried_dtype(dtype, self._spec.specificationVersion), shape).type)
        described.type.isOptional = optional
        self._changed()

    def _preprocess(self, name: str, scale: float | None, bias: Sequence[float] | float | None) -> None:
        """One multiplication and one addition behind the picture, in the place of those that it has."""
        _, shape = self._type(name)
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
        if np.any(offset != 0):
            self._put_behind(name, "add", f"{name}__biased__", offset)
        if np.any(factor != 1):
            self._put_behind(name, "mul", f"{name}__scaled__", factor)

    def _preprocessing(self, name: str) -> list[Any]:
        """The operations behind a picture that scale it and then shift it, casts left out."""
        found: list[Any] = []
        constants, value = self._constants(), name
        stages = [("mul", "real_div"), ("add", "sub")]
        while True:
            readers = [op for op in self._block.operations if value in mil.reads(op)]
            if len(readers) != 1 or self._readers(value) != 1:
                return found
            operation = readers[0]
            bound = {key: binding.name for key, binding in mil.bindings(operation)}
            if operation.type != "cast":
                while stages and operation.type not in stages[0]:
                    stages.pop(0)
                other = next((n for n in bound.values() if n != value), None)
                data_first = bound.get("x") == value or operation.type in ("mul", "add")
                if not stages or other not in constants or not data_first or constants[other].type != "const":
                    return found
                _, shape = self._type(value)
                stored = np.shape(self._number(operation))
                if prod(stored) not in (1, shape[1]) or (prod(stored) > 1 and stored[-3:] != (shape[1], 1, 1)):
                    return found
                stages.pop(0)
                found.append(operation)
            value = operation.outputs[0].name

    def _number(self, operation: Any) -> npt.NDArray[np.float32]:
        """The constant that one operand of an arithmetic operation is."""
        constants = self._constants()
        name = next(b.name for _, b in mil.bindings(operation) if b.name in constants)
        return np.asarray(read_literal(self._seen(), constants[name].attributes["val"]), np.float32)

    def _bypass(self, operation: Any) -> None:
        """Takes out an operation; what read it reads its data."""
        constants, made = self._constants(), operation.outputs[0].name
        data = next(b.name for _, b in mil.bindings(operation) if b.name not in constants)
        for reader in self._block.operations:
            mil.rename_reads(reader, {made: data})
        read = list(mil.reads(operation))
        del self._block.operations[self._index_of(made)]
        self._drop_unread(read)
        self._changed(*self._read_from(data))

    def _put_behind(self, name: str, operator: str, wish: str, numbers: npt.NDArray[np.float32]) -> None:
        """A new operation between a feature and all that read it."""
        made, setting = self._free(wish), self._free(f"{wish}_y")
        dtype, shape = self._type(name)
        for reader in self._block.operations:
            mil.rename_reads(reader, {name: made})
        array = numbers[:1].reshape(()) if np.all(numbers == numbers[0]) else numbers.reshape(1, -1, 1, 1)
        constant = MIL_pb2.Operation(type="const")
        constant.attributes["name"].CopyFrom(text_value(setting))
        write_value(constant.attributes["val"], array.astype(dtype), dtype, self._store, DEFAULT_WEIGHT_FILE)
        constant.outputs.add(name=setting).type.CopyFrom(tensor_type(dtype, array.shape))
        operation = MIL_pb2.Operation(type=operator)
        operation.attributes["name"].CopyFrom(text_value(made))
        operation.inputs["x"].arguments.add(name=name)
        operation.inputs["y"].arguments.add(name=setting)
        operation.outputs.add(name=made).type.CopyFrom(tensor_type(dtype, shape))
        self._block.operations.insert(0, operation)
        self._block.operations.insert(0, constant)
        self._changed()

    # dtypes

    def _require_half(self, dtype: str) -> None:
        version = self._spec.specificationVersion
        if dtype == "float16" and version < classic.FLOAT16_FEATURES_SINCE:
            raise EditError(
                "float16 features came with iOS 16",
                where=self._where,
                expected=f"specification version {classic.FLOAT16_FEATURES_SINCE} or later",
                found=version,
                fix="convert the model for iOS 16 or later",
            )

    def _as_dtype(self, name: str, is_input: bool, dtype: str) -> None:
        if dtype not in ARRAY_DTYPES:
            raise EditError(f"a multi-array cannot be {dtype}", expected=", ".join(ARRAY_DTYPES), found=dtype)
        self._require_half(dtype)
        described, _ = self._feature(name)
        if self._type(name)[0] != dtype:
            self._carry(name, is_input, dtype)
            described, _ = self._feature(name)
        described.type.multiArrayType.dataType = ARRAY_DTYPES[dtype]
        self._changed()

    def _carry(self, name: str, is_input: bool, dtype: str) -> None:
        """Lets a feature be of ``dtype`` outside; within, all is as it was, with casts where they are needed."""
        if is_input:
            self._enter_as(name, dtype)
        else:
            self._leave_as(name, dtype)

    def _enter_as(self, name: str, dtype: str) -> None:
        before, shape = self._type(name)
        named = next(n for n in self._function.inputs if n.name == name)
        set_tensor_type(named.type, dtype, shape)
        self._graph = self._view = None
        readers = [op for op in self._block.operations if name in mil.reads(op)]
        casts = [op.outputs[0].name for op in readers if op.type == "cast"]
        inner = self._free(f"{name}_to_{before}")
        for reader in readers:
            if reader.type != "cast":
                mil.rename_reads(reader, {name: inner})
        if len(casts) < len(readers):
            self._add_cast(name, inner, before, 0)
        for made in casts:
            if self._type(made)[0] == dtype and made not in self._block.outputs:
                self._bypass_cast(self._block.operations[self._index_of(made)], name)

    def _bypass_cast(self, cast: Any, source: str) -> None:
        made, read = cast.outputs[0].name, list(mil.reads(cast))
        for reader in self._block.operations:
            mil.rename_reads(reader, {made: source})
        del self._block.operations[self._index_of(made)]
        self._drop_unread(read)

    def _leave_as(self, name: str, dtype: str) -> None:
        maker = self._block.operations[self._index_of(name)]
        if maker.type == "cast" and self._readers(name) == 1:
            source = next(b.name for key, b in mil.bindings(maker) if key == "x")
            free = source not in self._block.outputs and source not in self.graph.inputs
            if free and self._type(source)[0] == dtype:
                self._bypass_cast(maker, source)
                mil.rename(self._block, {source: name})
                self._changed()
                return
        self._cast_output(name, dtype)

    # shapes

    def reshape(
        self,
        feature: str,
        shape: Sequence[int] | None = None,
        *,
        enumerated: Sequence[Sequence[int]] = (),
        ranges: Sequence[Sequence[int]] = (),
    ) -> None:
        described, is_input = self._feature(feature)
        if not is_input:
            raise EditError(f"{feature!r} is an output: its shape follows from the layers", fix="reshape an input")
        if enumerated and ranges:
            raise EditError("a shape is enumerated or ranged, not both", found=f"{enumerated} and {ranges}")
        image, array = described.type.imageType, described.type.multiArrayType
        is_image = described.type.WhichOneof("Type") == "imageType"
        now = [int(image.height), int(image.width)] if is_image else [int(n) for n in array.shape]
        default = list(shape or (enumerated[0] if enumerated else now))
        _check_shapes(feature, len(now), [default, *enumerated], ranges)
        default = [_within(n, one) for n, one in zip(default, ranges or [(1, -1)] * len(default), strict=True)]
        free = [len({one[i] for one in (default, *enumerated)}) > 1 for i in range(len(default))]
        if ranges:
            free = [low != high for low, high in ranges]
        lengths: list[int | None] = [None if f else n for n, f in zip(default, free, strict=True)]
        with self._all_or_nothing():
            (_flexible_image if is_image else _flexible_array)(described, default, enumerated, ranges)
            dtype, before = self._type(feature)
            named = next(n for n in self._function.inputs if n.name == feature)
            set_tensor_type(named.type, dtype, [*before[:2], *lengths] if is_image else lengths)
            self._changed(feature)
            self._renew_types()


def _check_shapes(name: str, rank: int, shapes: Sequence[Sequence[int]], ranges: Sequence[Sequence[int]]) -> None:
    for one in shapes:
        if len(one) != rank or any(n < 1 for n in one):
            raise EditError(
                f"{name!r} cannot have this shape", expected=f"{rank} lengths, 1 or more each", found=list(one)
            )
    if ranges and len(ranges) != rank:
        raise EditError(f"{name!r} needs a range for each length", expected=rank, found=len(ranges))
    for one in ranges:
        if len(one) != 2 or one[0] < 1 or (one[1] >= 0 and one[1] < one[0]):
            raise EditError("a range is (low, high), -1: no end", expected="1 <= low <= high", found=list(one))


def _within(length: int, limits: Sequence[int]) -> int:
    low, high = limits
    return low if length < low or 0 <= high < length else length


def _flexible_image(
    feature: Any, default: Sequence[int], enumerated: Sequence[Sequence[int]], ranges: Sequence[Sequence[int]]
) -> None:
    image = feature.type.imageType
    image.height, image.width = default
    image.ClearField("enumeratedSizes")
    image.ClearField("imageSizeRange")
    for height, width in enumerated:
        image.enumeratedSizes.sizes.add(height=height, width=width)
    for side, (low, high) in zip(("heightRange", "widthRange"), ranges, strict=False):
        limits = getattr(image.imageSizeRange, side)
        limits.lowerBound, limits.upperBound = low, high


def _flexible_array(
    feature: Any, default: Sequence[int], enumerated: Sequence[Sequence[int]], ranges: Sequence[Sequence[int]]
) -> None:
    array = feature.type.multiArrayType
    array.shape[:] = default
    array.ClearField("enumeratedShapes")
    array.ClearField("shapeRange")
    for one in enumerated:
        array.enumeratedShapes.shapes.add(shape=one)
    for low, high in ranges:
        array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
