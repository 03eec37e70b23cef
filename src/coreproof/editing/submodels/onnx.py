"""Cuts an ONNX model: the nodes that are kept, the initializers that they read, inputs and outputs with their types."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from coreproof.editing.submodels.submodel import Submodel, SubmodelBuilder, bypasses, layers_of
from coreproof.model.files.wire import reserialise
from coreproof.model.formats import onnx as stored
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.onnx.read import to_ir
from coreproof.model.onnx.shapes import inferred, light_proto


class OnnxSubmodelBuilder(SubmodelBuilder):
    """Works on the messages of nodes and weights as they are stored, so that a cut costs what is kept and keeps its bytes."""

    model: OnnxModel

    def _read(self) -> None:
        model, graph = self.model, self.model.ir.graph
        self._types = _types(light_proto(model.ir))
        self._proto = onnx.ModelProto.FromString(model.stored())
        constants = set(graph.initializers)
        nodes, names = self._proto.graph.node, map(stored.name_ir, graph)
        self.layers = layers_of(nodes, names, lambda node: node.op_type, stored.reads, stored.writes, constants)
        self.inputs = tuple(v.name or "" for v in graph.inputs if v.name not in constants)
        self.whole_outputs = tuple(v.name or "" for v in graph.outputs)
        # element types that numpy has no name for (and sequences, maps) can be neither fed nor compared
        numpy_has = helper.get_all_tensor_dtypes()
        tensors = {n: t.tensor_type for n, t in self._types.items() if t.HasField("tensor_type")}
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.elem_type in numpy_has}
        self.shapes = {name: shape for name, tensor in tensors.items() if (shape := _shape(tensor)) is not None}
        self.dtypes = {name: str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)) for name, tensor in tensors.items()}

    def can_feed(self, name: str) -> bool:
        """A tensor of any shape: lengths that are not fixed keep their names."""
        return name in self._made and name in self.dtypes and self._types[name].tensor_type.HasField("shape")

    def learn(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Notes shape and dtype of a value, and the type that an input of it is declared with."""
        super().learn(name, shape, dtype)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtypes[name]))
        self._types[name] = helper.make_tensor_type_proto(element, shape)

    def build(self, submodel: Submodel) -> OnnxModel:
        """The sub-model with the weights that it reads, and no others; weights in files of their own stay there."""
        model, whole = self.model, self._proto
        cut, around = self.select(submodel), bypasses(submodel)
        proto = onnx.ModelProto()
        for descriptor, value in whole.ListFields():
            # all but the graph is copied: opsets, functions, metadata
            if descriptor.name != "graph" and descriptor.is_repeated:
                getattr(proto, descriptor.name).extend(value)
            elif descriptor.name != "graph":
                setattr(proto, descriptor.name, value)
        graph = proto.graph
        graph.name, graph.doc_string = whole.graph.name, whole.graph.doc_string
        graph.metadata_props.extend(whole.graph.metadata_props)
        graph.node.extend(layer.message for layer in cut.layers if isinstance(layer.message, onnx.NodeProto))
        for node in graph.node:
            stored.rename_reads(node, around)
        read = {name for node in graph.node for name in stored.reads(node)}.union(cut.outputs)
        graph.initializer.extend(held for held in whole.graph.initializer if held.name in read)
        graph.sparse_initializer.extend(held for held in whole.graph.sparse_initializer if held.values.name in read)
        # the oldest versions list weights among the inputs
        graph.input.extend(i for i in whole.graph.input if i.name in read and i.name not in self.inputs)
        for name in cut.inputs:
            graph.input.append(self._value(name, dict(submodel.shapes).get(name)))
        for name in cut.outputs:
            graph.output.append(onnx.ValueInfoProto(name=name) if submodel.shapes else self._value(name, None))
        if submodel.shapes:
            # other lengths at the inputs make others everywhere behind: what was noted of inner values is left out
            known = {v.name: v for v in inferred(proto, data=False).graph.output}
            for output in graph.output:
                output.CopyFrom(known[output.name])
        # what is read in the place of a skipped layer may have another shape than was noted
        elif not around:
            inner = {name for layer in cut.layers for name in layer.makes}.difference(cut.outputs)
            graph.value_info.extend(v for v in whole.graph.value_info if v.name in inner)
            graph.quantization_annotation.extend(
                q for q in whole.graph.quantization_annotation if q.tensor_name in read | inner
            )
        graph_ir = to_ir(proto, model.name, model.folder)
        return model.with_graph(graph_ir, lambda: reserialise(model.stored(), proto))

    def _value(self, name: str, shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
        value = onnx.ValueInfoProto(name=name)
        declared = next((v for v in (*self._proto.graph.input, *self._proto.graph.output) if v.name == name), None)
        if declared is not None:
            value.CopyFrom(declared)
        elif name in self._types:
            value.type.CopyFrom(self._types[name])
        dims = value.type.tensor_type.shape.dim
        if shape is not None:
            del dims[:]
            for length in shape:
                dims.add(dim_value=length)
        return value


def _types(light: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """The types of inputs, initializers and every value that inference reaches."""
    found = inferred(light)
    types = {v.name: v.type for v in (*light.graph.input, *found.graph.value_info)}
    types |= {v.name: v.type for v in (*light.graph.output, *found.graph.output)}
    return {name: t for name, t in types.items() if t.WhichOneof("value") is not None}


def _shape(tensor: onnx.TypeProto.Tensor) -> tuple[int, ...] | None:
    """Fixed lengths only."""
    if not tensor.HasField("shape") or any(d.WhichOneof("value") != "dim_value" for d in tensor.shape.dim):
        return None
    return tuple(int(d.dim_value) for d in tensor.shape.dim)
