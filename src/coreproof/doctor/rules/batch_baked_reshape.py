"""batch-baked-reshape: a reshape that keeps the batch of the dummy input with which a model was exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coreproof.difference.settings import set_edit
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.source.layer_faults import claimed
from coreproof.doctor.trial import before, fatal_problems, whole_numbers
from coreproof.editing.edit import Edit
from coreproof.errors import CoreproofError
from coreproof.model.graph import Node
from coreproof.validation.onnx import elements
from coreproof.validation.problem import Problem
from coreproof.verification.row import Row

MOST_TRIED = 12
"""Places that are tried: a large network has hundreds of reshapes, and a baked one is near to where it shows."""

_CAUSE = (
    "the model was exported with a dummy batch above 1: x.view(x.size(0), -1) became Shape, Gather, Concat, Reshape, "
    "and the converter folded that chain to a literal target (onnx-coreml#547, pytorch/vision#1133, coremltools#1108)"
)
_ATTRIBUTES = {
    "reshape": ("targetShape", "shape"),
    "reshapeStatic": ("targetShape",),
    "rankPreservingReshape": ("targetShape",),
    "Reshape": (),
}


@dataclass(frozen=True)
class Baked:
    """A reshape with a literal target, and the place in it where a batch may stand."""

    node: Node
    attribute: str
    target: tuple[int, ...]
    place: int

    @property
    def batch(self) -> int:
        """The batch that the layer keeps."""
        return self.target[self.place]

    @property
    def is_leading(self) -> bool:
        """Whether it is the first place that is not 1: where a converter leaves the batch."""
        return all(n == 1 for n in self.target[: self.place])

    @property
    def freed(self) -> list[int]:
        """The target for a batch of 1."""
        return [1 if i == self.place else n for i, n in enumerate(self.target)]


SHAPES = ("shape", "targetShape")
"""Attributes of a layer other than the source's that this rule answers for."""

_, _not_the_sources, last_resort = claimed("the batch of the dummy input was folded into the shape", attributes=SHAPES)


def applies(case: Case) -> bool:
    return not case.evidence.runs or bool(case.evidence.faults)


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, in ResNet50 exported with a batch of 32::

        pooling [1, 1, 2048, 1, 1] -> reshape [32, -1, 1, 1] -> [32, 1, 64, 1, 1] -> innerProduct of 2048: refused
        pooling [1, 1, 2048, 1, 1] ---------------------------------------------> innerProduct of 2048

    Nothing else catches it where the values fill the target by chance: every shape is legal, and the layout is wrong.
    """
    problems = fatal_problems(case, "shape", "rank", "declared-type")
    if problems:
        near = before(case.graph, problems[0].layer)
        yield from (_keeps_a_batch(case, g, problems[0], f"so that {problems[0]}") for g in _groups(case, near))
    elif not fatal_problems(case) and (failure := case.evidence.failure) is not None:
        told = f"so that {str(failure).splitlines()[0]}"
        yield from (_keeps_a_batch(case, g, failure, told) for g in _groups(case, before(case.graph, None)))
    for row in case.evidence.faults:
        yield from _silent(case, row)
    # last: a target that is other than the source's is more certain, and says less of its cause
    yield from _not_the_sources(case)


def _silent(case: Case, row: Row) -> Iterator[Hypothesis]:
    """Also reshapes before the row's stretch: value by value they agree with the source, but not in their shape."""
    layers = case.evidence.stretch(row)[0]
    inside = {node.name for node in layers}
    near = before(case.graph, layers[-1].name if layers else None)
    doubtful = [n for n in near if n.name in inside or _differs(case, n)]
    told = f"it runs, but {row.candidate!r} has its values in another order than the source's {row.reference!r}"
    for group in _groups(case, doubtful):
        yield _keeps_a_batch(case, group, row, told, whole=any(b.node.name not in inside for b in group))


def _differs(case: Case, node: Node) -> bool:
    """Whether a value has other lengths than the source's, ones apart."""
    if node.operator not in _ATTRIBUTES:
        return False
    shape = case.evidence.shapes.get(node.outputs[0])
    rows = case.evidence.verification.rows if case.evidence.verification is not None else ()
    row = next((r for r in rows if r.candidate == node.outputs[0]), None)
    if shape is None or row is None:
        return True  # of unknown shape, it may be the one
    return [n for n in shape if n != 1] != [n for n in case.evidence.reference_value(row).shape if n != 1]


def _keeps_a_batch(
    case: Case, group: Sequence[Baked], about: Problem | CoreproofError | Row, consequence: str, *, whole: bool = False
) -> Hypothesis:
    order = {node.name: i for i, node in enumerate(case.graph.nodes)}
    group = sorted(group, key=lambda b: order[b.node.name])
    first = group[0]
    names = ", ".join(repr(b.node.name) for b in group)
    given = case.evidence.shapes.get(_data(first.node))
    words, edits = zip(*(_repair(case, baked) for baked in group), strict=True)
    return Hypothesis(
        layer=first.node.name,
        evidence=(
            f"{first.attribute or 'the shape'} of {names} is {list(first.target)}: it keeps a batch of {first.batch}, "
            f"and the model's is 1{'' if given is None else f' (its input is {list(given)})'}; {consequence}"
        ),
        cause=_CAUSE,
        repairs=(Repair("; ".join(words), edits),),
        weight=70 if isinstance(about, Row) else 90,
        about=about,
        whole=whole,
    )


def _repair(case: Case, baked: Baked) -> tuple[str, Edit]:
    name = baked.node.name
    if _is_flat_already(case, baked):
        return f"delete {name!r} and read {_data(baked.node)!r} instead", Edit("delete", {"layer": name})
    return f"reshape {name!r} to {baked.freed}", set_edit(name, baked.attribute, baked.freed)


def _is_flat_already(case: Case, baked: Baked) -> bool:
    """Whether the freed reshape would make [1, 1, C, 1, 1] of just that, which is no layer's work."""
    shape, freed = case.evidence.shapes.get(_data(baked.node), ()), baked.freed
    if not case.model.is_network or baked.node.operator != "reshape" or baked.node.outputs[0] in case.graph.outputs:
        return False
    return shape == (1, 1, *shape[2:3], 1, 1) and freed in ([1, -1, 1, 1], [1, shape[2], 1, 1])


def _data(node: Node) -> str:
    return next((n for n in node.inputs if n and n not in node.parameters), "")


def _groups(case: Case, nodes: Sequence[Node]) -> Iterator[list[Baked]]:
    """What may have been baked together: the same number in all reshapes, in those before the fault, in one alone."""
    near = _candidates(case, nodes)
    everywhere = _candidates(case, case.graph.nodes[::-1]) if near else []
    seen = set()
    for first in near[:MOST_TRIED]:
        # a converter folds one batch into all reshapes; where a number stands there by itself, it may be meant
        together = [
            [b for b in pool if b.is_leading and b.batch == first.batch]
            for pool in (everywhere, near)
            if first.is_leading
        ]
        for group in (*together, [first]):
            key = frozenset((b.node.name, b.place) for b in group)
            if key not in seen:
                seen.add(key)
                yield group


def _candidates(case: Case, nodes: Sequence[Node]) -> list[Baked]:
    """Every place of every literal target where a batch above 1 may stand: leading places first, then near ones."""
    found = [
        baked
        for node in nodes
        for attribute, target in [_literal(case, node) or ("", ())]
        for baked in (Baked(node, attribute, target, i) for i, n in enumerate(target) if n > 1)
        # a target that cannot take the value, once the batch is 1, had no batch there
        if not any(elements(node.name, "", case.evidence.shapes.get(_data(node)), baked.freed))
    ]
    return sorted(found, key=lambda b: not b.is_leading)


def _literal(case: Case, node: Node) -> tuple[str, tuple[int, ...]] | None:
    """The attribute that holds a reshape's target, and the target; None for other layers and computed targets."""
    if node.operator not in _ATTRIBUTES:
        return None
    for attribute in _ATTRIBUTES[node.operator]:
        target = node.attributes.get(attribute)
        if isinstance(target, tuple | list) and all(isinstance(n, int) for n in target):
            return attribute, tuple(target)
    if node.operator == "Reshape" and len(node.inputs) > 1:
        target = whole_numbers(case.model, node.inputs[1])
        return None if target is None else (node.inputs[1], target)
    return None
