"""dangling-input: a layer that reads a value which nothing makes: a lost constant, or a name changed at one end only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreproof.conversion.operators import meaning
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Graph, Node
from coreproof.validation.problem import Problem

_SCALARS = {"add": "alpha", "multiply": "alpha", "max": None, "min": None}
"""NeuralNetwork layers that take one number instead of a second input."""


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "dangling-input"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, for ``1 - x``, whose 1 was a constant that onnx-coreml dropped::

    add [7, 6_neg]            and nothing makes 7
    add [6_neg], alpha = 1
    """
    for problem in fatal_problems(case, "dangling-input"):
        for node in (n for n in case.graph.nodes if n.name == problem.layer):
            # a problem a name, which it says first
            for name in (n for n in _missing(case.graph, node) if problem.expected.startswith(repr(n))):
                yield _hypothesis(case, node, name, problem)


def _hypothesis(case: Case, node: Node, name: str, problem: Problem) -> Hypothesis:
    by_hand = f"what {name!r} was, which the source does not tell: connect it by hand with `coreproof edit`"
    return Hypothesis(
        layer=node.name,
        evidence=f"{node.operator} {node.name!r} reads {name!r}, and no layer, input or constant makes it",
        cause=(
            "a constant of the source was dropped when it was converted (onnx-coreml and `1 - x`), "
            "or a value was renamed where it is made and not where it is read"
        ),
        repairs=(*_from_source(case, node, name), *_unread(case, node, name)),
        needs=by_hand if case.source is not None else f"the source: it says what {name!r} was (--against SOURCE)",
        weight=90,
        about=problem,
    )


def _missing(graph: Graph, node: Node) -> list[str]:
    return [n for n in dict.fromkeys(node.inputs) if n and n not in graph.made and not graph.is_constant(n)]


# with the source at hand


def _from_source(case: Case, node: Node, name: str) -> Iterator[Repair]:
    origin = case.evidence.source_graph
    wanted = None if origin is None else _intended_value(case, origin, node, name)
    if origin is None or wanted is None:
        return
    constant = _constant(case, origin, wanted)
    if constant is not None:
        yield from _with_constant(case, node, name, constant)
        return
    stand_in = _passed_on(case, origin, wanted)
    if stand_in is not None:
        edit = Edit("connect", {"source": stand_in, "to": node.name, "input": name})
        yield Repair(f"let {node.name!r} read {stand_in!r}, which the source's {wanted!r} passes on", (edit,))


def _intended_value(case: Case, origin: Graph, node: Node, name: str) -> str | None:
    """The source's value of that name; else what the source's node reads that makes the same value as this layer."""
    if name in origin.values or name in origin.made:
        return name
    maker = origin.producer(node.outputs[0]) if node.outputs else None
    kept = {*case.graph.values, *case.graph.inputs}
    lost = [n for n in (maker.inputs if maker is not None else ()) if n and n not in kept]
    return lost[0] if len(lost) == 1 else None


def _constant(case: Case, origin: Graph, name: str) -> np.ndarray | None:
    """What the source stores under that name: an initializer, or a Constant node's value."""
    maker = origin.producer(name)
    owner = maker if maker is not None else next(iter(origin.consumers(name)), None)
    if owner is None or (maker is not None and any(maker.inputs)):
        return None
    return case.evidence.source_weights(owner.name).get(name)


def _passed_on(case: Case, origin: Graph, name: str) -> str | None:
    """The value of the model that the source's value is a copy of."""
    while name not in case.graph.made:
        maker = origin.producer(name)
        if maker is None or meaning(maker.operator).get("hands_on") != "whole":
            return None
        name = maker.inputs[0]  # an ONNX graph has no circles
    return name


def _with_constant(case: Case, node: Node, name: str, constant: np.ndarray) -> Iterator[Repair]:
    rest = [n for n in node.inputs if n != name]
    attribute = _SCALARS.get(node.operator)
    if case.model.is_network and constant.size == 1 and attribute is not None and len(rest) == 1:
        number = float(constant.reshape(-1)[0])
        edit = Edit("replace", {"layer": node.name, "operator": node.operator, "inputs": rest, attribute: number})
        yield Repair(f"let {node.name!r} read {rest[0]!r} alone, with {attribute} = {number:g}", (edit,))
    layer = _constant_layer(case, name, constant)
    if layer is not None:
        told = f"{constant.reshape(-1)[0]:g}" if constant.size == 1 else "x".join(map(str, constant.shape))
        yield Repair(f"put the source's constant {name!r} ({told}) back", (layer,))


def _constant_layer(case: Case, name: str, constant: np.ndarray) -> Edit | None:
    form = case.model.format
    values = np.asarray(constant, np.float32)
    if form == "onnx":
        return Edit("constant", {"name": name, "operator": "Constant", "value": constant})
    if form == "mlprogram":
        return Edit("constant", {"name": name, "operator": "const", "val": constant})
    assert isinstance(case.model, CoreMLModel)
    if case.model.spec.specificationVersion >= 4:  # which brought loadConstantND
        shape = list(values.shape) or [1]
        return Edit("constant", {"name": name, "operator": "loadConstantND", "shape": shape, "data": values})
    # before, a constant is [C, H, W]: what has more dimensions than ones in front cannot be stored
    if values.ndim > 3 and sum(n != 1 for n in values.shape) > 3:
        return None
    shape = list(values.shape[-3:] if values.ndim >= 3 else (*values.shape, *(1,) * (3 - values.ndim)))
    return Edit("constant", {"name": name, "operator": "loadConstant", "shape": shape, "data": values})


# from the model alone


def _unread(case: Case, node: Node, name: str) -> Iterator[Repair]:
    """The one input, or else the one inner value, that nothing reads: most likely what was meant, if it fits."""
    graph = case.graph
    outputs = {*graph.outputs, case.model.signature.scores, case.model.signature.probabilities}
    read = {n for reader in graph.nodes for n in reader.inputs}
    missing = {m for reader in graph.nodes for m in _missing(graph, reader)}
    if len(missing) != 1:
        return
    place = [n.name for n in graph.nodes].index(node.name)
    earlier = [o for n in graph.nodes[:place] for o in n.outputs if o not in outputs]
    for group in ([n for n in graph.inputs if n not in read], [n for n in earlier if n not in read]):
        if len(group) != 1:
            continue
        readers = [n.name for n in graph.nodes if name in n.inputs]
        edits = tuple(Edit("connect", {"source": group[0], "to": r, "input": name}) for r in readers)
        yield Repair(f"let {', '.join(map(repr, readers))} read {group[0]!r}, which nothing reads", edits)
