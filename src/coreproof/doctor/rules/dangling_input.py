"""dangling-input: a layer that reads a value which nothing makes: a lost constant, or a name changed at one end only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems, makes_progress
from coreproof.editing.edit import Edit
from coreproof.model.graph import Graph, Node

_PASS_ON = ("Identity", "Dropout", "Cast", "identity", "cast")
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
        node = next((n for n in case.graph.nodes if n.name == problem.layer), None)
        for name in [] if node is None else _missing(case.graph, node):
            assert node is not None
            yield _hypothesis(case, node, name)


def _hypothesis(case: Case, node: Node, name: str) -> Hypothesis:
    repairs = [*_from_source(case, node, name), *_unread(case, node, name)]
    return Hypothesis(
        layer=node.name,
        evidence=f"{node.operator} {node.name!r} reads {name!r}, and no layer, input or constant makes it",
        cause=(
            "a constant of the source was dropped when it was converted (onnx-coreml and `1 - x`), "
            "or a value was renamed where it is made and not where it is read"
        ),
        repairs=tuple(repairs),
        needs=None if repairs else f"the source: it says what {name!r} was (--against SOURCE)",
        weight=90,
    )


def _missing(graph: Graph, node: Node) -> list[str]:
    made = {*graph.inputs, *(o for n in graph.nodes for o in n.outputs)}
    constants = {name for name, value in graph.values.items() if value.constant}
    return [n for n in dict.fromkeys(node.inputs) if n and n not in made and n not in constants]


# with the source at hand


def _from_source(case: Case, node: Node, name: str) -> Iterator[Repair]:
    theirs = case.evidence.source_graph
    if theirs is None:
        return
    wanted = _meant(case, theirs, node, name)
    if wanted is None:
        return
    constant = _constant(case, theirs, wanted)
    if constant is not None:
        yield from _with_constant(case, node, name, constant)
        return
    stand_in = _passed_on(case, theirs, wanted)
    if stand_in is not None:
        edit = Edit("connect", {"source": stand_in, "to": node.name, "input": name})
        yield Repair(f"let {node.name!r} read {stand_in!r}, which the source's {wanted!r} passes on", (edit,))


def _meant(case: Case, theirs: Graph, node: Node, name: str) -> str | None:
    """The source's value of that name; else what the source's node reads that makes the same value as this layer."""
    everything = {*theirs.values, *(o for n in theirs.nodes for o in n.outputs), *theirs.inputs}
    if name in everything:
        return name
    maker = theirs.producer(node.outputs[0]) if node.outputs else None
    mine = {*case.graph.values, *case.graph.inputs}
    lost = [n for n in (maker.inputs if maker is not None else ()) if n and n not in mine]
    return lost[0] if len(lost) == 1 else None


def _constant(case: Case, theirs: Graph, name: str) -> np.ndarray | None:
    """What the source stores under that name: an initializer, or a Constant node's value."""
    maker = theirs.producer(name)
    owner = maker if maker is not None else next(iter(theirs.consumers(name)), None)
    if owner is None or (maker is not None and any(maker.inputs)):
        return None
    return case.evidence.source_weights(owner.name).get(name)


def _passed_on(case: Case, theirs: Graph, name: str) -> str | None:
    """The value of the model that the source's value is a copy of."""
    made = {*case.graph.inputs, *(o for n in case.graph.nodes for o in n.outputs)}
    seen = set()
    while name not in made and name not in seen:
        seen.add(name)
        maker = theirs.producer(name)
        if maker is None or maker.operator not in _PASS_ON:
            return None
        name = maker.inputs[0]
    return name if name in made else None


def _with_constant(case: Case, node: Node, name: str, constant: np.ndarray) -> Iterator[Repair]:
    rest = [n for n in node.inputs if n != name]
    form = case.model.format
    attribute = _SCALARS.get(node.operator)
    if form == "neuralnetwork" and constant.size == 1 and attribute is not None and len(rest) == 1:
        number = float(constant.reshape(-1)[0])
        edit = Edit("replace", {"layer": node.name, "operator": node.operator, "inputs": rest, attribute: number})
        yield Repair(f"let {node.name!r} read {rest[0]!r} alone, with {attribute} = {number:g}", (edit,))
    layer = _constant_layer(case, name, constant)
    if layer is not None:
        yield Repair(f"put the source's constant {name!r} ({_told(constant)}) back", (layer,))


def _constant_layer(case: Case, name: str, constant: np.ndarray) -> Edit | None:
    form = case.model.format
    values = np.asarray(constant, np.float32)
    if form == "onnx":
        return Edit("constant", {"name": name, "operator": "Constant", "value": constant})
    if form == "mlprogram":
        return Edit("constant", {"name": name, "operator": "const", "val": constant})
    if _version(case) >= 4:
        shape = list(values.shape) or [1]
        return Edit("constant", {"name": name, "operator": "loadConstantND", "shape": shape, "data": values})
    whole = [n for n in values.shape if n != 1]
    if values.ndim > 3 and len(whole) > 3:
        return None
    shape = list(values.shape[-3:] if values.ndim >= 3 else (*values.shape, *(1,) * (3 - values.ndim)))
    return Edit("constant", {"name": name, "operator": "loadConstant", "shape": shape, "data": values})


def _version(case: Case) -> int:
    return int(getattr(case.model, "spec").specificationVersion)  # noqa: B009 - Core ML models have one


def _told(constant: np.ndarray) -> str:
    return f"{constant.reshape(-1)[0]:g}" if constant.size == 1 else "x".join(map(str, constant.shape))


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
        if makes_progress(case, edits):
            yield Repair(f"let {', '.join(map(repr, readers))} read {group[0]!r}, which nothing reads", edits)
