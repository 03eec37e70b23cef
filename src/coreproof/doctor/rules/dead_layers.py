"""dead-layers: layers that lead to no output, where names are broken as well: the ends of a broken thread."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.trial import fatal_problems
from coreproof.validation.names import dead_layers as lead_nowhere


def applies(case: Case) -> bool:
    return bool(fatal_problems(case, "dangling-input", "missing-output", "used-before-made"))


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Layers from which no way leads to an output, beside a name that nothing makes.

    Many a healthy model that was published carries dead layers: by themselves they are no fault. Beside a broken name one
    of them may be what was meant, so they are named, and left for the eye.
    """
    names = [p.layer for p in lead_nowhere(case.model) if p.layer is not None]
    if names:
        yield Hypothesis(
            layer=names[0],
            evidence=f"{len(names)} layers lead to no output: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",
            cause="what they make is meant to be read under a name that nothing makes now, or by a layer that was taken out",
            needs="the missing name put right first; then connect them, or delete them, with `coreproof edit`",
            weight=20,
        )
