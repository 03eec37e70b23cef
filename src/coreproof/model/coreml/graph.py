"""Reads a Core ML model's layers into the common graph view: NeuralNetwork.proto and MIL.proto."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from coreproof.model.coreml.proto import MIL_pb2, Model_pb2, NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import parts_of, stored_as
from coreproof.model.formats import classic, network
from coreproof.model.formats import program as mil
from coreproof.model.formats.program import immediate, ordered_arguments
from coreproof.model.graph import Graph, Node, Value

_LONGEST_SETTING = 16
"""Elements up to which a constant is shown as an attribute: pads, strides, axes and shapes of rank 5 take ten at the most."""


def read_graph(spec: Model_pb2.Model) -> Graph:
    """The layers of a Core ML ``Model`` message; pipelines show a node a stage with the stage as its block."""
    kind = str(spec.WhichOneof("Type"))
    inputs, outputs = tuple(classic.reads(spec)), tuple(classic.writes(spec))
    if kind == "mlProgram":
        return program_graph(spec.mlProgram, mil.main_name(spec))
    if network.is_network(spec):
        nodes = tuple(map(layer_node, network.main(spec).layers))
    elif classic.is_pipeline(spec):
        nodes = tuple(_stage_node(index, stage) for index, stage in enumerate(classic.nested(spec)))
    else:
        nodes = (Node(kind, kind, inputs, outputs, attributes=settings_of(spec)),)
    return Graph(kind, nodes, inputs, outputs, _named_only(nodes, inputs))


def _named_only(nodes: Iterable[Node], inputs: Iterable[str]) -> dict[str, Value]:
    names = [*inputs, *(output for node in nodes for output in node.outputs)]
    return {name: Value(name) for name in names}


def _stage_node(index: int, stage: Model_pb2.Model) -> Node:
    return Node(
        name=f"stage{index}",
        operator=classic.name(stage),
        inputs=tuple(classic.reads(stage)),
        outputs=tuple(classic.writes(stage)),
        attributes=settings_of(stage),
        blocks=(read_graph(stage),),
    )


def settings_of(spec: Model_pb2.Model) -> dict[str, object]:
    """What a model without layers is set to: its numbers, words and short lists; of long lists how long they are."""
    kind = str(spec.WhichOneof("Type"))
    if kind == "mlProgram" or network.is_network(spec) or classic.is_pipeline(spec):
        return {}
    found: dict[str, object] = {}
    _read_settings(getattr(spec, kind), "", found)
    return found


def _read_settings(message: Message, prefix: str, found: dict[str, object]) -> None:
    for descriptor, value in message.ListFields():
        name = f"{prefix}{descriptor.name}"
        if isinstance(value, bytes):
            found[name] = f"{len(value):,} bytes"
        elif descriptor.is_repeated:
            short = descriptor.message_type is None and len(value) <= _LONGEST_SETTING
            found[name] = tuple(value) if short else f"{len(value):,} of them"
        elif descriptor.message_type is not None:
            before = len(found)
            _read_settings(value, f"{name}.", found)
            if len(found) == before:  # an empty message says something by being there, as a kernel does
                found[name] = True
        elif descriptor.enum_type is not None:
            found[name] = _enum_name(descriptor, value)
        else:
            found[name] = value


# NeuralNetwork


def layer_node(layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> Node:
    """One NeuralNetworkLayer message; weights become parameters, everything else an attribute."""
    operator = layer.WhichOneof("layer") or "nothing"
    params = getattr(layer, operator) if operator != "nothing" else None
    attributes: dict[str, object] = {}
    parameters: dict[str, tuple[str, tuple[int, ...]]] = {}
    blocks: list[Graph] = []
    if params is not None:
        _read_fields(params, "", attributes, parameters, blocks)
    if operator == "loop" and layer.loop.conditionVar:
        # the loop goes by a blob that its condition network hands on, or that stands there before
        handed = (layer.loop.conditionVar,)
        own = [replace(b, outputs=handed) for b in blocks if b.name == "conditionNetwork"]
        blocks = [
            *(own or [Graph("conditionNetwork", (), (), handed)]),
            *(b for b in blocks if b.name != "conditionNetwork"),
        ]
    return Node(
        name=layer.name,
        operator=operator,
        inputs=tuple(layer.input),
        outputs=tuple(layer.output),
        attributes=attributes,
        parameters=parameters,
        blocks=tuple(blocks),
    )


def _short(value: object) -> object:
    """A value in a list; a message as people write it, ``{startEdgeSize=1 endEdgeSize=2}``, which ``edit`` reads again."""
    if isinstance(value, Message):
        return "{" + " ".join(f"{field.name}={_quoted(held)}" for field, held in value.ListFields()) + "}"
    return value


def _quoted(value: object) -> object:
    return json.dumps(value) if isinstance(value, str) else _short(value)


def _read_fields(
    message: Message,
    prefix: str,
    attributes: dict[str, object],
    parameters: dict[str, tuple[str, tuple[int, ...]]],
    blocks: list[Graph],
) -> None:
    for descriptor, value in message.ListFields():
        name = prefix + descriptor.name
        type_name = descriptor.message_type.name if descriptor.message_type is not None else None
        if type_name in ("WeightParams", "LSTMWeightParams"):
            for called, part in parts_of(name, value):
                if isinstance(part, NeuralNetwork_pb2.WeightParams):
                    dtype, count = stored_as(part)
                    parameters[called] = dtype, (count,)  # the real shape is known to the layer only
                else:
                    _read_fields(part, f"{called}.", attributes, parameters, blocks)
        elif type_name == "NeuralNetwork":
            nodes = tuple(layer_node(layer) for layer in value.layers)
            blocks.append(Graph(name, nodes, (), (), _named_only(nodes, ())))
        elif descriptor.is_repeated and isinstance(value, Mapping):  # as a custom layer's parameters are
            attributes[name] = tuple(f"{key}={_short(each)}" for key, each in sorted(value.items()))
        elif descriptor.is_repeated:
            attributes[name] = tuple(value) if type_name is None else tuple(_short(v) for v in value)
        elif type_name is not None:
            before = len(attributes) + len(parameters)
            _read_fields(value, f"{name}.", attributes, parameters, blocks)
            # an empty message says something by being there, as ReLU among the activations
            if len(attributes) + len(parameters) == before:
                attributes[name] = True
        elif descriptor.enum_type is not None:
            attributes[name] = _enum_name(descriptor, value)
        else:
            attributes[name] = value


def _enum_name(descriptor: FieldDescriptor, number: int) -> str:
    """What the proto calls a number; a later version of it may have more of them."""
    assert descriptor.enum_type is not None
    known = descriptor.enum_type.values_by_number.get(number)
    return known.name if known is not None else f"unknown ({number})"


# ML Program


def program_graph(program: MIL_pb2.Program, function: str) -> Graph:
    """The graph of one function of an ML Program; ``const`` operations become constants, not nodes."""
    chosen = program.functions[function]
    inputs = {i.name: _value(i.name, i.type) for i in chosen.inputs}
    return block_graph(mil.block_of(chosen), function, inputs)


def block_graph(block: MIL_pb2.Block, name: str, inputs: Mapping[str, Value]) -> Graph:
    """One MIL block. Values of enclosing blocks that it reads are not repeated in its ``values``."""
    values: dict[str, Value] = dict(inputs)
    settings: dict[str, object] = {}
    nodes: list[Node] = []
    for operation in block.operations:
        # constants have values too, which the layers behind them read
        for output in operation.outputs:
            values[output.name] = _value(output.name, output.type, constant=mil.is_constant(operation))
        if operation.type != "const":
            nodes.append(_operation_node(operation, values, settings))
            continue
        setting = immediate(operation.attributes["val"])
        if setting is not None and (not isinstance(setting, tuple) or len(setting) <= _LONGEST_SETTING):
            settings[operation.outputs[0].name] = setting
    return Graph(name, tuple(nodes), tuple(inputs), tuple(block.outputs), values)


def _operation_node(operation: MIL_pb2.Operation, values: Mapping[str, Value], settings: Mapping[str, object]) -> Node:
    """Short constants (strides, pads, axes, ...) are shown as what they are, attributes; long ones as parameters."""
    inputs: list[str] = []
    attributes: dict[str, object] = {}
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
            # a setting is shown as what it is, and is read all the same: renaming has to find it
            inputs.append(binding.name)
    name = mil.name(operation)
    return Node(
        name=name,
        operator=operation.type,
        inputs=tuple(inputs),
        outputs=tuple(mil.writes(operation)),
        attributes=attributes,
        parameters=parameters,
        blocks=tuple(
            block_graph(nested, f"{name}.{index}", {i.name: _value(i.name, i.type) for i in nested.inputs})
            for index, nested in enumerate(operation.blocks)
        ),
    )


def _value(name: str, value_type: MIL_pb2.ValueType, *, constant: bool = False) -> Value:
    return Value(name, mil.dtype_of(value_type), mil.shape_of(value_type), constant)
