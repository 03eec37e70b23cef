"""declared-batch: a batch above 1 declared at the input of a Core ML model that is given one picture at a time."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.trial import fatal_problems, makes_progress
from coreproof.editing.edit import Edit
from coreproof.model.features import Feature


def applies(case: Case) -> bool:
    return case.model.is_coreml_graph


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """The dummy's batch in the input's declared shape.

    A batch by itself is no fault: it is one where the layers behind contradict it, or where the source takes one picture.
    """
    for feature in case.model.signature.inputs:
        batch = _batch(feature)
        if batch is None:
            continue
        assert feature.shape is not None
        shape = [1, *feature.shape[1:]]
        step = Edit("batch", {"input": feature.name, "length": 1})
        contradicted = bool(fatal_problems(case)) and makes_progress(case, (step,))
        if not contradicted and not _source_takes_one(case, feature):
            continue
        yield Hypothesis(
            layer=None,
            evidence=(
                f"input {feature.name!r} is declared as {list(feature.shape)}, a batch of {batch}; "
                + ("the layers behind fit a batch of 1" if contradicted else "the source takes one at a time")
            ),
            cause="the shape of the dummy input with which the model was exported became the declared one",
            repairs=(Repair(f"declare {feature.name!r} as {shape}", (step,)),),
            weight=90 if contradicted else 50,
        )


def _batch(feature: Feature) -> int | None:
    shape = feature.shape
    if feature.kind != "tensor" or feature.ranges or len(feature.enumerated) > 1:
        return None
    if shape is None or len(shape) != 4 or any(not isinstance(n, int) for n in shape):
        return None
    first = shape[0]
    return first if isinstance(first, int) and first > 1 else None


def _source_takes_one(case: Case, feature: Feature) -> bool:
    if case.evidence.reference is None:
        return False
    theirs = [f.shape for f in case.evidence.reference.signature.inputs if f.name == feature.name]
    if not theirs and len(case.evidence.reference.signature.inputs) == 1:
        theirs = [case.evidence.reference.signature.inputs[0].shape]
    assert feature.shape is not None
    return any(s is not None and len(s) == 4 and s[0] == 1 and s[1:] == feature.shape[1:] for s in theirs)
