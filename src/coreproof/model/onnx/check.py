"""What an ONNX file says of itself, held against what it holds, before anything is read from it or allocated for it.

The protobuf library checks how bytes are laid out, and no more: any number may stand for a data type, an attribute may say that
it is a float and hold an int, a tensor may declare 2^40 elements and store none, a name may be no text. What every verb would
trip over is found here, once, all of it. What makes a model wrong but leaves it readable (an input that nobody makes, shapes
that do not fit) is for the doctor to find, and passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir

from coreproof.errors import UnreadableModelError, first_few
from coreproof.model.files.nesting import check_nesting
from coreproof.model.files.paths import inside, regular_file
from coreproof.model.onnx.external_data import stored_elsewhere

_STANDARD = frozenset({"", "ai.onnx.ml"})
_MOST_OPSET = 10**6

_MOST_DIMENSIONS = 64
"""What NumPy can hold."""

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_FIELD_OF = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.COMPLEX64: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
    ir.DataType.STRING: "string_data",
}
"""Where values lie that are not raw bytes; for every other type in ``int32_data``."""

_SINGLE = {
    "FLOAT": "f",
    "INT": "i",
    "STRING": "s",
    "TENSOR": "t",
    "GRAPH": "g",
    "SPARSE_TENSOR": "sparse_tensor",
    "TYPE_PROTO": "tp",
}
_HOLDS = {**_SINGLE, **{f"{name}S": f"{name}S".lower() for name in _SINGLE}}
"""The field in which an attribute of each type holds its value: onnx.proto names those of several values after their type."""

_KIND_OF = {int(onnx.AttributeProto.AttributeType.Value(name)): name for name in _HOLDS}


@dataclass(frozen=True)
class Violation:
    """One thing that is not what ONNX allows: where in the model, what was expected, what was found."""

    place: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}; expected {self.expected}"


def check_onnx(proto: onnx.ModelProto, where: str, folder: Path | None, left: Mapping[int, int] | None = None) -> None:
    """Raises UnreadableModelError that lists what in ``proto`` cannot be what it says.

    ``folder`` is what the names of data files are relative to, None for a model of memory: the current folder. UnsafeModelError
    for a data file outside it. ``left`` says of initializers of the graph, by their place, how many bytes were left in the file.
    """
    check_nesting(proto, where)
    check = _Check(where, folder if folder is not None else Path.cwd(), left or {})
    check.model(proto)
    problems = check.problems
    if not problems:
        return
    fix = "export the model again; if it was copied or downloaded, do that again"
    if len(problems) == 1:
        only = problems[0]
        raise UnreadableModelError(
            "the file is not an ONNX model that can be read, or it is damaged",
            where=f"{where}, {only.place}",
            expected=only.expected,
            found=only.found,
            fix=fix,
        )
    raise UnreadableModelError(
        f"the file is not an ONNX model that can be read, or it is damaged: {len(problems)} parts are not what ONNX allows",
        where=where,
        found=first_few(problems),
        fix=fix,
    )


@dataclass
class _Check:
    where: str
    folder: Path
    left: Mapping[int, int]
    problems: list[Violation] = field(default_factory=list)
    _in_function: bool = False
    _opsets: Mapping[str, int] = field(default_factory=dict)
    _schemas: dict[tuple[str, str, int], Mapping[str, str]] = field(default_factory=dict)

    def _report(self, place: str, expected: str, found: object) -> None:
        self.problems.append(Violation(place, expected, str(found)))

    def _names(self, place: str, names: Iterable[str | bytes], what: str = "a name") -> None:
        """Names of values, nodes, operators: text, because everything downstream prints, sorts and compares them."""
        for name in names:
            if isinstance(name, bytes):
                self._report(place, f"{what} in UTF-8", f"{name[:40]!r}")
            elif "\0" in name:  # C++ readers end the name there, and two names become one
                self._report(place, f"{what} without a NUL character", f"{name[:40]!r}")

    def _text(self, place: str, *texts: str | bytes) -> None:
        for text in texts:  # protobuf hands out as bytes what is no UTF-8 in a file of proto2
            if isinstance(text, bytes):
                self._report(place, "text in UTF-8", f"{text[:40]!r}")

    # the model

    def model(self, proto: onnx.ModelProto) -> None:
        self._text("the model", proto.producer_name, proto.producer_version, proto.domain, proto.doc_string)
        self._metadata("the model", proto.metadata_props)
        self._opsets = self._imports("the model", proto.opset_import)
        self.graph(proto.graph, "the graph")
        for function in proto.functions:
            self._function(function)
        for tensor in (t for info in proto.training_info for t in stored_elsewhere(info)):
            self._data_file(
                tensor, tensor.name or "training"
            )  # nothing of training is run, but it is written again as it is

    def _imports(self, place: str, imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
        opsets = {}
        for entry in imports:
            self._names(place, [entry.domain], "the domain of an opset")
            # a domain of somebody's own may say nothing; of the standard's own, onnx's inference ends the process at 0
            if not int(_domain(entry.domain) in _STANDARD) <= entry.version <= _MOST_OPSET:
                self._report(place, f"an opset of {entry.domain or 'ai.onnx'} from 1 on", entry.version)
            # a number that is no opset is reported above; the look-up of schemas takes an int of C++
            opsets[_domain(entry.domain)] = min(max(entry.version, 1), _MOST_OPSET)
        return opsets

    def _function(self, function: onnx.FunctionProto) -> None:
        place = f"function {function.name!r}"
        self._names(place, [function.name, function.domain, *function.input, *function.output, *function.attribute])
        self._text(place, function.doc_string)
        outer, self._opsets = self._opsets, {**self._opsets, **self._imports(place, function.opset_import)}
        for value in function.value_info:
            self._value(value, f"{place}, value")
        self._made_once(place, [*function.input], function.node)
        made = {*function.input, *(name for node in function.node for name in node.output)}
        for name in function.output:
            if name not in made:  # onnx-ir cannot read it either
                self._report(f"{place}, output {name!r}", "a node that makes it", "none that does")
        self._in_function = True
        for node in function.node:
            self._node(node, f"{place}, ")
        for attribute in function.attribute_proto:
            self._attribute(attribute, place, None)
        self._opsets, self._in_function = outer, False

    def graph(self, graph: onnx.GraphProto, place: str) -> None:
        self._names(place, [graph.name], "its name")
        self._text(place, graph.doc_string)
        self._metadata(place, graph.metadata_props)
        for kind, values in (("input", graph.input), ("output", graph.output), ("value", graph.value_info)):
            for value in values:
                self._value(value, f"{place}, {kind}" if place != "the graph" else kind)
        left = self.left if place == "the graph" else {}
        for at, tensor in enumerate(graph.initializer):
            if not tensor.name:
                self._report(f"{place}, an initializer", "a name", "none")
            self.tensor(tensor, f"initializer {tensor.name!r}", left.get(at))
        for sparse in graph.sparse_initializer:
            if not sparse.values.name:
                self._report(f"{place}, a sparse initializer", "a name", "none")
            self.sparse(sparse, f"sparse initializer {sparse.values.name!r}")
        known = [v.name for v in graph.input]
        given = set(known)
        stored = [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]
        self._twice(place, stored, "initializer")
        # old files list their weights among the inputs too: that is one origin, not two
        self._made_once(place, [*known, *(n for n in dict.fromkeys(stored) if n not in given)], graph.node)
        for annotation in graph.quantization_annotation:
            pairs = [text for p in annotation.quant_parameter_tensor_names for text in (p.key, p.value)]
            self._names(place, [annotation.tensor_name, *pairs])
        for node in graph.node:
            self._node(node, "" if place == "the graph" else f"{place}, ")

    def _twice(self, place: str, names: Iterable[str], what: str) -> None:
        seen: set[str] = set()
        for name in names:
            if name and name in seen:
                self._report(f"{place}, {what} {name!r}", "one of that name", "a second one")
            seen.add(name)

    def _made_once(self, place: str, given: list[str], nodes: Iterable[onnx.NodeProto]) -> None:
        """Every value has one origin: an input, an initializer or one output of one node."""
        self._twice(place, [*given, *(name for node in nodes for name in node.output)], "value")

    def _metadata(self, place: str, entries: Iterable[onnx.StringStringEntryProto]) -> None:
        for entry in entries:
            self._text(f"{place}, metadata", entry.key, entry.value)

    # values and their types

    def _value(self, value: onnx.ValueInfoProto, place: str) -> None:
        place = f"{place} {value.name!r}"
        self._names(place, [value.name])
        self._text(place, value.doc_string)
        self._metadata(place, value.metadata_props)
        self._type(value.type, place)

    def _type(self, kind: onnx.TypeProto, place: str) -> None:
        self._text(place, kind.denotation)
        which = kind.WhichOneof("value")
        if which in ("tensor_type", "sparse_tensor_type"):
            tensor = getattr(kind, which)
            self._data_type(tensor.elem_type, place, undefined=True)
            for dimension in tensor.shape.dim:
                self._names(place, [dimension.dim_param, dimension.denotation], "the name of a dimension")
                # exporters write -1 for a length that they do not know
                if dimension.dim_value < -1:
                    self._report(place, "lengths from 0 on, or -1 for one that is not known", dimension.dim_value)
        elif which in ("sequence_type", "optional_type"):
            inner = getattr(kind, which).elem_type
            # onnx-ir asks a sequence for the type of its elements
            if inner.WhichOneof("value") is None or (
                inner.HasField("tensor_type") and not inner.tensor_type.HasField("elem_type")
            ):
                self._report(place, "what the sequence (or the optional value) holds", "nothing")
            self._type(inner, place)
        elif which == "map_type":
            self._data_type(kind.map_type.key_type, place)
            self._type(kind.map_type.value_type, place)

    def _data_type(self, number: int, place: str, *, undefined: bool = False) -> bool:
        """Whether a number is a data type of ONNX; ``undefined`` where it may be left open."""
        if number in _DATA_TYPES or (undefined and number == 0):
            return True
        self._report(place, "a data type of ONNX (1 is float, 7 int64, ...)", f"number {number}")
        return False

    # nodes

    def _node(self, node: onnx.NodeProto, within: str) -> None:
        place = f"{within}node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"
        self._names(place, (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output))
        self._text(place, node.doc_string)
        if node.metadata_props:
            self._metadata(place, node.metadata_props)
        if node.attribute:
            kinds = self._declared(node)
            for attribute in node.attribute:
                self._attribute(attribute, place, kinds.get(attribute.name) if kinds else None)

    def _declared(self, node: onnx.NodeProto) -> Mapping[str, str]:
        """The types that the standard gives this operator's attributes; none where it does not know the operator."""
        if isinstance(node.op_type, bytes) or isinstance(node.domain, bytes):
            return {}
        domain = _domain(node.domain)
        key = (domain, node.op_type, self._opsets.get(domain, 1))
        if key not in self._schemas:
            try:
                schema = onnx.defs.get_schema(node.op_type, key[2], domain)
            except onnx.defs.SchemaError:
                self._schemas[key] = {}
            else:
                self._schemas[key] = {n: str(a.type).rpartition(".")[2] for n, a in schema.attributes.items()}
        return self._schemas[key]

    def _attribute(self, attribute: onnx.AttributeProto, node: str, declared: str | None) -> None:
        place = f"{node}, attribute {attribute.name!r}"
        self._names(place, [attribute.name, attribute.ref_attr_name])
        self._text(place, attribute.doc_string)
        kind = _KIND_OF.get(attribute.type)
        if kind is None:
            self._report(place, "a type of attribute (1 is FLOAT, 2 INT, ...)", f"number {attribute.type}")
            return
        if declared is not None and kind != declared:
            self._report(place, declared, kind)
            return
        # inside a function an attribute may stand for one of the call
        if attribute.ref_attr_name:
            if not self._in_function:
                self._report(place, "a value, outside a function", f"a reference to {attribute.ref_attr_name!r}")
            return
        other = [name for name in _HOLDS if name != kind and _has(attribute, name)]
        if other:
            self._report(place, f"a value of its type, {kind}", f"a value of type {other[0]}")
        if kind == "GRAPH" and not attribute.HasField("g"):
            self._report(place, "a graph", "none")
        held = getattr(attribute, _HOLDS[kind])
        for value in [held] if kind in _SINGLE else held:
            if isinstance(value, onnx.TensorProto):
                self.tensor(value, place)
            elif isinstance(value, onnx.GraphProto):
                self.graph(value, place)
            elif isinstance(value, onnx.SparseTensorProto):
                self.sparse(value, place)
            elif isinstance(value, onnx.TypeProto):
                self._type(value, place)
            elif (
                kind == "STRINGS"
            ):  # a single STRING may be any bytes: operators of other domains keep whole engines in one
                self._utf8(place, value)

    def _utf8(self, place: str, text: bytes) -> None:
        try:
            text.decode()
        except UnicodeDecodeError:
            self._report(place, "text in UTF-8", f"{text[:40]!r}")

    # tensors

    def tensor(self, tensor: onnx.TensorProto, place: str, left: int | None = None) -> None:
        """The declared type and shape against the bytes that are there, or that were ``left`` in the file."""
        self._names(place, [tensor.name])
        self._text(place, tensor.doc_string)
        negative = [d for d in tensor.dims if d < 0]
        if negative:
            self._report(place, "lengths from 0 on", negative[0])
        if len(tensor.dims) > _MOST_DIMENSIONS:
            self._report(place, f"at most {_MOST_DIMENSIONS} dimensions", f"{len(tensor.dims)}")
            return
        # without these two nothing can be said of its size
        if not self._data_type(tensor.data_type, place) or negative:
            return
        if tensor.HasField("segment"):
            self._report(place, "a tensor in one piece", "a segment of one, which ONNX has given up")
            return
        dtype = ir.DataType(tensor.data_type)
        count = math.prod(tensor.dims)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            self._external(tensor, dtype, count, place)
            return
        shape = f"{dtype.name}{list(tensor.dims)}"
        own = _FIELD_OF.get(dtype, "int32_data")
        others = [name for name in _FIELDS if name != own and len(getattr(tensor, name))]
        if others:
            self._report(place, f"the values of {shape} in {own}", f"values in {', '.join(others)}")
            return
        stored = len(getattr(tensor, own))
        if left is not None or (tensor.HasField("raw_data") and dtype != ir.DataType.STRING and not stored):
            size = len(tensor.raw_data) if left is None else left
            if size != _bytes(dtype, count):
                self._report(place, f"{_bytes(dtype, count):,} bytes for {shape}", f"{size:,} bytes")
            return
        if stored and tensor.HasField("raw_data") and len(tensor.raw_data):
            self._report(place, "values once", f"both raw bytes and {own}")
        elif stored != _entries(dtype, count):
            self._report(place, f"{_entries(dtype, count):,} entries of {own} for {shape}", f"{stored:,}")
        elif dtype == ir.DataType.STRING:
            for text in tensor.string_data:
                self._utf8(place, text)

    def _data_file(self, tensor: onnx.TensorProto, place: str) -> Path:
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        what = f"the weights of {tensor.name or place!r}"
        return inside(self.folder, location, what=what, where=self.where, copied=self.folder)

    def _external(self, tensor: onnx.TensorProto, dtype: ir.DataType, count: int, place: str) -> None:
        """A file below the model's folder that holds the bytes; UnsafeModelError for one elsewhere."""
        if dtype == ir.DataType.STRING:
            self._report(place, "text inside the model", "text in a file of its own, which ONNX does not know")
            return
        # onnx.proto: location, offset and length as texts; without the last two, the file from its start to its end
        entries = {entry.key: entry.value for entry in tensor.external_data}
        self._text(place, *entries, *entries.values())
        path = self._data_file(tensor, place)
        needed = _bytes(dtype, count)
        offset = self._number(entries.get("offset", "0"), f"{place}, offset")
        length = self._number(entries.get("length", str(needed)), f"{place}, length")
        if offset is None or length is None:
            return
        if length != needed:
            shape = f"{dtype.name}{list(tensor.dims)}"
            self._report(place, f"{needed:,} bytes for {shape}", f"a length of {length:,} bytes")
            return
        missing = None
        if not path.exists():
            missing = "no such file"
        elif (size := regular_file(path, what=f"the data file of {place}").stat().st_size) < offset + needed:
            missing = f"{size:,} bytes"
        if missing is not None:
            raise UnreadableModelError(
                f"the weights of {tensor.name or place!r} are missing or cut short",
                where=self.where,
                expected=f"{path.name} beside the model, at least {offset + needed:,} bytes",
                found=missing,
                fix="copy the model together with its data file, whole",
            )

    def _number(self, text: str, place: str) -> int | None:
        if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20:
            return int(text)
        self._report(place, "a whole number of bytes", repr(text)[:60])
        return None

    def sparse(self, sparse: onnx.SparseTensorProto, place: str) -> None:
        """Values and the places at which they stand, within the declared shape."""
        self.tensor(sparse.values, f"{place}, values")
        self.tensor(sparse.indices, f"{place}, indices")
        dims, stored = list(sparse.dims), list(sparse.values.dims)
        if any(d < 0 for d in dims):
            self._report(place, "lengths from 0 on", dims)
        # onnx.proto, SparseTensorProto: linear places, or one row of coordinates a value
        if len(stored) != 1 or list(sparse.indices.dims) not in (stored, [*stored, len(dims)]):
            self._report(
                place,
                "values of shape [N] with indices of shape [N] or [N, rank]",
                f"{stored} with {list(sparse.indices.dims)}",
            )
        if sparse.indices.data_type != onnx.TensorProto.INT64:
            self._report(place, "indices of type INT64", f"data type {sparse.indices.data_type}")


_DATA_TYPES = frozenset(int(t) for t in ir.DataType if t != ir.DataType.UNDEFINED)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _has(attribute: onnx.AttributeProto, kind: str) -> bool:
    return attribute.HasField(_SINGLE[kind]) if kind in _SINGLE else bool(getattr(attribute, _HOLDS[kind]))


def _bytes(dtype: ir.DataType, count: int) -> int:
    """Bytes of so many elements, which may share one: two of four bits, four of two."""
    # rounded up to whole bytes
    return -(-count * dtype.bitwidth // 8)


def _entries(dtype: ir.DataType, count: int) -> int:
    """Entries of the typed field: two a complex number, one a byte of packed small ones, else one an element."""
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * count
    if dtype != ir.DataType.STRING and dtype.bitwidth in (2, 4):
        return _bytes(dtype, count)
    return count
