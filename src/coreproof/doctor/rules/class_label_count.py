"""class-label-count: too many labels, or too few, for the scores of a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.rules.class_labels import relabel
from coreproof.doctor.rules.classifier_wrong_blob import scores, values_of
from coreproof.doctor.trial import fatal_problems


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "label-count"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """A label list of another length than the scores. Which labels are right the model cannot tell: they are asked for."""
    stored, value = case.model.signature.labels, scores(case)
    if stored is None or value is None or value not in case.evidence.shapes:
        return
    count, right = prod(case.evidence.shapes[value]), case.right_labels
    # of another number than the scores, the labels that were given are no help either
    known = right is not None and len(right) == count
    if not known and values_of(case, len(stored)):
        return  # another value fits the labels: the classifier takes the wrong one
    given = "in the order of the scores (--labels FILE, one a line)" if right is None else f"{len(right)} were given"
    yield Hypothesis(
        layer=fatal_problems(case, "label-count")[0].layer,
        evidence=f"{len(stored)} labels, {stored[0]!r} to {stored[-1]!r}, for {count} scores in {value!r}",
        cause="the label list of another data set, or one with a background class, was given when the model was converted",
        repairs=(Repair(f"give it the {count} right labels", (relabel(right or ()),)),) if known else (),
        needs=None if known else f"the right labels: {count} of them; {given}",
        weight=90,
    )
