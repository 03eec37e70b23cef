"""Any model that runs by being lowered to ONNX, lowered."""

from __future__ import annotations

from typing import Literal

from coreproof.conversion.coreai_to_onnx.program import coreai_to_onnx
from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.errors import ConversionError
from coreproof.model.base import Model
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreml.model import CoreMLModel


def lowered_to_onnx(
    model: Model, precision: Literal["stored", "fp32"] = "stored", function: str | None = None
) -> LoweredModel:
    """The ONNX form of a Core ML or Core AI model; ``function`` picks one of a model that has several.

    Raises UnsupportedOperatorsError, which names everything that cannot be lowered, and ConversionError.
    """
    if isinstance(model, CoreAIModel):
        return coreai_to_onnx(model, precision=precision, function=function)
    if isinstance(model, CoreMLModel):
        return coreml_to_onnx(model, precision=precision, function=function)
    raise ConversionError(
        f"there is no way from {model.format} to onnx",
        where=model.name,
        expected="a PyTorch, Core ML or Core AI model",
    )
