"""omitted_outputs: names for the outputs that nodes leave out, which readers lose and on which engines crash.

ONNX lets a node leave out an output by an empty name. onnx-ir writes none that stand last, also where the operator has to have
them, as a Split or an If; ONNX Runtime ends the whole process (a segmentation fault) on one in the middle of many operators, of
bodies and of functions, and says of those of others that they are missing. A name that nobody reads means the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx

from coreproof.model.formats import onnx as stored
from coreproof.model.formats.free_name import free_name


def name_required(message: onnx.ModelProto) -> onnx.ModelProto:
    """``message`` with a name for each omitted output that is not optional; itself where it has none."""
    return _completed(message, optional=False)


def name_omitted(message: onnx.ModelProto) -> onnx.ModelProto:
    """``message`` with a name for each omitted output, as engines want it; itself where it has none.

    Optional ones behind the last that is named go instead: how many outputs a node has may say what it computes.
    """
    return _completed(message, optional=True)


def _completed(message: onnx.ModelProto, *, optional: bool) -> onnx.ModelProto:
    if not any(_renamed(node, opsets, optional) != list(node.output) for node, opsets in _nodes(message)):
        return message
    copy = onnx.ModelProto()
    copy.CopyFrom(message)
    taken = _names(copy)
    for node, opsets in _nodes(copy):
        outputs = _renamed(node, opsets, optional)
        for place, output in enumerate(outputs):
            if output == _NAMELESS:
                outputs[place] = free_name(f"{stored.name(node)}/omitted", taken)
                taken.add(outputs[place])
        node.output[:] = outputs
    return copy


_NAMELESS = "\0"
"""Stands for a name that is still to be found."""


def _nodes(message: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Mapping[str, int]]]:
    """All nodes, and the opsets in which they are written."""
    bodies = [(message.graph.node, message.opset_import), *((f.node, f.opset_import) for f in message.functions)]
    for nodes, imports in bodies:
        opsets = {each.domain: each.version for each in imports}
        yield from ((node, opsets) for node in stored.nodes(nodes))


def _renamed(node: onnx.NodeProto, opsets: Mapping[str, int], optional: bool) -> list[str]:
    """The outputs of the node, with the sign for nameless ones where a name is asked for."""
    outputs = list(node.output)
    wanted = _asked_for(node, opsets) if optional else 0
    if "" not in outputs and len(outputs) >= wanted:
        return outputs
    required = _required(node, opsets)
    if not optional:
        return [output or (_NAMELESS if place in required else "") for place, output in enumerate(outputs)]
    while outputs and not outputs[-1] and len(outputs) - 1 not in required:
        outputs.pop()
    outputs += [""] * (wanted - len(outputs))
    return [output or _NAMELESS for output in outputs]


def _required(node: onnx.NodeProto, opsets: Mapping[str, int]) -> range:
    """The places of outputs that have to be there: all where nobody says what the operator makes, or a graph within it does."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, opsets.get("ai.onnx", 1)), node.domain)
    except onnx.defs.SchemaError:
        # an engine's own operators stand in no standard, and take what is left out for optional
        return range(0 if node.domain == "com.microsoft" else len(node.output))
    kinds = [output.option for output in schema.outputs]
    kind = onnx.defs.OpSchema.FormalParameterOption
    return range(len(node.output) if kind.Variadic in kinds else sum(option == kind.Single for option in kinds))


def _asked_for(node: onnx.NodeProto, opsets: Mapping[str, int]) -> int:
    """How many outputs ONNX Runtime wants although the standard does not."""
    if node.domain not in ("", "ai.onnx"):
        return 0
    if node.op_type == "BatchNormalization":
        # one that trains makes all of them
        if opsets.get("", opsets.get("ai.onnx", 1)) < 14:
            return 5 if any(node.output[1:]) else 1
        return 3 if any(a.name == "training_mode" and a.i for a in node.attribute) else 1
    if node.op_type == "Attention":
        # with past keys and values come present ones
        return 3 if any(node.input[4:6]) else 1
    return 0


def _names(message: onnx.ModelProto) -> set[str]:
    """Every name of a value, wherever it stands."""
    taken: set[str] = set()
    for graph in stored.graphs(message.graph):
        taken.update(v.name for v in (*graph.input, *graph.output))
        taken.update(tensor.name for tensor in graph.initializer)
        taken |= _of_nodes(graph.node)
    for function in message.functions:
        taken.update((*function.input, *function.output))
        taken |= _of_nodes(function.node)
    return taken


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in stored.nodes(nodes) for name in (*node.input, *node.output)}
