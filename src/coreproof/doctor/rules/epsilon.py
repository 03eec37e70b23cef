"""epsilon: the small number that keeps a normalisation from dividing by zero is not the source's."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

ATTRIBUTES = ("epsilon", "eps")

applies, hypotheses, last_resort = claimed(
    "the default of another framework was taken for the epsilon, or it was rounded away", attributes=ATTRIBUTES
)
