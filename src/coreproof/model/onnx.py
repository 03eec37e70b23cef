"""ONNX files, held in memory as onnx-ir: weights stay on disk until they are needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir
from google.protobuf.message import DecodeError

from coreproof.errors import UnreadableModelError, UnsafeModelError
from coreproof.model.atomic import replacing
from coreproof.model.base import Model
from coreproof.model.features import Feature, Shape, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.graph import Graph, Node, Value

_PROTOBUF_LIMIT = 2**31 - 1


class OnnxModel(Model):
    """An ONNX model; ``ir`` is its onnx-ir form.

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
    ) -> None:
        super().__init__(name, path, notes)
        self.ir = model
        self.feeding = feeding
        self.labels = labels
        self.provenance = dict(provenance or {})
        self._stored = stored

    @property
    def opset(self) -> int:
        """The opset of the standard operators, read from the file (never from what an exporter was asked for)."""
        return self.ir.opset_imports.get("", 0)

    @cached_property
    def signature(self) -> Signature:
        graph = self.ir.graph
        return Signature(
            inputs=tuple(_feature(v) for v in graph.inputs if v.name not in graph.initializers),
            outputs=tuple(_feature(v) for v in graph.outputs),
            labels=self.labels,
            metadata={k: v for k, v in (("producer", self.ir.producer_name or ""),) if v},
        )

    @cached_property
    def graph(self) -> Graph:
        return _read_graph(self.ir.graph)

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

    def save(self, path: str | Path) -> Path:
        """Writes one .onnx file; weights go to ``<name>.data`` beside it only beyond protobuf's limit of 2 GB.

        A model that comes from surgery keeps the bytes of all that was not changed; its external weights are copied along.
        """
        target = Path(path)
        if self._stored is not None:
            self._copy_external(target)
            with replacing(target) as fresh:
                fresh.write_bytes(self.stored())
            return target
        size = sum(v.const_value.nbytes for v in self.ir.graph.initializers.values() if v.const_value is not None)
        with replacing(target) as fresh:
            if size < _PROTOBUF_LIMIT * 0.9:
                ir.save(self.ir, fresh)
            else:
                data = target.with_name(target.name + ".data")
                ir.save(self.ir, fresh, external_data=data.name)
                (fresh.parent / data.name).replace(data)
        return target

    def _copy_external(self, target: Path) -> None:
        """Brings the files of external weights beside ``target``, under the names by which the model calls them."""
        files = {(Path(t.path), str(t.location)) for t in stored_tensors(self.ir) if isinstance(t, ir.ExternalTensor)}
        for source, location in sorted(files):
            data = target.parent / location
            if data.resolve() != source.resolve():
                with replacing(data) as fresh:
                    shutil.copyfile(source, fresh)


def load_onnx(path: Path) -> OnnxModel:
    """Reads a .onnx file; external data must lie beside it and be complete.

    Raises UnreadableModelError (not ONNX, cut short, weights missing), UnsafeModelError (weights elsewhere).
    """
    try:
        model = ir.load(path)
    except (DecodeError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _not_onnx(path, f"{path.stat().st_size} bytes that do not parse ({type(error).__name__})") from None
    if len(model.graph) == 0 and not model.graph.outputs:
        raise _not_onnx(path, "a file without nodes and outputs")
    for tensor in stored_tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            _check_external(tensor, path)
    return OnnxModel(model, name=path.stem, path=path)


def _not_onnx(path: Path, found: str) -> UnreadableModelError:
    return UnreadableModelError(
        "the file is not an ONNX model, or it is damaged",
        where=str(path),
        expected="an ONNX model (protobuf) with a graph",
        found=found,
        fix="check that the file's name says what it is; if it was copied or downloaded, do that again",
    )


def stored_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor that the model stores: initializers and attributes, in the graph, subgraphs and functions."""
    graphs = [model.graph, *(f.graph for f in model.functions.values())]
    for graph in graphs:
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph.all_nodes():
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor()
                elif attribute.type == ir.AttributeType.GRAPH:
                    for value in attribute.as_graph().initializers.values():
                        if value.const_value is not None:
                            yield value.const_value


def _check_external(tensor: ir.ExternalTensor, model_path: Path) -> None:
    folder = model_path.parent.resolve()
    data = (folder / tensor.location).resolve()
    if not data.is_relative_to(folder):
        raise UnsafeModelError(
            f"the weights of {tensor.name!r} point outside the model's folder",
            where=str(model_path),
            expected=f"a file below {folder}",
            found=str(tensor.location),
            fix="move the data file beside the model, and do not use the model unless you know who made it",
        )
    needed = int(tensor.offset or 0) + (int(tensor.length) if tensor.length else tensor.nbytes)
    size = data.stat().st_size if data.is_file() else None
    if size is None or size < needed or int(tensor.offset or 0) < 0:
        raise UnreadableModelError(
            f"the weights of {tensor.name!r} are missing or cut short",
            where=str(model_path),
            expected=f"{data.name} beside the model, at least {needed} bytes",
            found="no such file" if size is None else f"{size} bytes",
            fix="copy the model together with its data file, whole",
        )


# the read view


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


def _feature(value: ir.Value) -> Feature:
    kind: Any = "tensor" if value.type is None or isinstance(value.type, ir.TensorType) else "sequence"
    return Feature(value.name or "", kind, numpy_dtype(value.dtype), value_shape(value))


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
        names = tuple(note(v) for v in node.inputs)
        outputs = tuple(note(v) for v in node.outputs)
        nodes.append(
            Node(
                name=node.name or f"{node.op_type}:{outputs[0] if outputs else ''}",
                operator=node.op_type,
                domain=node.domain,
                inputs=names,
                outputs=outputs,
                attributes={k: _attribute(a) for k, a in node.attributes.items() if not _is_graph(a)},
                parameters={
                    v.name or "": (numpy_dtype(v.dtype) or "?", tuple(v.const_value.shape.numpy()))
                    for v in node.inputs
                    if v is not None and v.is_initializer() and v.const_value is not None
                },
                source=module_path(node),
                blocks=tuple(_read_graph(a.as_graph()) for a in node.attributes.values() if _is_graph(a)),
            )
        )
    return Graph(graph.name or "main", tuple(nodes), inputs, tuple(note(v) for v in graph.outputs), values)


def _is_graph(attribute: ir.Attr) -> bool:
    return bool(attribute.type == ir.AttributeType.GRAPH)


def _attribute(attribute: ir.Attr) -> Any:
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
    return (scopes[-2] if len(scopes) > 1 else scopes[-1]) or None
