"""duplicate-blob: two layers that call what they make by one name: which of them a reader means, only the order tells."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.formats.free_name import free_name
from coreproof.validation.problem import Problem


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "duplicate-output"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after; a layer's readers are those behind it, as in a network that is run layer by layer::

    a -> x, b reads x -> x, c reads x
    a -> x_2, b reads x_2 -> x, c reads x
    """
    for problem in fatal_problems(case, "duplicate-output"):
        for name in _names(case, problem):
            yield _hypothesis(case, problem, name)


def _names(case: Case, problem: Problem) -> list[str]:
    nodes = [n for n in case.graph.nodes if n.name == problem.layer]
    others = [o for n in case.graph.nodes if n.name != problem.layer for o in n.outputs]
    return [o for n in nodes for o in n.outputs if o in others or o in case.graph.inputs]


def _hypothesis(case: Case, problem: Problem, name: str) -> Hypothesis:
    makers = [n.name for n in case.graph.nodes if name in n.outputs]
    # the last one keeps the name: it is what an output of that name means
    layer = makers[makers.index(str(problem.layer)) - 1] if len(makers) > 1 else makers[0]
    fresh = free_name(name, case.graph.values, 2)
    step = Edit("divide", {"value": name, "layer": layer, "new": fresh})
    return Hypothesis(
        layer=problem.layer,
        evidence=f"{name!r} is made by {' and by '.join(map(repr, makers if len(makers) > 1 else ['the input', *makers]))}",
        cause="a converter wrote a result in place, or layers of two models were put together without renaming",
        repairs=(Repair(f"call it {fresh!r} where {layer!r} makes it and where that is read", (step,)),),
        weight=90,
    )
