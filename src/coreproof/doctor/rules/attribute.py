"""attribute: any other attribute of a layer that is not the source's."""

from __future__ import annotations

from coreproof.doctor.rules import axis, batch_baked_reshape, epsilon, padding
from coreproof.doctor.source.layer_faults import claimed

applies, hypotheses, last_resort = claimed(
    "the converter set an attribute otherwise than the source has it",
    but=(*axis.ATTRIBUTES, *epsilon.ATTRIBUTES, *padding.ATTRIBUTES, *batch_baked_reshape.SHAPES),
)
