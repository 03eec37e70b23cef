"""dynamic-reshape-rank: a Shape, Gather, Concat chain whose ranks clash, so that a shape cannot be put together."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.joined_ranks import rank_clashes
from coreproof.doctor.trial import fatal_problems

_CAUSE = (
    "the shape of a view was computed when the model runs (Shape, Gather, Unsqueeze, Concat, Reshape); a scalar index "
    "was stored as [1], so that the dimension that Unsqueeze adds is one too many (pytorch/vision#1133, onnx-coreml#347)"
)


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "rank", "shape", "declared-type"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Before and after, in a tail that computes its own shape when it runs::

    gather -> [1] -> expandDims -> [1, 1] + [-1] of rank 1 -> concatND: refused
    gather -> [1] -----------------------+ [-1] of rank 1 -> concatND -> reshapeDynamic
    """
    return rank_clashes(case, _CAUSE, shapes=True)
