"""Inputs of one layer that differ in rank: a dimension added where the value had it already, or one that is lacking."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.graph import Graph, Node

_WIDEN = {"neuralnetwork": "expandDims", "mlprogram": "expand_dims", "onnx": "Unsqueeze"}
_NARROW = {"neuralnetwork": "squeeze", "mlprogram": "squeeze", "onnx": "Squeeze"}
_OF_ONE_RANK = ("concatND", "concat", "stack", "Concat")
# operators that take the shape of what they make as an input
_SHAPED_BY = ("reshapeDynamic", "Reshape", "reshape", "fillDynamic", "broadcastToDynamic", "Expand", "tile", "Tile")


def rank_clashes(case: Case, cause: str, *, shapes: bool) -> Iterator[Hypothesis]:
    """The layers whose inputs differ in rank; ``shapes``: of those whose result is another layer's shape, else of the rest."""
    for problem in fatal_problems(case, "rank", "shape", "declared-type"):
        for node in (n for n in case.graph.nodes if n.name == problem.layer and n.operator in _OF_ONE_RANK):
            # in an ML Program constants among the inputs are settings
            joined = case.graph.data(node) if case.model.is_program else node.inputs
            found = {n: case.evidence.shapes[n] for n in joined if n in case.evidence.shapes}
            if len({len(s) for s in found.values()}) > 1 and _becomes_a_shape(case.graph, node) == shapes:
                told = " and ".join(f"{name!r} {list(shape)}" for name, shape in found.items())
                yield Hypothesis(
                    layer=node.name,
                    evidence=f"{node.operator} {node.name!r} takes inputs of one rank, and they are {told}",
                    cause=cause,
                    repairs=tuple(_repairs(case, node, found)),
                    weight=90,
                    about=problem,
                )


def _repairs(case: Case, node: Node, shapes: dict[str, tuple[int, ...]]) -> Iterator[Repair]:
    """Take away what made the ranks differ; failing that, add what makes them equal."""
    graph, form = case.graph, case.model.format
    highest, lowest = max(map(len, shapes.values())), min(map(len, shapes.values()))
    for name, shape in shapes.items():
        maker = graph.producer(name)
        if maker is None:
            continue
        # a dimension too many where it is the longest, one too few where it is the shortest: undo what changed the rank
        widened = maker.operator == _WIDEN[form] and len(shape) > lowest
        narrowed = maker.operator == _NARROW[form] and len(shape) < highest
        source = next((n for n in maker.inputs if n and n not in maker.parameters), None)
        if source is not None and (widened or narrowed):
            yield _around(graph, maker, node, source)
    for name, shape in shapes.items():
        if len(shape) < highest:
            yield _insert(case, _WIDEN[form], name, node, highest - len(shape))
    for name, shape in shapes.items():
        # only ones can be taken away without losing values
        if len(shape) > lowest and all(n == 1 for n in shape[: len(shape) - lowest]):
            yield _insert(case, _NARROW[form], name, node, len(shape) - lowest)


def _around(graph: Graph, maker: Node, reader: Node, source: str) -> Repair:
    alone = [n.name for n in graph.consumers(maker.outputs[0])] == [reader.name]
    if alone and maker.outputs[0] not in graph.outputs:
        return Repair(
            f"delete {maker.name!r}: {reader.name!r} reads {source!r}", (Edit("delete", {"layer": maker.name}),)
        )
    edit = Edit("connect", {"source": source, "to": reader.name, "input": maker.outputs[0]})
    return Repair(f"let {reader.name!r} read {source!r} instead of {maker.outputs[0]!r}", (edit,))


def _insert(case: Case, operator: str, value: str, reader: Node, count: int) -> Repair:
    name = f"{value}_{operator.lower()}_for_{reader.name}"
    step = Edit(
        "insert",
        {"operator": operator, "name": name, "after": value, "before": reader.name, "axes": list(range(count))},
    )
    return Repair(f"put {operator} between {value!r} and {reader.name!r}", (step,))


def _becomes_a_shape(graph: Graph, node: Node) -> bool:
    """Whether what the layer makes tells another layer its shape."""
    return any(
        reader.operator in _SHAPED_BY and output in reader.inputs[1:]
        for output in node.outputs
        for reader in graph.consumers(output)
    )
