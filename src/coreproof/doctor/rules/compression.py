"""compression: what palettised, quantised or pruned weights cost; nothing is broken."""

from __future__ import annotations

from collections.abc import Iterator

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis
from coreproof.doctor.source.layer_faults import COMPRESS_LESS, claimed

_CAUSE = "the weights were compressed (palettised, quantised or pruned) after the conversion: this is what it costs"

applies, _of_layers, last_resort = claimed(_CAUSE, "compression")


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Values that only the compression explains; and, of values that agree with what is stored, what that costs an output.

    The latter is advice: by how much a network may be compressed, only its user can tell.
    """
    yield from _of_layers(case)
    found = case.evidence.verification
    if found is None or not found.agrees or found.loss is None or not found.loss.ruins:
        return
    known = found.compressed.explained
    furthest = max(found.compressed.exchanged, key=lambda layer: known[layer].share)
    yield Hypothesis(
        layer=furthest,
        evidence=f"{found.loss}; {furthest!r} is off by {known[furthest].share:.2g} of its weight's scale",
        cause=_CAUSE,
        needs=COMPRESS_LESS,
        weight=30,
        advice=True,
    )
