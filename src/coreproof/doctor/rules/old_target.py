"""old-target: layers that are newer than the specification version which the model declares."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.coreml.model import CoreMLModel
from coreproof.validation.target import SYSTEMS, needed_version


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "target"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """A declared version that does not know a layer: Core ML refuses the file, whatever system it runs on."""
    problems, model = fatal_problems(case, "target"), case.model
    assert isinstance(model, CoreMLModel)
    repairs: tuple[Repair, ...] = ()
    if model.is_network:
        version = needed_version(model)
        step = Edit("respecify", {"version": version})
        repairs = (Repair(f"declare specification version {version} ({SYSTEMS[version]})", (step,)),)
    yield Hypothesis(
        layer=problems[0].layer,
        evidence="; ".join(str(p) for p in problems),
        cause="the version was lowered by hand to reach older systems, or layers were put in without raising it",
        repairs=repairs,
        needs=None if repairs else "to be converted for the newer target: `coreproof convert MODEL --target iOS17`",
        weight=90,
    )
