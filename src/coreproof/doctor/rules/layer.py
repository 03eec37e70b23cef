"""layer: a layer that the source does not have, or has and the model does not, or another in its place."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed("the converter dropped, added or exchanged a layer", "layer")
