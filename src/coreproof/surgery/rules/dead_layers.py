"""Layers that lead to no output, where something else is wrong as well: the end of a broken thread."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.surgery.edit import Edit
from coreproof.surgery.finding import Remedy, Suspicion
from coreproof.surgery.inspect_names import dead_layers as lead_nowhere
from coreproof.surgery.patient import Patient
from coreproof.surgery.rules import rule


@rule("dead-layers")
def dead_layers(patient: Patient) -> Iterator[Suspicion]:
    """Layers from which no way leads to an output.

    Many a healthy model that was published carries some; by themselves they are no fault, and are left alone.
    """
    if not any(p.loud for p in patient.problems) and not patient.faults:
        return
    names = [p.layer for p in lead_nowhere(patient.model) if p.layer is not None]
    if names:
        yield Suspicion(
            rule="dead-layers",
            layer=names[0],
            evidence=f"{len(names)} layers lead to no output: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",
            cause="what they make was read by a layer that was taken out, or that reads something else now",
            remedies=(
                Remedy(
                    f"delete {len(names)} layers",
                    tuple(Edit("delete", {"layer": n, "reconnect": False}) for n in reversed(names)),
                ),
            ),
            weight=20,
        )
