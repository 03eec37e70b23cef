"""An output that is declared with another shape than it has."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.evidence import Patient
from coreproof.doctor.finding import Remedy, Suspicion
from coreproof.doctor.rules import rule
from coreproof.editing.edit import Edit


@rule("declared-shape")
def declared_shape(patient: Patient) -> Iterator[Suspicion]:
    """A declared shape that contradicts the layers. An empty one says nothing, and is no fault."""
    if any(p.loud for p in patient.problems):
        return  # the shape may be right and a layer wrong
    for problem in patient.problems:
        if problem.kind != "declared-shape":
            continue
        made = next((n.outputs for n in patient.graph.nodes if n.name == problem.layer), ())
        for output in (o for o in made if o in patient.graph.outputs):
            yield Suspicion(
                rule="declared-shape",
                layer=problem.layer,
                evidence=f"expected {problem.expected}, found {problem.found}",
                cause="the declaration was written for another batch or size, or by hand",
                remedies=(Remedy(f"declare {output!r} as {problem.found}", (Edit("declare", {"output": output}),)),),
                weight=20,
            )
