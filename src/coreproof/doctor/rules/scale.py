"""scale: a compressed weight that lost its scale, or the scale of a channel."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed(
    "a factor got lost when the weight was compressed: its scale, or the one of a block or a channel", "scale"
)
