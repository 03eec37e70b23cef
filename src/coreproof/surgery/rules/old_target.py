"""Layers that are newer than the specification version which the model declares."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.model.coreml import CoreMLModel
from coreproof.surgery.edit import Edit
from coreproof.surgery.finding import Remedy, Suspicion
from coreproof.surgery.inspection.target import SYSTEMS, needed_version
from coreproof.surgery.patient import Patient
from coreproof.surgery.rules import rule
from coreproof.surgery.trial import loud


@rule("old-target")
def old_target(patient: Patient) -> Iterator[Suspicion]:
    """A declared version that does not know a layer: Core ML refuses the file, whatever system it runs on."""
    problems = loud(patient, "target")
    model = patient.model
    if not problems or not isinstance(model, CoreMLModel):
        return
    remedies: tuple[Remedy, ...] = ()
    if model.format == "neuralnetwork":
        version = needed_version(model)
        step = Edit("respecify", {"version": version})
        remedies = (Remedy(f"declare specification version {version} ({SYSTEMS[version]})", (step,)),)
    yield Suspicion(
        rule="old-target",
        layer=problems[0].layer,
        evidence="; ".join(str(p) for p in problems),
        cause="the version was lowered by hand to reach older systems, or layers were put in without raising it",
        remedies=remedies,
        needs=None if remedies else "to be converted for the newer target: `coreproof convert MODEL --target iOS17`",
        weight=90,
    )
