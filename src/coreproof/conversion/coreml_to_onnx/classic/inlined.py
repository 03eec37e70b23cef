"""A model that was lowered by itself as a part of a larger graph: what it reads is connected, what it is called made unique."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder


def inlined(b: OnnxBuilder, graph: ir.Graph, fed: Mapping[str, ir.Value]) -> tuple[dict[str, ir.Value], dict[str, str]]:
    """Moves the nodes of ``graph`` into ``b``; what it takes is ``fed``, and left to its default where it is not.

    Returns its outputs by name, and what its values are called now. The graph is empty afterwards.
    """
    outputs = {value.name or "": value for value in graph.outputs}
    nodes, initializers = list(graph), dict(graph.initializers)
    for value in graph.inputs:
        name = value.name or ""
        if name in fed:
            ir.convenience.replace_all_uses_with(value, fed[name])
            initializers.pop(name, None)
    # what goes out as it came in
    passed = {name: fed[name] for name, value in outputs.items() if name in fed and value.is_graph_input()}
    graph.outputs.clear()
    graph.inputs.clear()
    graph.initializers.clear()
    graph.remove(nodes)
    renamed: dict[str, str] = {}
    for name, value in initializers.items():
        value.name = renamed[name] = b.unique(name)
        if value.const_value is not None:
            value.const_value.name = value.name
        b.initializers[value.name] = value
    for node in _within(nodes):
        if node.name:
            node.name = b.unique(node.name)
        for value in node.outputs:
            if value.name:
                renamed[value.name] = b.unique(value.name)
                value.name = renamed[value.name]
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                inner = attribute.as_graph()
                for value in inner.inputs:
                    value.name = b.unique(value.name or "inner")
                for name in list(inner.initializers):
                    value = inner.initializers.pop(name)
                    value.name = b.unique(name)
                    inner.initializers[value.name] = value
    b.nodes.extend(nodes)
    return {**outputs, **passed}, renamed


def _within(nodes: list[ir.Node]) -> Iterator[ir.Node]:
    """The nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _within(list(attribute.as_graph()))
