"""ONNX files, held in memory as onnx-ir: weights stay on disk until they are needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from coreproof.errors import UnreadableModelError
from coreproof.model.base import Model
from coreproof.model.collector import note_when_dropped
from coreproof.model.coreml.noted_labels import noted_labels, noted_untrained
from coreproof.model.dictionary_tensors import keys_of, values_of
from coreproof.model.features import Feature, Shape, Signature
from coreproof.model.features import Kind as FeatureKind
from coreproof.model.feeding import Feeding
from coreproof.model.files.nesting import refuse_depth
from coreproof.model.files.outputs import ONNX, Kind
from coreproof.model.files.paths import inside, regular_file
from coreproof.model.formats.onnx import name_ir, nested_ir
from coreproof.model.graph import Graph, Node, Value
from coreproof.model.noted_feeding import noted_feeding
from coreproof.model.onnx.check import check_onnx
from coreproof.model.onnx.data_files import check_data_file, data_file, external_copies
from coreproof.model.onnx.left_in_file import read_message
from coreproof.model.onnx.read import in_memory, stored_tensors, to_ir
from coreproof.model.onnx.types import MapType, in_words, is_tensor

_PROTOBUF_LIMIT = 2**31 - 1


class OnnxModel(Model):
    """An ONNX model; ``ir`` is its onnx-ir form. ``folder`` is where its data files lie, also after it was edited.

    ``provenance`` maps values of this model to the values of the model that it was converted from, where known.
    """

    format = "onnx"

    def __init__(
        self,
        model: ir.Model,
        *,
        name: str,
        path: Path | None = None,
        notes: tuple[str, ...] = (),
        feeding: Feeding | None = None,
        labels: tuple[str, ...] | tuple[int, ...] | None = None,
        provenance: Mapping[str, str] | None = None,
        stored: Callable[[], bytes] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(name, path, notes)
        self.folder = folder if folder is not None or path is None else path.parent
        self.ir = model
        note_when_dropped(model)
        self.feeding = feeding or noted_feeding(model.metadata_props)
        self.labels = labels
        self.untrained = noted_untrained(model.metadata_props)
        self.provenance = dict(provenance or {})
        self._stored = stored

    def __getstate__(self) -> dict[str, object]:
        """What pickle keeps: of an edited model the bytes, in the place of the function that gives them."""
        return {**self.__dict__, "_stored": None if self._stored is None else partial(bytes, self._stored())}

    @property
    def opset(self) -> int:
        """The opset of the standard operators, read from the file (never from what an exporter was asked for)."""
        return self.ir.opset_imports.get("", 0)

    @cached_property
    def signature(self) -> Signature:
        """What the graph declares; an input with an initializer need not be fed, and is none."""
        graph, made = self.ir.graph, self.ir.producer_name == "coreproof"
        return Signature(
            # an input with an initializer has a default, and need not be fed
            inputs=_features([v for v in graph.inputs if v.name not in graph.initializers], made),
            outputs=_features(graph.outputs, made),
            labels=self.labels or _zipped_labels(graph) or noted_labels(self.ir.metadata_props),
            metadata={k: v for k, v in (("producer", self.ir.producer_name or ""),) if v},
        )

    @cached_property
    def graph(self) -> Graph:
        """The nodes of the graph, as they are stored."""
        return _read_graph(self.ir.graph)

    def with_graph(self, graph: ir.Model, stored: Callable[[], bytes]) -> OnnxModel:
        """The same model with another graph, whose bytes ``stored`` gives when they are asked for; it has no path yet."""
        model = OnnxModel(
            graph,
            name=self.name,
            notes=self.notes,
            feeding=self.feeding,
            labels=self.labels,
            stored=stored,
            folder=self.folder,
        )
        model.take_provenance(self)
        return model

    def stored(self) -> bytes:
        """The model as one ModelProto message: as it lies in its file, or as it was edited; external weights not included."""
        if self._stored is not None:
            return self._spelled
        if self.path is not None and self.path.is_file():
            return self.path.read_bytes()
        return bytes(ir.to_proto(self.ir).SerializeToString())

    @cached_property
    def _spelled(self) -> bytes:
        assert self._stored is not None
        return self._stored()

    def _kind(self, target: Path) -> Kind:
        return ONNX

    def check_place(self, target: Path, *, replace: bool = False) -> None:
        """Raises an error where the model, or a data file beside it, cannot be written."""
        super().check_place(target, replace=replace)
        if self._stored is not None:
            # its data files go along, under their own names
            external_copies(self.ir, target, replace=replace)
        elif not self._fits:
            check_data_file(data_file(target), target, replace=replace)

    def write(self, fresh: Path, target: Path) -> None:
        """Writes one .onnx file; weights go to ``<name>.data`` beside it only beyond protobuf's limit of 2 GB.

        A model that was edited keeps the bytes of all that was not changed; its external weights are copied along.
        ``save`` raises UnsafeModelError and OutputExistsError where those would land on what is not theirs.
        """
        if self._stored is not None:
            for source, name in external_copies(self.ir, target, replace=True):
                data = fresh.parent / name
                data.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, data)
            fresh.write_bytes(self.stored())
            return
        # weights that lie in files of the source would else be named, not written
        whole = in_memory(self.ir, initializers=self._fits)
        if self._fits:
            ir.save(whole, fresh)
        else:
            ir.save(whole, fresh, external_data=data_file(target).name)

    @property
    def _fits(self) -> bool:
        """Whether all weights go into one protobuf message."""
        # a tensor of texts does not say how many bytes it takes
        size = sum(t.nbytes for t in stored_tensors(self.ir) if t.dtype != ir.DataType.STRING)
        # the graph around the weights needs room as well
        return size < _PROTOBUF_LIMIT * 0.9


def load_onnx(path: Path) -> OnnxModel:
    """Reads a .onnx file; external data must lie beside it and be complete.

    Raises UnreadableModelError (not ONNX, cut short, weights missing), UnsafeModelError (weights elsewhere), TooLargeError.
    """
    try:
        message = read_message(regular_file(path, what="the model"))
    except DecodeError as error:
        refuse_depth(path.read_bytes(), onnx.ModelProto(), str(path))
        raise _not_onnx(path, f"{path.stat().st_size} bytes that do not parse ({error})") from error
    proto = message.proto
    # bytes of other formats may parse as a message of unknown fields; a model makes something
    if len(proto.graph.node) == 0 and not proto.graph.output:
        raise _not_onnx(path, "a file without nodes and outputs")
    check_onnx(proto, str(path), path.parent, {at: left.size for at, left in message.left.items()})
    return OnnxModel(to_ir(proto, str(path), path.parent, message.left), name=path.stem, path=path)


def from_message(proto: onnx.ModelProto) -> OnnxModel:
    """A ModelProto of the caller's, under the same checks as a file; its data files lie in the current folder.

    Raises UnreadableModelError, UnsafeModelError, TooLargeError.
    """
    name = proto.graph.name if isinstance(proto.graph.name, str) else ""
    check_onnx(proto, name or "the ModelProto", None)
    return OnnxModel(to_ir(proto, name or "the ModelProto"), name=name or "model")


def from_ir(model: ir.Model) -> OnnxModel:
    """An onnx-ir model of the caller's. Raises UnsafeModelError where its weights lie outside their own folder."""
    name = model.graph.name or "model"
    for tensor in stored_tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            folder = Path(tensor.base_dir) if tensor.base_dir else Path.cwd()
            inside(folder, str(tensor.location), what=f"the weights of {tensor.name!r}", where=name)
    return OnnxModel(model, name=name)


def _not_onnx(path: Path, found: str) -> UnreadableModelError:
    return UnreadableModelError(
        "the file is not an ONNX model, or it is damaged",
        where=str(path),
        expected="an ONNX model (protobuf) with a graph",
        found=found,
        fix="check that the file's name says what it is; if it was copied or downloaded, do that again",
    )


# the read view


@cache
def numpy_dtype(dtype: ir.DataType | None) -> str | None:
    """onnx-ir's dtype as a numpy dtype name; None where it is not known, "str" for strings."""
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return None
    return "str" if dtype == ir.DataType.STRING else str(dtype.numpy())


def value_shape(value: ir.Value) -> Shape | None:
    """A value's shape with names for symbolic dimensions; None where the rank is not known."""
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


def _features(values: Sequence[ir.Value], from_coreml: bool) -> tuple[Feature, ...]:
    """What these values are; of a model made of a Core ML one, keys and their values are one dictionary."""
    named = {value.name or "": value for value in values}
    found: dict[str, Feature] = {}
    for name, value in named.items():
        of = name.removesuffix(keys_of("")) if from_coreml else name
        if of != name and values_of(of) in named:
            held = MapType(value.dtype or ir.DataType.STRING, ir.DataType.DOUBLE)
            found[values_of(of)] = Feature(of, "dictionary", "float64", holds=in_words(held))
        elif name not in found:
            found[name] = _feature(value)
    return tuple(found.values())


def _feature(value: ir.Value) -> Feature:
    if is_tensor(value.type):
        return Feature(value.name or "", "tensor", numpy_dtype(value.dtype), value_shape(value))
    held = value.type
    optional = isinstance(held, ir.OptionalType)
    if isinstance(held, ir.OptionalType):
        held = held.elem_type
    name, dtype = value.name or "", numpy_dtype(None if held is None else held.dtype)
    if is_tensor(held):
        return Feature(name, "tensor", dtype, value_shape(value), optional=True)
    kind: FeatureKind = "dictionary" if isinstance(held, MapType) else "sequence"
    return Feature(name, kind, dtype, value_shape(value), optional=optional, holds=in_words(held))


def _zipped_labels(graph: ir.Graph) -> tuple[str, ...] | tuple[int, ...] | None:
    """The class labels that a ZipMap gives the scores of an output, in the order of the scores."""
    for value in graph.outputs:
        maker = value.producer()
        if maker is not None and maker.op_type == "ZipMap" and maker.domain == "ai.onnx.ml":
            held = maker.attributes
            texts, numbers = held.get_strings("classlabels_strings", ()), held.get_ints("classlabels_int64s", ())
            return tuple(map(str, texts)) or tuple(map(int, numbers)) or None
    return None


def _read_graph(graph: ir.Graph) -> Graph:
    values: dict[str, Value] = {}

    def note(value: ir.Value | None) -> str:
        if value is None or not value.name:
            return ""
        if value.name not in values:
            values[value.name] = Value(
                value.name, numpy_dtype(value.dtype), value_shape(value), constant=value.is_initializer()
            )
        return value.name

    inputs = tuple(note(v) for v in graph.inputs if v.name not in graph.initializers)
    nodes = []
    for node in graph:
        nodes.append(
            Node(
                name=name_ir(node),
                operator=node.op_type,
                domain=node.domain,
                inputs=tuple(note(v) for v in node.inputs),
                outputs=tuple(note(v) for v in node.outputs),
                attributes={k: _attribute(a) for k, a in node.attributes.items() if not _is_graph(a)},
                parameters={
                    v.name or "": (numpy_dtype(v.dtype) or "?", tuple(v.const_value.shape.numpy()))
                    for v in node.inputs
                    if v is not None and v.is_initializer() and v.const_value is not None
                },
                source=module_path(node),
                blocks=tuple(map(_read_graph, nested_ir(node))),
            )
        )
    return Graph(graph.name or "main", tuple(nodes), inputs, tuple(note(v) for v in graph.outputs), values)


def _is_graph(attribute: ir.Attr) -> bool:
    return bool(attribute.type == ir.AttributeType.GRAPH)


def _attribute(attribute: ir.Attr) -> object:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        return tensor.numpy().tolist() if tensor.size <= 8 else f"{numpy_dtype(tensor.dtype)}{list(tensor.shape)}"
    return tuple(attribute.value) if isinstance(attribute.value, list) else attribute.value


def module_path(node: ir.Node) -> str | None:
    """The PyTorch module that a node came from ("layer1.0.conv1"), as torch.onnx.export notes it; None elsewhere.

    The ``namespace`` entry reads ": Class/layer1: Class/layer1.0: Class/.../operator: target". A node that a fusion
    made (BatchNorm folded into a convolution) carries the namespace of the last part; its weight names the first.
    """
    namespace = node.metadata_props.get("namespace")
    if not namespace:
        return None
    for value in node.inputs:
        if value is not None and value.is_initializer() and (value.name or "").endswith(".weight"):
            return (value.name or "").removesuffix(".weight")
    scopes = [part.split(": ", 1)[0] for part in namespace.split("/")]
    # the last scope is the operator itself, the one before it the module
    return (scopes[-2] if len(scopes) > 1 else scopes[-1]) or None
