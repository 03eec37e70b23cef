"""Reads a Core ML model's layers into the common graph view: NeuralNetwork.proto and MIL.proto."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from coreproof.model.coreml_proto import MIL_pb2
from coreproof.model.features import Shape
from coreproof.model.graph import Graph, Node, Value

MIL_DTYPES: Mapping[int, str] = {
    MIL_pb2.BOOL: "bool",
    MIL_pb2.STRING: "str",
    MIL_pb2.FLOAT16: "float16",
    MIL_pb2.FLOAT32: "float32",
    MIL_pb2.FLOAT64: "float64",
    MIL_pb2.BFLOAT16: "bfloat16",
    MIL_pb2.INT8: "int8",
    MIL_pb2.INT16: "int16",
    MIL_pb2.INT32: "int32",
    MIL_pb2.INT64: "int64",
    MIL_pb2.INT4: "int4",
    MIL_pb2.UINT8: "uint8",
    MIL_pb2.UINT16: "uint16",
    MIL_pb2.UINT32: "uint32",
    MIL_pb2.UINT64: "uint64",
    MIL_pb2.UINT4: "uint4",
    MIL_pb2.UINT2: "uint2",
    MIL_pb2.UINT1: "uint1",
    MIL_pb2.UINT3: "uint3",
    MIL_pb2.UINT6: "uint6",
}


def read_graph(spec: Any) -> Graph:
    """The layers of a Core ML ``Model`` message; pipelines show a node a stage with the stage as its block."""
    kind = spec.WhichOneof("Type")
    inputs = tuple(f.name for f in spec.description.input)
    outputs = tuple(f.name for f in spec.description.output)
    if kind == "mlProgram":
        return program_graph(spec.mlProgram, spec.description.defaultFunctionName or "main")
    if kind in ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor"):
        nodes = tuple(layer_node(layer) for layer in getattr(spec, kind).layers)
        return Graph(kind, nodes, inputs, outputs, _named_only(nodes, inputs))
    if kind in ("pipeline", "pipelineClassifier", "pipelineRegressor"):
        pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
        nodes = tuple(_stage_node(index, stage) for index, stage in enumerate(pipeline.models))
    else:
        nodes = (Node(kind, kind, inputs, outputs),)
    return Graph(kind, nodes, inputs, outputs, _named_only(nodes, inputs))


def _named_only(nodes: Iterable[Node], inputs: Iterable[str]) -> dict[str, Value]:
    names = [*inputs, *(output for node in nodes for output in node.outputs)]
    return {name: Value(name) for name in names}


def _stage_node(index: int, stage: Any) -> Node:
    return Node(
        name=f"stage{index}",
        operator=stage.WhichOneof("Type") or "nothing",
        inputs=tuple(f.name for f in stage.description.input),
        outputs=tuple(f.name for f in stage.description.output),
        blocks=(read_graph(stage),),
    )


# NeuralNetwork


def layer_node(layer: Any) -> Node:
    """One NeuralNetworkLayer message; weights become parameters, everything else an attribute."""
    operator = layer.WhichOneof("layer") or "nothing"
    params = getattr(layer, operator) if operator != "nothing" else None
    attributes: dict[str, Any] = {}
    parameters: dict[str, tuple[str, tuple[int, ...]]] = {}
    blocks: list[Graph] = []
    if params is not None:
        _read_fields(params, "", attributes, parameters, blocks)
    return Node(
        name=layer.name,
        operator=operator,
        inputs=tuple(layer.input),
        outputs=tuple(layer.output),
        attributes=attributes,
        parameters=parameters,
        blocks=tuple(blocks),
    )


def _read_fields(
    message: Any,
    prefix: str,
    attributes: dict[str, Any],
    parameters: dict[str, tuple[str, tuple[int, ...]]],
    blocks: list[Graph],
) -> None:
    for descriptor, value in message.ListFields():
        name = prefix + descriptor.name
        type_name = descriptor.message_type.name if descriptor.message_type is not None else None
        if type_name == "WeightParams" and not _is_repeated(value):
            parameters[name] = weight_shape(value)
        elif type_name in ("WeightParams", "LSTMWeightParams") and _is_repeated(value):
            for index, part in enumerate(value):
                if type_name == "WeightParams":
                    parameters[f"{name}[{index}]"] = weight_shape(part)
                else:
                    _read_fields(part, f"{name}[{index}].", attributes, parameters, blocks)
        elif type_name == "NeuralNetwork":
            nodes = tuple(layer_node(layer) for layer in value.layers)
            blocks.append(Graph(name, nodes, (), (), _named_only(nodes, ())))
        elif _is_repeated(value):
            attributes[name] = tuple(value) if type_name is None else tuple(str(v).strip() for v in value)
        elif type_name is not None:
            before = len(attributes) + len(parameters)
            _read_fields(value, f"{name}.", attributes, parameters, blocks)
            if len(attributes) + len(parameters) == before:
                attributes[name] = True
        elif descriptor.enum_type is not None:
            known = descriptor.enum_type.values_by_number.get(value)
            attributes[name] = known.name if known is not None else f"unknown ({value})"
        else:
            attributes[name] = value


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def weight_shape(weights: Any) -> tuple[str, tuple[int, ...]]:
    """dtype and flat length of a WeightParams message; its real shape is known to its layer only."""
    if weights.floatValue:
        return "float32", (len(weights.floatValue),)
    if weights.float16Value:
        return "float16", (len(weights.float16Value) // 2,)
    if weights.HasField("quantization"):
        bits = int(weights.quantization.numberOfBits)
        return f"uint{bits}", (len(weights.rawValue) * 8 // max(bits, 1),)
    return "int8", (len(weights.rawValue) or len(weights.int8RawValue),)


# ML Program


def program_graph(program: Any, function: str = "main") -> Graph:
    """The graph of one function of an ML Program; ``const`` operations become constants, not nodes."""
    chosen = program.functions.get(function) if function in program.functions else None
    if chosen is None:
        chosen = next(iter(program.functions.values()))
    block = chosen.block_specializations[chosen.opset]
    inputs = {i.name: _value(i.name, i.type) for i in chosen.inputs}
    return block_graph(block, function, inputs)


def block_graph(block: Any, name: str, inputs: Mapping[str, Value]) -> Graph:
    """One MIL block. Values of enclosing blocks that it reads are not repeated in its ``values``."""
    values: dict[str, Value] = dict(inputs)
    settings: dict[str, Any] = {}
    nodes: list[Node] = []
    for operation in block.operations:
        is_constant = operation.type == "const" or operation.type.startswith("constexpr_")
        for output in operation.outputs:
            values[output.name] = _value(output.name, output.type, constant=is_constant)
        if operation.type != "const":
            nodes.append(_operation_node(operation, values, settings))
        elif (setting := immediate(operation.attributes["val"])) is not None and _is_short(setting):
            settings[operation.outputs[0].name] = setting
    return Graph(name, tuple(nodes), tuple(inputs), tuple(block.outputs), values)


def _is_short(setting: Any) -> bool:
    return not isinstance(setting, tuple) or len(setting) <= 16


_DATA = ("x", "input", "values", "data", "query", "cond", "y")


def ordered_arguments(operation: Any) -> list[tuple[str, Any]]:
    """The arguments of an operation, data first, then by name: a file keeps them in no order."""
    return sorted(operation.inputs.items(), key=lambda item: (item[0] not in _DATA, _place(item[0]), item[0]))


def _place(key: str) -> int:
    return _DATA.index(key) if key in _DATA else 0


def _operation_node(operation: Any, values: Mapping[str, Value], settings: Mapping[str, Any]) -> Node:
    """Short constants (strides, pads, axes, ...) are shown as what they are, attributes; long ones as parameters."""
    inputs: list[str] = []
    attributes: dict[str, Any] = {}
    parameters: dict[str, tuple[str, tuple[int, ...]]] = {}
    for key, argument in ordered_arguments(operation):
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                attributes[key] = immediate(binding.value)
                continue
            value = values.get(binding.name)
            if binding.name in settings:
                attributes[key] = settings[binding.name]
            elif value is not None and value.constant:
                shape = tuple(d for d in value.shape or () if isinstance(d, int))
                parameters[key] = (value.dtype or "?", shape)
            inputs.append(binding.name)
    name = operation.outputs[0].name if operation.outputs else operation.type
    if "name" in operation.attributes:
        name = immediate(operation.attributes["name"]) or name
    return Node(
        name=str(name),
        operator=operation.type,
        inputs=tuple(inputs),
        outputs=tuple(o.name for o in operation.outputs),
        attributes=attributes,
        parameters=parameters,
        blocks=tuple(
            block_graph(nested, f"{name}.{index}", {i.name: _value(i.name, i.type) for i in nested.inputs})
            for index, nested in enumerate(operation.blocks)
        ),
    )


def _value(name: str, value_type: Any, *, constant: bool = False) -> Value:
    if value_type.WhichOneof("type") != "tensorType":
        return Value(name, value_type.WhichOneof("type"), None, constant)
    tensor = value_type.tensorType
    shape: Shape = tuple(
        int(d.constant.size) if d.WhichOneof("dimension") == "constant" else None for d in tensor.dimensions
    )
    return Value(name, MIL_DTYPES.get(tensor.dataType), shape, constant)


def _half(data: bytes, dtype: int) -> float | None:
    """A float16 number (epsilon, alpha, ...), which MIL stores as its two bytes."""
    return float(struct.unpack("<e", data)[0]) if dtype == MIL_pb2.FLOAT16 and len(data) == 2 else None


def immediate(value: Any) -> Any:
    """A MIL immediate value for reading: a scalar, a tuple, or None where it is bytes or lies in a file."""
    if value.WhichOneof("value") != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
        return None
    tensor = value.immediateValue.tensor
    which = tensor.WhichOneof("value")
    if which == "bytes" and not value.type.tensorType.dimensions:
        return _half(tensor.bytes.values, value.type.tensorType.dataType)
    if which is None or which == "bytes":
        return None
    items = tuple(getattr(tensor, which).values)
    is_scalar = not value.type.tensorType.dimensions
    return items[0] if is_scalar and len(items) == 1 else items
