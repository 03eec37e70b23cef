"""Layers that are newer than the specification version which the model declares."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.evidence import Patient
from coreproof.doctor.finding import Remedy, Suspicion
from coreproof.doctor.rules import rule
from coreproof.doctor.trial import loud
from coreproof.editing.edit import Edit
from coreproof.model.coreml.model import CoreMLModel
from coreproof.validation.target import SYSTEMS, needed_version


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
