"""The flow of an ONNX graph: of an ONNX model, or of a Core ML model as it is lowered. Bodies stand in line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from coreproof.feeding.roles.flow import Array, Flow, FlowStep
from coreproof.model.features import Shape, Signature
from coreproof.model.onnx.model import numpy_dtype, value_shape
from coreproof.model.onnx.shapes import inferred, light_proto

_SMALL = 4096
"""Elements of a constant that are looked at; of a larger one it is known that it is one."""

_NUMBERS = (ir.AttributeType.INT, ir.AttributeType.FLOAT)
_TEXTS, _WHOLES = ("keys_strings", "cats_strings", "classes_strings"), ("keys_int64s", "cats_int64s")
"""What encoders know, in the attributes of one or another of them."""
_CONSTANTS = (*_NUMBERS, ir.AttributeType.INTS, ir.AttributeType.FLOATS)
"""Forms of a Constant beside a tensor. One of texts has no numbers to look at."""


def onnx_flow(model: ir.Model, signature: Signature, values: Mapping[str, str]) -> Flow:
    """``values`` maps the model's own names to the graph's. Shapes that the graph does not say are inferred when asked for."""
    reading = _Reading()
    reading.graph(model.graph)
    return Flow(
        tuple(reading.steps),
        {f.name: values.get(f.name, f.name) for f in signature.inputs},
        tuple(v.name or "" for v in model.graph.outputs),
        reading.shapes,
        reading.dtypes,
        frozenset(reading.constants),
        reading.stored,
        {graphs: own for own, graphs in values.items()},
        lambda: reading.infer(model),
    )


class _Reading:
    """A graph being read, with the bodies of its control flow."""

    def __init__(self) -> None:
        self.steps: list[FlowStep] = []
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}
        self.constants: dict[str, ir.TensorProtocol | None] = {}

    def stored(self, name: str) -> Array | None:
        tensor = self.constants.get(name)
        if tensor is None or tensor.size > _SMALL or tensor.dtype == ir.DataType.STRING:
            return None
        return np.asarray(tensor.numpy())

    def infer(self, model: ir.Model) -> None:
        """Adds the shapes and types that ONNX's own inference knows."""
        known = inferred(light_proto(model), data=False).graph
        for info in known.value_info:
            tensor = info.type.tensor_type
            if tensor.HasField("shape"):
                lengths = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
                self.shapes.setdefault(info.name, tuple(lengths))
            if (told := numpy_dtype(ir.DataType(tensor.elem_type))) is not None:
                self.dtypes.setdefault(info.name, told)

    def graph(self, graph: ir.Graph) -> None:
        for value in (*graph.inputs, *graph.initializers.values()):
            self._note(value)
        for name, value in graph.initializers.items():
            self.constants[name] = value.const_value
        for node in graph:
            self._node(node)

    def _note(self, value: ir.Value | None) -> None:
        if value is None or not value.name:
            return
        shape, dtype = value_shape(value), value.dtype
        if shape is not None:
            self.shapes[value.name] = shape
        if dtype is not None and (told := numpy_dtype(dtype)) is not None:
            self.dtypes[value.name] = told

    def _node(self, node: ir.Node) -> None:
        for value in node.outputs:
            self._note(value)
        outputs = tuple(v.name or "" for v in node.outputs)
        if node.op_type == "Constant" and len(outputs) == 1:
            self.constants[outputs[0]] = _constant(node)
            return
        inputs = tuple("" if v is None else v.name or "" for v in node.inputs)
        if not node.attributes:
            self.steps.append(FlowStep(node.op_type, inputs, outputs))
            return
        attributes = node.attributes.values()
        bodies = [attribute.as_graph() for attribute in attributes if attribute.type == ir.AttributeType.GRAPH]
        if bodies:
            self._bodies(node, inputs, outputs, bodies)
            return
        numbers = {attribute.name: attribute.value for attribute in attributes if attribute.type in _NUMBERS}
        words = [attribute for attribute in attributes if attribute.type == ir.AttributeType.STRING]
        # a word as a number of its own name: what reads a flow asks only whether it is there
        numbers.update({f"{attribute.name}={attribute.as_string()}": 1 for attribute in words})
        texts = next((t for name in _TEXTS if (t := node.attributes.get_strings(name, ()))), ())
        wholes = next((n for name in _WHOLES if (n := node.attributes.get_ints(name, ()))), ())
        keys: tuple[int, ...] | tuple[str, ...] = tuple(map(str, texts)) or tuple(map(int, wholes))
        self.steps.append(FlowStep(node.op_type, inputs, outputs, numbers, keys))

    def _bodies(
        self, node: ir.Node, inputs: tuple[str, ...], outputs: tuple[str, ...], bodies: Iterable[ir.Graph]
    ) -> None:
        """What a body reads it is handed from outside, and what it makes goes out: both by name, as if it ran once."""
        # without outputs: what it makes comes out of its bodies
        self.steps.append(FlowStep(node.op_type, inputs, ()))
        for body in bodies:
            own = [v.name or "" for v in body.inputs]
            # Loop hands (trip count, condition, carried ...) to (iteration, condition, carried ...), Scan all to all
            skip = 2 if node.op_type == "Loop" else 0
            for name, given in zip(own[skip:], inputs[skip:], strict=False):
                if given:
                    self.steps.append(FlowStep("Identity", (given,), (name,)))
            self.graph(body)
            made = [v.name or "" for v in body.outputs][1 if node.op_type == "Loop" else 0 :]
            for name, out in zip(made, outputs, strict=False):
                self.steps.append(FlowStep("Identity", (name,), (out,)))


def _constant(node: ir.Node) -> ir.TensorProtocol | None:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.TENSOR:
            return attribute.as_tensor()
        if attribute.type in _CONSTANTS:
            return ir.tensor(np.asarray(attribute.value))
    return None
