"""declared-batch: a batch above 1 declared at the input of a Core ML model that is given one picture at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems
from coreproof.editing.edit import Edit
from coreproof.model.features import Feature


def applies(case: Case) -> bool:
    return case.model.is_coreml_graph


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """The dummy's batch in the input's declared shape.

    A batch by itself is no fault: it is one where the layers behind contradict it, or where the source takes one picture.
    """
    problem = next(iter(fatal_problems(case)), None)
    for feature in case.model.signature.inputs:
        shape = feature.shape or ()
        # of pictures alone: the first of two or three lengths may be anything
        if len(shape) != 4 or (batch := fixed_batch(feature)) == 1 or not all(isinstance(n, int) for n in shape):
            continue
        declared = f"input {feature.name!r} is declared as {list(shape)}, a batch of {batch}"
        found = Hypothesis(
            evidence=f"{declared}; the layers behind fit a batch of 1",
            cause="the shape of the dummy input with which the model was exported became the declared one",
            repairs=(
                Repair(
                    f"declare {feature.name!r} as {[1, *shape[1:]]}",
                    (Edit("batch", {"input": feature.name, "length": 1}),),
                ),
            ),
            weight=90,
            about=problem,
        )
        if problem is not None:
            yield found
        if (1, *shape[1:]) in [other.shape for other in of_source(case, feature)]:
            yield replace(found, evidence=f"{declared}; the source takes one at a time", weight=50, about=None)


def fixed_batch(feature: Feature) -> int:
    """The fixed first length of an array of two dimensions or more; 1 for everything else."""
    shape = feature.shape
    if feature.kind != "tensor" or feature.ranges or len(feature.enumerated) > 1 or shape is None or len(shape) < 2:
        return 1
    return shape[0] if isinstance(shape[0], int) else 1


def of_source(case: Case, feature: Feature) -> list[Feature]:
    """The source's input of that name, else its only one."""
    if case.evidence.reference is None:
        return []
    inputs = case.evidence.reference.signature.inputs
    return [f for f in inputs if f.name == feature.name] or (list(inputs) if len(inputs) == 1 else [])
