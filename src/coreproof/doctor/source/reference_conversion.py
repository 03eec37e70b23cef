"""The source carried to the model's own format anew, to hold the model against, layer by layer."""

from __future__ import annotations

from coreproof.errors import CoreproofError
from coreproof.model.base import Model


def convert_reference(source: Model | None, model: Model) -> Model | None:
    """The source in the model's format and precision; the source itself for ONNX; None where it cannot be carried over."""
    if source is None or not source.is_onnx:
        return source if source is not None and source.format == model.format else None
    if model.is_onnx:
        return source
    from coreproof.conversion.convert import convert

    to = model.format
    if to not in ("mlprogram", "neuralnetwork"):
        return None
    # in the model's own width, so that what differs is not the rounding
    half = any(v.dtype == "float16" for v in model.graph.values.values())
    try:
        return convert(source, to, precision="fp16" if half and to == "mlprogram" else "fp32")
    except CoreproofError:
        return None
