"""compression: what palettised, quantised or pruned weights cost; nothing is broken."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed(
    "the weights were compressed (palettised, quantised or pruned) after the conversion: this is what it costs",
    "compression",
)
