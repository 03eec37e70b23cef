"""What a model answers when nothing is there to hold it against: outputs that are one constant show that little works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from coreproof.doctor.case import Case
from coreproof.feeding.drawn import several
from coreproof.model.weakness import Weakness
from coreproof.runtime.open import session
from coreproof.verification.weaknesses import weaknesses_alone


def weak_answers(case: Case) -> tuple[Weakness, ...]:
    """Why it shows little that the model runs: an output that is zero or constant on all it is fed, or all the same.

    Empty where there is a source (the verification says it) or the model does not run. Drawn numbers are noise, in which a
    detector finds nothing, a classifier of few features sees one class, and a tree goes one way: that is said and no more.
    """
    if case.source is not None or not case.evidence.runs:
        return ()
    with session(case.evidence.model) as running:
        feeds: Sequence[Mapping[str, object]] = case.evidence.own_feeds
        if case.evidence.draws_alone:
            draws = several(case.evidence.model, case.evidence.model, sessions=(running, running))
            # at what is larger than usual a healthy float16 model may leave its range
            feeds = [fed for at, (fed, _) in enumerate(draws.pairs) if at not in draws.large] or feeds
        found = weaknesses_alone([running.run(fed) for fed in feeds], moving=True, strict=False)
    if any("TreeEnsemble" in node.operator for node in case.graph.nodes):
        return tuple(replace(weakness, fails=weakness.fails and weakness.kind != "unmoved") for weakness in found)
    return found
