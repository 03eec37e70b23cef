"""A layer that keeps the model from running, and is other than the source's: an axis, a pad, a shape, a turned weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from coreproof.doctor.evidence import Patient
from coreproof.doctor.finding import Remedy, Suspicion
from coreproof.doctor.rules import rule
from coreproof.doctor.rules.other_than_source import CAUSES, rule_name
from coreproof.doctor.source.hypotheses import of_attributes
from coreproof.doctor.source.twin_differences import Difference, all_differences
from coreproof.doctor.trial import before, helps, loud
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
def broken_layer(patient: Patient) -> Iterator[Suspicion]:
    """Without a run there is nothing to compare but the layers themselves, with those of the source carried over anew.

    Where there is no such twin, plausible changes of the layers that lead to the failure are tried.
    """
    if patient.runs or patient.reference is None:
        return
    problem = next(iter(loud(patient)), None)
    if problem is not None and problem.kind in _NO_LAYERS_FAULT:
        return
    near = before(patient.graph, None if problem is None else problem.layer)
    place = {node.name: i for i, node in enumerate(near)}
    known = (
        [] if patient.twin is None else [d for d in all_differences(patient, patient.twin) if _may_break(patient, d)]
    )
    known.sort(key=lambda d: place.get(d.layer, len(place)))
    helpful = [d for d in known[:_MOST] if helps(patient, d.edits)]
    if not helpful and patient.source_graph is not None:
        guesses = (d for node in near[:_NEAR] for d in of_attributes(patient, node, patient.source_graph.nodes))
        helpful = list(islice((d for d in islice(guesses, _MOST) if helps(patient, d.edits)), _KEPT))
    for layer in dict.fromkeys(d.layer for d in helpful):
        yield _suspicion(patient, [d for d in helpful if d.layer == layer], problem)


def _suspicion(patient: Patient, found: Sequence[Difference], problem: Problem | None) -> Suspicion:
    """One layer with all that makes the model run: which of it is right is seen when it is compared."""
    first = found[0]
    name = rule_name(first)
    failure = str(problem or patient.failure).splitlines()[0]
    return Suspicion(
        rule=name,
        layer=first.layer,
        evidence=f"{first.operator} {first.layer!r}: {first.words}; the model does not run: {failure}",
        cause=CAUSES[name],
        remedies=tuple(Remedy(f"set {d.subject} of {d.layer!r}: {d.words}", d.edits) for d in found),
        weight=88,
    )


def _may_break(patient: Patient, difference: Difference) -> bool:
    """Other numbers in a weight of the right shape break nothing."""
    if difference.kind not in ("weight", "bias"):
        return True
    now = patient.weights(difference.layer).get(difference.subject)
    fresh = difference.edits[0].arguments.get("value")
    return now is None or fresh is None or now.shape != fresh.shape
