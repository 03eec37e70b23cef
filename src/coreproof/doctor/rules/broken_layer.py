"""A layer that keeps the model from running, and is other than the source's: an axis, a pad, a shape, a turned weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.rules import rule
from coreproof.doctor.rules.other_than_source import CAUSES, rule_name
from coreproof.doctor.source.single_changes import of_attributes
from coreproof.doctor.source.twin_differences import Difference, all_differences
from coreproof.doctor.trial import before, fatal_problems, makes_progress
from coreproof.validation.problem import Problem

_MOST = 60
"""Changes that are tried: a model with more differences was not made from this source in this way."""
_NEAR = 6
"""How many layers before the one that fails may be to blame where there is no twin."""
_NO_LAYERS_FAULT = ("label-count", "classifier-blob", "target")
"""Problems that no change of a layer takes away."""
_KEPT = 8
"""Changes with which the model runs that are compared with the source."""


@rule("broken-layer", last=True)
def broken_layer(case: Case) -> Iterator[Hypothesis]:
    """Without a run there is nothing to compare but the layers themselves, with those of the source carried over anew.

    Where there is no such twin, plausible changes of the layers that lead to the failure are tried.
    """
    if case.evidence.runs or case.evidence.reference is None:
        return
    problem = next(iter(fatal_problems(case)), None)
    if problem is not None and problem.kind in _NO_LAYERS_FAULT:
        return
    near = before(case.graph, None if problem is None else problem.layer)
    place = {node.name: i for i, node in enumerate(near)}
    conversion = case.evidence.reference_conversion
    known = [] if conversion is None else [d for d in all_differences(case, conversion) if _may_break(case, d)]
    known.sort(key=lambda d: place.get(d.layer, len(place)))
    helpful = [d for d in known[:_MOST] if makes_progress(case, d.edits)]
    if not helpful and case.evidence.source_graph is not None:
        guesses = (d for node in near[:_NEAR] for d in of_attributes(case, node, case.evidence.source_graph.nodes))
        helpful = list(islice((d for d in islice(guesses, _MOST) if makes_progress(case, d.edits)), _KEPT))
    for layer in dict.fromkeys(d.layer for d in helpful):
        yield _hypothesis(case, [d for d in helpful if d.layer == layer], problem)


def _hypothesis(case: Case, found: Sequence[Difference], problem: Problem | None) -> Hypothesis:
    """One layer with all that makes the model run: which of it is right is seen when it is compared."""
    first = found[0]
    name = rule_name(first)
    failure = str(problem or case.evidence.failure).splitlines()[0]
    return Hypothesis(
        rule=name,
        layer=first.layer,
        evidence=f"{first.operator} {first.layer!r}: {first.words}; the model does not run: {failure}",
        cause=CAUSES[name],
        repairs=tuple(Repair(f"set {d.subject} of {d.layer!r}: {d.words}", d.edits) for d in found),
        weight=88,
    )


def _may_break(case: Case, difference: Difference) -> bool:
    """Other numbers in a weight of the right shape break nothing."""
    if difference.kind not in ("weight", "bias"):
        return True
    now = case.weights(difference.layer).get(difference.subject)
    fresh = difference.edits[0].arguments.get("value")
    return now is None or fresh is None or now.shape != fresh.shape
