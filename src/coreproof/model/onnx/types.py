"""Types of ONNX values beyond arrays: maps, which onnx-ir does not read, and what a value holds in words.

``ZipMap`` ends every classifier of scikit-learn and of Azure Custom Vision: its output is a sequence of maps. onnx-ir
raises NotImplementedError for a map type wherever it stands. Its two readers of types and its writer are the only
places that know types, and the same functions serve files, nested graphs and functions: they are taught maps here.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx_ir import serde


@dataclass(unsafe_hash=True)
class MapType:
    """A dictionary: keys are text or whole numbers, values have a type of their own. Behaves as onnx-ir's own types."""

    key: ir.DataType
    elem_type: ir.TypeProtocol | ir.DataType
    denotation: str | None = None

    @property
    def dtype(self) -> ir.DataType:
        """The element type of the values, as a sequence says that of its elements."""
        return self.elem_type if isinstance(self.elem_type, ir.DataType) else self.elem_type.dtype

    @dtype.setter
    def dtype(self, value: ir.DataType) -> None:
        if isinstance(self.elem_type, ir.DataType):
            self.elem_type = value
        else:
            self.elem_type.dtype = value

    def __repr__(self) -> str:
        return f"Map({self.key!r}, {self.elem_type!r})"


def is_tensor(kind: object) -> bool:
    """Whether a type is an array's; what is not said is taken for one."""
    return kind is None or isinstance(kind, ir.TensorType | ir.SparseTensorType)


def in_words(kind: ir.TypeProtocol | ir.DataType | None) -> str:
    """What a value of this type is: "float32", "dictionary of int64 to float32", "sequence of float32"."""
    if isinstance(kind, MapType):
        return f"dictionary of {_element(kind.key)} to {in_words(kind.elem_type)}"
    if isinstance(kind, ir.SequenceType):
        return f"sequence of {in_words(kind.elem_type)}"
    if isinstance(kind, ir.OptionalType):
        return f"optional {in_words(kind.elem_type)}"
    return "?" if kind is None else _element(kind if isinstance(kind, ir.DataType) else kind.dtype)


def _element(dtype: ir.DataType) -> str:
    if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        return "text" if dtype == ir.DataType.STRING else "?"
    return str(dtype.numpy())


def _teach_maps() -> None:
    """Replaces onnx-ir's readers and writer of types by ones that know maps and hand everything else on."""
    read_type = serde.deserialize_type_proto_for_type
    read_shape = serde.deserialize_type_proto_for_shape
    write_type = serde.serialize_type_into

    def type_of(proto: onnx.TypeProto) -> ir.TypeProtocol | None:
        if not proto.HasField("map_type"):
            return read_type(proto)
        held = type_of(proto.map_type.value_type) or ir.DataType.UNDEFINED
        return MapType(ir.DataType(proto.map_type.key_type), held, proto.denotation or None)

    def shape_of(proto: onnx.TypeProto) -> ir.Shape | None:
        # a dictionary has no shape
        return None if proto.HasField("map_type") else read_shape(proto)

    def write(type_proto: onnx.TypeProto, from_: ir.TypeProtocol) -> None:
        if not isinstance(from_, MapType):
            write_type(type_proto, from_)
            return
        if from_.denotation:
            type_proto.denotation = from_.denotation
        type_proto.map_type.key_type = int(from_.key)
        if not isinstance(from_.elem_type, ir.DataType):  # what the file does not say stays unsaid
            write(type_proto.map_type.value_type, from_.elem_type)

    serde.deserialize_type_proto_for_type = type_of
    serde.deserialize_type_proto_for_shape = shape_of
    serde.serialize_type_into = write


# a module that is loaded again would wrap its own wrappers
if serde.deserialize_type_proto_for_type.__module__ != __name__:
    _teach_maps()
