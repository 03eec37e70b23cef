"""An output that is a sequence of known tensors becomes as many outputs: a Core ML model gives tensors."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def outputs_apart(graph: ir.Graph) -> None:
    """Gives out the tensors of each output that a SequenceConstruct makes, ``NAME_0`` and so on, in the place of that output.

    ::

        before:  probabilities = SequenceConstruct(p, q)      output probabilities
        after:   probabilities_0 = Identity(p)  probabilities_1 = Identity(q)      outputs probabilities_0, probabilities_1

    scikit-learn's classifiers of several outputs give their probabilities so (skl2onnx).
    """
    ends: list[ir.Value] = []
    for value in list(graph.outputs):
        elements = items_of(graph, value.name)
        for name, element in elements.items():
            apart = ir.Node("", "Identity", [element], num_outputs=1)
            apart.outputs[0].name, apart.outputs[0].type, apart.outputs[0].shape = name, element.type, element.shape
            graph.append(apart)
            ends.append(apart.outputs[0])
        if not elements:
            ends.append(value)
    graph.outputs[:] = ends


def items_of(graph: ir.Graph, output: str | None) -> dict[str, ir.Value]:
    """The tensors of a sequence that a SequenceConstruct of the graph makes, by the names that they get as outputs."""
    maker = next((node for node in graph if any(v.name == output for v in node.outputs)), None)
    if maker is None or maker.op_type != "SequenceConstruct" or maker.domain:
        return {}
    tensors = [value for value in maker.inputs if value is not None]
    taken = {v.name for v in (*graph.inputs, *graph.outputs, *(v for node in graph for v in node.outputs))}
    base = output or ""
    while any(f"{base}_{at}" in taken for at in range(len(tensors))):
        base += "_item"
    return {f"{base}_{at}": value for at, value in enumerate(tensors)}


def about_sequences(graph: ir.Graph) -> Iterator[str]:
    """What is done to such outputs, for the notes of a conversion."""
    for value in graph.outputs:
        if names := [*items_of(graph, value.name)]:
            given = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
            yield f"output {value.name!r} is a sequence of {len(names)} tensor{'s' if len(names) > 1 else ''}: it becomes {given}"
