"""known-fault: layers that some of Apple's systems are publicly known to compute wrongly: nothing is wrong with the model."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.known_faults.found import known_faults


def applies(case: Case) -> bool:
    return case.model.is_coreml_graph or case.model.is_coreai


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """What the catalogue of known faults has of this model's layers and declarations, one for each fault."""
    for found in known_faults(case.model):
        steps = found.edits(case.model)
        yield Hypothesis(
            layer=found.sightings[0].place,
            evidence=f"{found.fault.id}: {found.evidence}",
            cause=found.cause,
            same=Repair(found.fault.workaround, steps) if steps else None,
            needs=found.fault.workaround,
            weight=12,
            advice=True,
        )
