"""An ONNX graph as it is stored (onnx.proto): its nodes and those of graphs within them walked, named and renamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def nested(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs in the attributes of a node message."""
    graphs = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            graphs.append(attribute.g)
        graphs.extend(attribute.graphs)
    return graphs


def nodes(stored: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes with those of graphs within them."""
    for node in stored:
        yield node
        for graph in nested(node):
            yield from nodes(graph.node)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph message and all graphs within its nodes."""
    yield graph
    for node in graph.node:
        for inner in nested(node):
            yield from graphs(inner)


def name(node: onnx.NodeProto) -> str:
    """How the read view names a node: by its name, or by operator and first output where it has none."""
    return str(node.name) or f"{node.op_type}:{node.output[0] if node.output else ''}"


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, those that graphs within it read from outside included."""
    yield from (read for read in node.input if read)
    for graph in nested(node):
        own = {held.name for held in graph.input} | {held.name for held in graph.initializer}
        for inner in graph.node:
            yield from (read for read in reads(inner) if read not in own)
            own.update(inner.output)
        yield from (output.name for output in graph.output if output.name not in own)


def writes(node: onnx.NodeProto) -> list[str]:
    """The values that a node makes; those of graphs within it stay inside them."""
    return [made for made in node.output if made]


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Renames values in a graph and in those within its nodes: where they are made, read, declared and stored."""
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(value, value) for value in field]
        for inner in nested(node):
            rename(inner, names)
    for owner in (graph.input, graph.output, graph.value_info, graph.initializer):
        for held in owner:
            held.name = names.get(held.name, held.name)


def rename_reads(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Makes a node, and those within it, read other values; what they make keeps its name."""
    node.input[:] = [names.get(value, value) for value in node.input]
    for graph in nested(node):
        for output in graph.output:
            output.name = names.get(output.name, output.name)
        for inner in graph.node:
            rename_reads(inner, names)


# onnx-ir holds the same graph as objects


def nested_ir(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs in the attributes of an onnx-ir node; a function's references to its own attributes hold none."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type.name == "GRAPH":
            yield attribute.as_graph()
        elif attribute.type.name == "GRAPHS":
            yield from attribute.as_graphs()


def name_ir(node: ir.Node) -> str:
    """How the read view names an onnx-ir node."""
    made = [output.name for output in node.outputs if output.name]
    return node.name or f"{node.op_type}:{made[0] if made else ''}"
