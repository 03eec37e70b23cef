"""padding: a layer pads otherwise than the source's."""

from __future__ import annotations

from coreproof.doctor.source.layer_faults import claimed

ATTRIBUTES = (
    *("borderAmounts", "avgPoolExcludePadding"),  # NeuralNetwork
    *("pad", "pad_type", "exclude_padding_from_average"),  # ML Program
    *("pads", "auto_pad", "count_include_pad"),  # ONNX
    "ceil_mode",  # both: how far the last window reaches into the padding
)

applies, hypotheses, last_resort = claimed("formats order and count padding differently", attributes=ATTRIBUTES)
