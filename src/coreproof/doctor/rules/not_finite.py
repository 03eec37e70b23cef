"""not-finite: an output without numbers: NaN or infinity whatever is fed, seen without a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.rules.float16 import is_to_blame
from coreproof.pairing.taps import as_array, taps_of
from coreproof.runtime.open import session
from coreproof.runtime.session import Session
from coreproof.verification.weaknesses import weaknesses_alone

_AT_ONCE = 16
"""How many inner values are brought out at a time while the first one without numbers is looked for."""


def applies(case: Case) -> bool:
    return case.source is None and case.evidence.runs


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """An output that is NaN or infinite in every sample. What float16 alone ruins is the rule float16's."""
    with session(case.evidence.model) as running:
        found = weaknesses_alone([running.run(fed) for fed in case.evidence.own_feeds])
        for weakness in found:
            (output,) = weakness.values
            if weakness.kind != "not-finite" or (output in case.evidence.lost and is_to_blame(case)):
                continue
            first = _first(case, running, case.evidence.own_feeds[0])
            layer = None if first is None else case.graph.producer(first)
            began = "" if layer is None else f"; the first such value is {first!r}, of {layer.operator}"
            yield Hypothesis(
                layer=None if layer is None else layer.name,
                evidence=f"{weakness.text}{began}",
                cause="a division by zero, a logarithm or a root of what is not positive, or a weight that is no number",
                needs="inputs of the kind that the model is made for (--inputs, --photos), or its source (--against)",
                weight=70,
            )


def _first(case: Case, running: Session, fed: Mapping[str, object]) -> str | None:
    """The first inner value, in the stored order, with an element that is NaN or infinite."""
    names = [o for node in case.graph.nodes for o in node.outputs if o in running.tappable]
    groups = [names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE)]
    for group, made in zip(groups, running.walk(fed, [taps_of(running, g) for g in groups]), strict=False):
        for name in group:
            value = as_array(made[name]) if name in made else None
            if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
                return name
    return None
