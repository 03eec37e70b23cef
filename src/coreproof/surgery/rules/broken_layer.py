"""A layer that keeps the model from running, and is other than the source's: an axis, a pad, a shape, a turned weight."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.surgery.finding import Remedy, Suspicion
from coreproof.surgery.patient import Patient
from coreproof.surgery.rules import rule
from coreproof.surgery.rules.other_than_source import CAUSES, rule_name
from coreproof.surgery.trial import before, helps, loud
from coreproof.surgery.twin import Difference, all_differences

_MOST = 60
"""Differences that are tried: a model with more was not made from this source in this way."""


@rule("broken-layer")
def broken_layer(patient: Patient) -> Iterator[Suspicion]:
    """Without a run there is nothing to compare but the layers themselves with those of the source carried over anew."""
    if patient.runs or patient.reference is None or patient.twin is None:
        return
    problem = next(iter(loud(patient)), None)
    found = [d for d in all_differences(patient, patient.twin) if _may_break(patient, d)]
    near = {n.name: i for i, n in enumerate(before(patient.graph, None if problem is None else problem.layer))}
    found.sort(key=lambda d: near.get(d.layer, len(near)))
    for difference in found[:_MOST]:
        if helps(patient, difference.edits):
            name = rule_name(difference)
            yield Suspicion(
                rule=name,
                layer=difference.layer,
                evidence=(
                    f"{difference.operator} {difference.layer!r}: {difference.words}; the model does not run: "
                    f"{str(problem or patient.failure).splitlines()[0]}"
                ),
                cause=CAUSES[name],
                remedies=(Remedy(f"make {difference.subject} of {difference.layer!r} the source's", difference.edits),),
                weight=88,
            )


def _may_break(patient: Patient, difference: Difference) -> bool:
    """Other numbers in a weight of the right shape break nothing."""
    if difference.kind not in ("weight", "bias"):
        return True
    now = patient.weights(difference.layer).get(difference.subject)
    fresh = difference.edits[0].arguments.get("value")
    return now is None or fresh is None or now.shape != fresh.shape
