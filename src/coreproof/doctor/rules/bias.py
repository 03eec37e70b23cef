"""bias: a bias that is not the source's, or is missing."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed("a bias was dropped or replaced on the way from the source", "bias")
