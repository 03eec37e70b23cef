"""axis: a layer works along another axis than the source's."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

ATTRIBUTES = ("axis", "axes", "perm", "permutation")

applies, hypotheses, last_resort = claimed("the axis was counted from another layout or rank", attributes=ATTRIBUTES)
