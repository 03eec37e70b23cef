"""declared-shape: an output that is declared with another shape than it has."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit


def applies(case: Case) -> bool:
    return not fatal_problems(case)  # else the shape may be right and a layer wrong


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """A declared shape that contradicts the layers. An empty one says nothing, and is no fault."""
    for problem in case.evidence.problems:
        if problem.kind != "declared-shape":
            continue
        made = next((n.outputs for n in case.graph.nodes if n.name == problem.layer), ())
        for output in (o for o in made if o in case.graph.outputs):
            yield Hypothesis(
                layer=problem.layer,
                evidence=f"expected {problem.expected}, found {problem.found}",
                cause="the declaration was written for another batch or size, or by hand",
                repairs=(Repair(f"declare {output!r} as {problem.found}", (Edit("declare", {"output": output}),)),),
                weight=20,
            )
