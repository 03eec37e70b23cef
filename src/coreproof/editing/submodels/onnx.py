"""Cuts an ONNX model: the nodes that are kept, the initializers that they read, inputs and outputs with their types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from coreproof.editing.submodels.submodel import Layer, Submodel, SubmodelBuilder, bypasses
from coreproof.model.base import Model
from coreproof.model.formats import onnx as stored
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.onnx.read import to_ir
from coreproof.model.onnx.shapes import inferred, light_proto


class OnnxSubmodelBuilder(SubmodelBuilder):
    """Works on protobufs of single nodes and weights, so that a cut costs what is kept."""

    _nodes: dict[str, Any]
    _types: dict[str, Any]
    _shell: Any

    @classmethod
    def of(cls, model: Model) -> OnnxSubmodelBuilder:
        """Reads the nodes and infers the types of values once."""
        assert isinstance(model, OnnxModel)
        light = light_proto(model.ir)
        types = _types(light)
        graph = model.ir.graph
        constants = set(graph.initializers)
        nodes, layers = {}, []
        for node, proto in zip(graph, light.graph.node, strict=True):
            name = stored.name_ir(node)
            while name in nodes:
                name += "#"
            nodes[name] = proto
            reads = tuple(dict.fromkeys(n for n in stored.reads(proto) if n not in constants))
            layers.append(Layer(name, proto.op_type, reads, tuple(stored.writes(proto))))
        dtypes = helper.get_all_tensor_dtypes()
        known = {n: t for n, t in types.items() if t.HasField("tensor_type") and t.tensor_type.elem_type in dtypes}
        found = cls(
            model,
            tuple(layers),
            tuple(v.name or "" for v in graph.inputs if v.name not in constants),
            tuple(v.name or "" for v in graph.outputs),
            {name: shape for name, t in known.items() if (shape := _shape(t)) is not None},
            {name: str(helper.tensor_dtype_to_np_dtype(t.tensor_type.elem_type)) for name, t in known.items()},
        )
        found._nodes, found._types, found._shell = nodes, types, light
        return found

    def can_feed(self, name: str) -> bool:
        """A tensor of any shape: lengths that are not fixed keep their names."""
        return name in self._makers and name in self.dtypes and self._types[name].tensor_type.HasField("shape")

    def learn(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        super().learn(name, shape, dtype)
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtypes[name]))
        self._types[name] = helper.make_tensor_type_proto(element, shape)

    def build(self, submodel: Submodel) -> OnnxModel:
        """The sub-model with the weights that it reads, and no others."""
        assert isinstance(self.model, OnnxModel)
        cut, around = self.select(submodel), bypasses(submodel)
        proto = onnx.ModelProto(ir_version=self._shell.ir_version)
        proto.opset_import.extend(self._shell.opset_import)
        proto.functions.extend(self._shell.functions)
        graph = proto.graph
        graph.name = self._shell.graph.name
        graph.node.extend(self._nodes[layer.name] for layer in cut.layers)
        for node in graph.node:
            stored.rename_reads(node, around)
        weights = self.model.ir.graph.initializers
        read = dict.fromkeys(name for node in graph.node for name in stored.reads(node) if name in weights)
        for name in [*read, *(o for o in cut.outputs if o in weights and o not in read)]:
            tensor = weights[name].const_value
            if tensor is not None:
                graph.initializer.append(_stored(tensor, name))
        for name in cut.inputs:
            graph.input.append(self._value(name, dict(submodel.shapes).get(name)))
        for name in cut.outputs:
            graph.output.append(onnx.ValueInfoProto(name=name) if submodel.shapes else self._value(name, None))
        if submodel.shapes:
            known = {v.name: v for v in inferred(proto, data=False).graph.output}
            for output in graph.output:
                output.CopyFrom(known[output.name])
        made = to_ir(proto, self.model.name, self.model.folder)
        return OnnxModel(made, name=self.model.name, feeding=self.model.feeding, folder=self.model.folder)

    def _value(self, name: str, shape: tuple[int, ...] | None) -> Any:
        value = onnx.ValueInfoProto(name=name)
        if name in self._types:
            value.type.CopyFrom(self._types[name])
        dims = value.type.tensor_type.shape.dim
        if shape is not None:
            del dims[:]
            for length in shape:
                dims.add(dim_value=length)
        return value


def _types(light: onnx.ModelProto) -> dict[str, Any]:
    """The types of inputs, initializers and every value that inference reaches."""
    found = inferred(light)
    types = {v.name: v.type for v in (*light.graph.input, *found.graph.value_info)}
    types |= {v.name: v.type for v in (*light.graph.output, *found.graph.output)}
    return {name: t for name, t in types.items() if t.WhichOneof("value") is not None}


def _stored(tensor: Any, name: str) -> Any:
    """A weight with its bytes, under the name that the graph knows it by."""
    if tensor.dtype == ir.DataType.STRING:  # NumPy holds texts as objects, which have no bytes
        return ir.to_proto(ir.StringTensor(tensor.numpy().reshape(-1).tolist(), shape=tensor.shape, name=name))
    return ir.to_proto(ir.Tensor(tensor.numpy(), name=name, dtype=tensor.dtype))


def _shape(value_type: Any) -> tuple[int, ...] | None:
    """Fixed lengths only."""
    tensor = value_type.tensor_type
    if not tensor.HasField("shape") or any(d.WhichOneof("value") != "dim_value" for d in tensor.shape.dim):
        return None
    return tuple(int(d.dim_value) for d in tensor.shape.dim)
