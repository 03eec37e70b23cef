"""Whether what a graph reads and gives out is made in it, before any pass trips over a value that is not."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from coreproof.errors import ConversionError, first_few


def check_made(model: ir.Model, name: str) -> None:
    """ConversionError that names each value that nodes read, or a graph gives out, and that nothing makes.

    Nested graphs read what lies around them; onnx-ir has resolved that when it read the file.
    """
    wrong = [*_unmade(model.graph, name)]
    for function in model.functions.values():
        wrong += _unmade(function.graph, f"{name}, function {function.name!r}")
    if not wrong:
        return
    fix = "`coreproof doctor` finds what was meant; `coreproof edit` connects it"
    expected = "an input, a constant, or a value that a node makes"
    if len(wrong) == 1:
        where, problem = wrong[0]
        raise ConversionError(problem, where=where, expected=expected, fix=fix)
    raise ConversionError(
        f"{len(wrong)} values are made by nothing",
        where=name,
        expected=expected,
        found=first_few([f"{where}: {problem}" for where, problem in wrong]),
        fix=fix,
    )


def _unmade(graph: ir.Graph, name: str) -> Iterator[tuple[str, str]]:
    """Where each such value is read, and what is wrong with it."""
    for node in graph.all_nodes():
        place = f"{name}, node {node.name or next((v.name for v in node.outputs if v.name), '')!r}"
        for value in dict.fromkeys(node.inputs):
            if value is not None and not _is_made(value):
                yield place, f"{node.op_type} reads {value.name!r}, which nothing makes"
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                yield from _outputs(attribute.as_graph(), place)
    yield from _outputs(graph, name)


def _outputs(graph: ir.Graph, place: str) -> Iterator[tuple[str, str]]:
    for value in graph.outputs:
        if not _is_made(value):
            yield f"{place}, output {value.name!r}", f"nothing makes the output {value.name!r}"


def _is_made(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()
