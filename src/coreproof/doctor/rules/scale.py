"""scale: a compressed weight that lost its scale, or the scale of a channel."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed(
    "the scale or zero point of quantised numbers got lost or was replaced: that of all, of a block or of a channel",
    "scale",
)
