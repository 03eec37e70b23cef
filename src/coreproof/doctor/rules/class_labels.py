"""class-labels: labels in another order than the scores: shifted, permuted, or simply other ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coreproof.difference.label_change import label_words
from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.editing.edit import Edit
from coreproof.pairing.class_names import renamed


def applies(case: Case) -> bool:
    return case.right_labels is not None


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """The model's class labels against the right ones, position by position. Another number of labels is another rule."""
    right, stored = case.right_labels, case.model.signature.labels
    if right is None or stored is None or len(right) != len(stored):
        return
    wrong = [i for i, (a, b) in enumerate(zip(right, stored, strict=True)) if str(a) != str(b)]
    if not wrong:
        return
    first = wrong[0]
    if case.labels is None and case.source is not None and renamed(case.source.signature, case.model.signature):
        yield Hypothesis(
            layer=case.model.signature.scores or case.model.signature.probabilities,
            evidence=f"all {len(right)} classes bear other names than in the source: score {first} is {right[first]!r} there, "
            f"and {stored[first]!r} here",
            cause="the classes were named anew; the scores are the source's",
            needs="no repair: right where the names were meant; else `coreproof edit` with relabel gives them back",
            weight=15,
            advice=True,
        )
        return
    words = label_words([str(label) for label in right], [str(label) for label in stored])
    yield Hypothesis(
        layer=case.model.signature.scores or case.model.signature.probabilities,
        evidence=(
            f"{len(wrong)} of {len(right)} labels stand at another score: {words}; "
            f"score {first} is {right[first]!r} and is called {stored[first]!r}"
        ),
        cause="the label list was sorted, shifted by a background class, or taken from another model when it was converted",
        repairs=(Repair(f"give the {len(right)} labels in their right order", (relabel(right),)),),
        weight=70,
    )


def relabel(labels: Sequence[str | int]) -> Edit:
    """The edit that gives a classifier these labels."""
    return Edit("relabel", {"labels": list(labels)})
