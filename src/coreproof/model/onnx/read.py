"""From ONNX's message to onnx-ir, whose readers raise whatever they like: here it becomes one error that names the file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

import coreproof.model.onnx.types  # noqa: F401 - teaches onnx-ir the types that it does not read
from coreproof.errors import CoreproofError, UnreadableModelError
from coreproof.model.budget import afford
from coreproof.model.formats import onnx as stored
from coreproof.model.onnx.left_in_file import LeftInFile
from coreproof.model.onnx.omitted_outputs import name_required

_LOGGER = logging.getLogger("onnx_ir.serde")


def to_ir(
    proto: onnx.ModelProto, where: str, folder: Path | None = None, left: Mapping[int, LeftInFile] | None = None
) -> ir.Model:
    """The onnx-ir form of a message that ``check_onnx`` has passed; ``folder`` is where its data files lie.

    ``left`` are initializers of the graph whose bytes are not in the message, by their place there.

    Sparse tensors are made dense, within the memory budget; types that only say that they are not known go; outputs that a node
    leaves out although its operator has to have them get a name.

    Raises UnreadableModelError with what onnx-ir says, TooLargeError.
    """
    with _boundary(where):
        model = ir.from_proto(name_required(_dense(proto, where)))
    for at, in_file in (left or {}).items():
        value = model.graph.initializers[proto.graph.initializer[at].name]
        assert value.const_value is not None
        value.const_value = in_file.tensor(value.const_value)
    for graph in (model.graph, *(f.graph for f in model.functions.values())):
        _settle(graph)
    for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
        # the standard's own domain has two names; onnx-ir knows nodes by the short one
        if (version := imports.pop("ai.onnx", None)) is not None:
            imports.setdefault("", version)
    if folder is not None:
        for tensor in stored_tensors(model):
            if isinstance(tensor, ir.ExternalTensor):
                # onnx-ir would look for it in the folder of the process
                tensor.base_dir = folder
    return model


@contextmanager
def _boundary(where: str) -> Iterator[None]:
    # onnx-ir logs outputs that nobody makes; the doctor reports them, and between two edits they are normal
    level = _LOGGER.level
    _LOGGER.setLevel(logging.ERROR)
    try:
        yield
    except CoreproofError:
        raise
    except Exception as error:  # onnx-ir wraps what its readers raise, of every class, in one of its own
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        raise UnreadableModelError(
            "the file is not an ONNX model that can be read, or it is damaged",
            where=where,
            expected="a graph of nodes, values and tensors as ONNX defines them",
            found=str(root).splitlines()[0][:200] if str(root) else type(root).__name__,
            fix="export the model again; if it was copied or downloaded, do that again",
        ) from error
    finally:
        _LOGGER.setLevel(level)


def _settle(graph: ir.Graph) -> None:
    """Types that say nothing go, and how nodes are spread over devices: one machine runs them here."""
    for value in (*graph.inputs, *graph.outputs, *(v for node in graph for v in node.outputs)):
        if isinstance(value.type, ir.TensorType) and value.type.dtype == ir.DataType.UNDEFINED:
            value.type = None
    for node in graph:
        node.device_configurations = ()
        for inner in stored.nested_ir(node):
            _settle(inner)


def stored_tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor that the model stores: initializers and attributes, in the graph, nested graphs and functions."""
    for graph in (model.graph, *(f.graph for f in model.functions.values())):
        yield from _tensors_of(graph)


def _tensors_of(graph: ir.Graph) -> Iterator[ir.TensorProtocol]:
    for value in graph.initializers.values():
        if value.const_value is not None:
            yield value.const_value
    for node in graph:
        for attribute in node.attributes.values():
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                yield attribute.as_tensor()
            elif attribute.type == ir.AttributeType.TENSORS:
                yield from attribute.as_tensors()
        for inner in stored.nested_ir(node):
            yield from _tensors_of(inner)


def in_memory(model: ir.Model, *, initializers: bool) -> ir.Model:
    """A copy of which no tensor of an attribute or of a nested graph lies in a file of its own; ``model`` if that is so already.

    ``initializers``: those of the graph itself too. Otherwise they stay where they are and are mapped when they are read.
    """
    # by identity: two tensors may have one name in nested graphs
    own = {id(v.const_value) for v in model.graph.initializers.values()}
    files = [t for t in stored_tensors(model) if isinstance(t, ir.ExternalTensor)]
    if not any(initializers or id(tensor) not in own for tensor in files):
        return model
    with _boundary(model.graph.name or "the model"):
        copy = model.clone()
    for graph in (copy.graph, *(f.graph for f in copy.functions.values())):
        _bring_in(graph, initializers or graph is not copy.graph)
    return copy


def _bring_in(graph: ir.Graph, initializers: bool) -> None:
    for value in graph.initializers.values() if initializers else ():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = _brought(value.const_value)
    for node in graph:
        for name, attribute in list(node.attributes.items()):
            if attribute.is_ref():
                continue
            if attribute.type == ir.AttributeType.TENSOR:
                node.attributes[name] = ir.AttrTensor(name, _brought(attribute.as_tensor()))
            elif attribute.type == ir.AttributeType.TENSORS:
                node.attributes[name] = ir.AttrTensors(name, [_brought(t) for t in attribute.as_tensors()])
        for inner in stored.nested_ir(node):
            _bring_in(inner, True)


def _brought(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)


# sparse tensors, which onnx-ir leaves out


def _dense(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The message with dense tensors in place of sparse ones; the message itself where it has none."""
    if not any(graph.sparse_initializer or any(_sparse_constants(graph)) for graph in stored.graphs(proto.graph)):
        return proto
    dense = onnx.ModelProto()
    dense.CopyFrom(proto)
    for graph in stored.graphs(dense.graph):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_dense_tensor(sparse, sparse.values.name, where))
        del graph.sparse_initializer[:]
        for node, attribute in _sparse_constants(graph):
            tensor = _dense_tensor(attribute.sparse_tensor, f"{node.output[0] if node.output else ''}", where)
            attribute.CopyFrom(onnx.helper.make_attribute("value", tensor))
    return dense


def _sparse_constants(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.AttributeProto]]:
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                yield node, attribute


def _dense_tensor(sparse: onnx.SparseTensorProto, name: str, where: str) -> onnx.TensorProto:
    dims = list(sparse.dims)
    what = f"sparse tensor {name!r}, made dense,"
    if onnx.TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        raise UnreadableModelError(
            f"sparse tensor {name!r} lies in a file of its own", where=where, fix="store it dense"
        )
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    afford(what, dims, values.itemsize, where=where)
    whole = np.zeros(dims, values.dtype)
    try:
        if indices.ndim == 1:
            # onnx.proto, SparseTensorProto: [N] are places in row-major order, [N, rank] coordinates
            whole.reshape(-1)[indices] = values
        else:
            whole[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise UnreadableModelError(
            f"sparse tensor {name!r} has values outside its shape",
            where=where,
            expected=f"places within {dims}",
            found=error,
        ) from error
    return numpy_helper.from_array(whole, name)
