"""rank-clash: inputs of one layer that differ in rank: a dimension that was there already, or one that is lacking."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.joined_ranks import rank_clashes
from coreproof.doctor.trial import fatal_problems


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "rank", "shape", "declared-type"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Values that are put together; what becomes another layer's shape is the rule dynamic-reshape-rank."""
    cause = "a converter added a dimension that was there already, or left one out"
    return rank_clashes(case, cause, shapes=False)
