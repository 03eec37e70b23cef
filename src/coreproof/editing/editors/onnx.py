"""OnnxEditor: edits the protobuf of an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import AttributeProto, helper, numpy_helper
from onnx.defs import OpSchema

from coreproof.editing.editor import Editor, NewLayer
from coreproof.editing.interface import Interface, Reshaped, Retyped, place_of
from coreproof.errors import EditError
from coreproof.model.base import Model
from coreproof.model.files.wire import reserialise
from coreproof.model.formats import onnx as message
from coreproof.model.formats.free_name import free_name
from coreproof.model.graph import Node
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.onnx.read import to_ir
from coreproof.model.onnx.shapes import inferred, light_proto


class OnnxEditor(Editor, Interface):
    """An ONNX model being edited. External weights stay where they are; weights that are set come into the file itself.

    One message holds nodes and features, so that the editor is its own interface.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._bytes = self._origin.stored()

    def reopen(self, model: Model) -> None:
        assert isinstance(model, OnnxModel)
        self.interface = self
        self._origin = model
        self._proto = onnx.ModelProto.FromString(model.stored())
        self._opsets = {o.domain: o.version for o in self._proto.opset_import}
        self._view: OnnxModel | None = None
        self._touched: set[str] = set()

    @property
    def model(self) -> OnnxModel:
        if self._view is None:
            self._view = self._model(self._proto.SerializeToString)
        return self._view

    def _model(self, stored: Callable[[], bytes]) -> OnnxModel:
        return self._origin.with_graph(to_ir(self._proto, self._origin.name, self._origin.folder), stored)

    def close(self) -> OnnxModel:
        self._forget_stale_types()
        # spelled when it is asked for: most edited models are trials that are never written
        return self._model(lambda: reserialise(self._bytes, self._proto))

    def _changed(self, *values: str) -> None:
        self._view = None
        self._touched.update(values)

    def _forget_stale_types(self) -> None:
        """Types that were noted for values behind an edit go, unless inference finds them again."""
        graph = self._proto.graph
        # nodes stand behind what they read, so that one pass finds all that follows
        behind = set(self._touched)
        for node in graph.node:
            if behind.intersection(node.input):
                behind.update(node.output)
        if not behind.intersection(v.name for v in graph.value_info):
            return
        inferred = {v.name: v.type for v in self._inferred().value_info}
        # from the end, so that the places in front stay what they are
        for place in reversed(range(len(graph.value_info))):
            noted = graph.value_info[place]
            if noted.name in behind and inferred.get(noted.name) != noted.type:
                del graph.value_info[place]

    # layers

    def _find(self, layer: str) -> tuple[int, onnx.NodeProto]:
        name = self.node(layer).name
        for index, node in enumerate(self._proto.graph.node):
            if message.name(node) == name:
                return index, node
        raise AssertionError(name)

    def remove(self, layer: str) -> None:
        index, node = self._find(layer)
        made, read = list(node.output), list(node.input)
        del self._proto.graph.node[index]
        self._changed(*made)
        self._drop_unread(read)

    def set_inputs(self, layer: str, inputs: Sequence[str]) -> None:
        _, node = self._find(layer)
        before = list(node.input)
        for name in inputs:
            if name and name not in before:
                self.require_value(name)
        node.input[:] = list(inputs)
        self._changed(*node.output)
        self._drop_unread(before)

    def redirect(self, value: str, to: str, readers: Sequence[Node]) -> None:
        if readers:
            self.require_value(to)
        wanted = {reader.name for reader in readers}
        for node in self._proto.graph.node:
            if message.name(node) in wanted and value in node.input:
                node.input[:] = [to if name == value else name for name in node.input]
                self._changed(*node.output)
        self._drop_unread([value])

    def set_outputs(self, layer: str, outputs: Sequence[str]) -> None:
        _, node = self._find(layer)
        self._changed(*node.output, *outputs)
        node.output[:] = list(outputs)

    def add(self, layer: NewLayer, after: str | None) -> None:
        schema = self._schema(layer.operator)
        given = layer.reads
        if isinstance(layer.inputs, Mapping):
            formal = [p.name for p in schema.inputs]
            by_place = {formal.index(key): value for key, value in layer.inputs.items()}
            given = [by_place.get(place, "") for place in range(max(by_place) + 1)]
        node = onnx.NodeProto(name=layer.name, op_type=layer.operator, input=given, output=layer.outputs)
        index = 0 if after is None else self._find(after)[0] + 1
        self._proto.graph.node.insert(index, node)
        try:
            for key, value in layer.attributes.items():
                self._assign(self._proto.graph.node[index], schema, key, value)
        except EditError:
            del self._proto.graph.node[index]
            raise
        self._changed(*layer.outputs)

    def set(self, layer: str, attribute: str, value: object) -> None:
        _, node = self._find(layer)
        self._assign(node, self._schema(node.op_type, node.domain), attribute, value)
        self._changed(*node.output)

    def _schema(self, operator: str, domain: str = "") -> OpSchema:
        version = self._opsets.get(domain, 1)
        try:
            return onnx.defs.get_schema(operator, version, domain)
        except onnx.defs.SchemaError:
            raise EditError(
                f"there is no operator {operator!r} in opset {version}{f' of {domain}' if domain else ''}",
                fix="ONNX's operators are listed at onnx.ai/onnx/operators",
            ) from None

    def _assign(self, node: onnx.NodeProto, schema: OpSchema, key: str, value: object) -> None:
        """An attribute, or an input that holds a constant: by its formal name ("B"), or the initializer's own."""
        if key in schema.attributes:
            self._assign_attribute(node, schema.attributes[key], value)
            return
        read, formal = list(node.input), [p.name for p in schema.inputs]
        if key not in read and key not in formal:
            raise EditError(
                f"{node.op_type} has no attribute and no weight {key!r}",
                where=f"layer {message.name(node)!r}",
                expected=", ".join([*schema.attributes, *formal]),
                found=key,
            )
        self._assign_input(node, (read if key in read else formal).index(key), key, value)

    def _assign_attribute(self, node: onnx.NodeProto, known: OpSchema.Attribute, value: object) -> None:
        for index, attribute in enumerate(node.attribute):
            if attribute.name == known.name:
                del node.attribute[index]
                break
        if value is None:
            return
        called = str(known.type).rpartition(".")[2]
        kind = AttributeProto.AttributeType.Value(called)
        if kind == AttributeProto.TENSOR:
            value = numpy_helper.from_array(np.asarray(value), known.name)
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        # make_attribute goes by Python's type alone, and would store 2 for a float as an integer
        convert: Callable[[object], object] = {"FLOAT": float, "INT": int, "STRING": str}.get(called, _as_given)
        try:
            made = helper.make_attribute(known.name, convert(value), attr_type=kind)
        except (TypeError, ValueError):
            raise EditError(
                f"{known.name!r} takes another kind of value", expected=called.lower(), found=value
            ) from None
        node.attribute.append(made)

    def _assign_input(self, node: onnx.NodeProto, place: int, key: str, value: object) -> None:
        """A constant at one place of a node's inputs: in its own initializer if nothing else reads it, else in a new one."""
        graph = self._proto.graph
        # an empty name stands for an optional input that is left out; at the end there are none
        while len(node.input) <= place:
            node.input.append("")
        before = node.input[place]
        if value is None:
            node.input[place] = ""
            while node.input and not node.input[-1]:
                del node.input[-1]
            self._drop_unread([before])
            return
        stored = self._constant(before)
        array = np.asarray(value)
        if stored is not None:
            # an operand's dtype is part of the operator's types: another one would not fit the others
            array = array.astype(stored.dtype)
        elif array.dtype.kind in "iu":
            array = array.astype(np.int64)  # what operators take for axes, shapes and indices
        elif array.dtype == np.float64:
            array = array.astype(np.float32)  # Python's floats, of which few are meant as double
        owners = {initializer.name: initializer for initializer in graph.initializer}
        readers = sum(name == before for n in message.nodes(graph.node) for name in n.input)
        if stored is not None and readers == 1 and (owner := owners.get(before)) is not None:
            owner.CopyFrom(numpy_helper.from_array(array, before))
            return
        name = self._free(before or f"{message.name(node)}.{key}")
        graph.initializer.append(numpy_helper.from_array(array, name))
        node.input[place] = name
        self._drop_unread([before])

    def _constant(self, name: str) -> np.ndarray | None:
        """The array behind a name: an initializer, or what a Constant node holds; None for anything that is computed."""
        if not name:
            return None
        value = self.model.ir.graph.initializers.get(name)
        if value is not None and value.const_value is not None:
            return value.const_value.numpy()
        for node in self._proto.graph.node:
            if node.op_type == "Constant" and name in node.output:
                return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None)
        return None

    def _free(self, wish: str) -> str:
        return free_name(wish, {i.name for i in self._proto.graph.initializer} | set(self.graph.values))

    def _drop_unread(self, names: Sequence[str]) -> None:
        """Initializers that only a changed layer read go with it."""
        graph = self._proto.graph
        read = {name for node in message.nodes(graph.node) for name in node.input} | {o.name for o in graph.output}
        for index in reversed(range(len(graph.initializer))):
            name = graph.initializer[index].name
            if name in names and name not in read:
                del graph.initializer[index]

    # names

    def rename_layer(self, old: str, new: str) -> None:
        _, node = self._find(old)
        node.name = new
        self._view = None

    def rename_value(self, old: str, new: str) -> None:
        self.require_value(old)
        self.require_free(new)
        message.rename(self._proto.graph, {old: new})
        self._view = None

    # features

    def set_output(self, value: str, instead_of: str | None = None) -> None:
        self.require_value(value)
        outputs = self._proto.graph.output
        # a declared type first: inference takes a pass over the whole graph
        known = {v.name: v for v in (*self._proto.graph.value_info, *outputs, *self._proto.graph.input)}
        if value not in known:
            known.update({v.name: v for v in self._inferred().value_info})
        declared = onnx.ValueInfoProto()
        declared.CopyFrom(known.get(value, onnx.ValueInfoProto(name=value)))
        place = next((output for output in outputs if output.name == instead_of), None) or outputs.add()
        place.CopyFrom(declared)
        self._view = None

    def drop_output(self, name: str) -> None:
        outputs = self._proto.graph.output
        del outputs[place_of(outputs, name, "output", self._origin.name)]
        self._view = None

    def set_input(self, value: str, shape: Sequence[int], dtype: str) -> None:
        element = int(ir.DataType.from_numpy(np.dtype(dtype)))
        inputs = self._proto.graph.input
        place = next((feature for feature in inputs if feature.name == value), None) or inputs.add()
        place.CopyFrom(helper.make_tensor_value_info(value, element, list(shape)))
        self._changed(value)

    def retype(self, feature: str, to: Retyped) -> None:
        """ONNX knows arrays only: the dtype is what can be changed, by a Cast behind the input or before the output."""
        if to.dtype is None or to != Retyped(kind=to.kind, dtype=to.dtype) or to.kind not in (None, "tensor"):
            raise EditError(
                "an ONNX model takes and gives arrays only",
                where=f"feature {feature!r}",
                expected="dtype",
                fix="convert it to Core ML with the image input: coreproof convert --image",
            )
        graph, dtype = self._proto.graph, to.dtype
        features = [*graph.input, *graph.output]
        declared = features[place_of(features, feature, "feature", self._origin.name)]
        try:
            wanted = int(ir.DataType.from_numpy(np.dtype(dtype)))
        except TypeError:
            raise EditError(f"there is no dtype {dtype!r}", expected="float16, float32, int32, ...") from None
        stored = declared.type.tensor_type.elem_type
        if stored == wanted:
            return
        name, inner = self._free(f"{feature}_as_{dtype}"), self._free(f"{feature}_inner")
        if feature in self.graph.inputs:
            readers = list(self.graph.consumers(feature))
            self.add(NewLayer("Cast", name, [feature], [inner], {"to": stored}), None)
            self.redirect(feature, inner, readers)
        else:
            # the output keeps its name; what made it makes an inner value for all that read it within
            maker = self.node(feature)
            for node in (maker, *self.graph.consumers(feature)):
                _, stored_node = self._find(node.name)
                for names in (stored_node.input, stored_node.output):
                    names[:] = [inner if n == feature else n for n in names]
            self._changed(feature, inner)
            self.add(NewLayer("Cast", name, [inner], [feature], {"to": wanted}), maker.name)
        declared.type.tensor_type.elem_type = wanted
        self._view = None

    def reshape(self, feature: str, to: Reshaped) -> None:
        """A length that may vary becomes a free dimension: ONNX has no lists and no ranges."""
        shapes = [*to.enumerated] or [to.shape or ()]
        options = [{low, high} for low, high in to.ranges] or [set(lengths) for lengths in zip(*shapes, strict=False)]
        # named after the input: free lengths of two inputs need not be equal
        lengths = [f"{feature}_{i}" if len(several) > 1 else several.pop() for i, several in enumerate(options)]
        declared = self._proto.graph.input[place_of(self._proto.graph.input, feature, "input", self._origin.name)]
        rank = len(declared.type.tensor_type.shape.dim)
        if rank != len(lengths):
            raise EditError(
                f"input {feature!r} keeps its rank", expected=f"{rank} lengths", found=f"{len(lengths)}: {lengths}"
            )
        element = declared.type.tensor_type.elem_type
        declared.CopyFrom(helper.make_tensor_value_info(feature, element, lengths))
        self._changed(feature)
        # outputs get the shapes that inference finds for them from the inputs alone
        for place, output in enumerate(self._inferred().output):
            self._proto.graph.output[place].CopyFrom(output)

    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        raise EditError("relabel is not possible in an ONNX model", where=self._origin.name)

    def _inferred(self) -> onnx.GraphProto:
        """The graph with the types that follow from its inputs alone; without its weights, which would be copied about."""
        return inferred(light_proto(self.model.ir), data=False).graph


def _as_given(value: object) -> object:
    return value
