"""weight: a weight that is not the source's."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed(
    "a weight was transposed, permuted, scaled or replaced on the way from the source", "weight"
)
