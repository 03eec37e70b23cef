"""Core ML -> ONNX: one entry for every kind of Core ML model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx_ir as ir

from coreproof.errors import UnsupportedOperatorsError
from coreproof.model.coreml import CoreMLModel
from coreproof.model.features import Signature


@dataclass(frozen=True)
class LoweredModel:
    """The ONNX form of a Core ML model.

    ``model`` has one input a Core ML input (pictures as float32 [1, C, H, W], 0-255) and one output a Core ML output; a
    classifier's scores are the output ``signature.scores``. ``values`` maps Core ML value names to ONNX value names.
    ``states`` maps each state (an ONNX input of that name) to the ONNX output that holds it after the run.
    """

    model: ir.Model
    signature: Signature
    values: Mapping[str, str]
    states: Mapping[str, str] = field(default_factory=dict)


def coreml_to_onnx(
    model: CoreMLModel, *, precision: Literal["stored", "fp32"] = "stored", function: str | None = None
) -> LoweredModel:
    """Lowers ``model``; ``function`` picks one of a multi-function ML Program.

    ``precision`` "stored" rounds each float16 result to float16, "fp32" does not. Raises UnsupportedOperatorsError, which
    names everything that cannot be lowered.
    """
    if model.format == "neuralnetwork":
        from coreproof.convert.coreml_to_onnx.neuralnetwork.network import lower_network

        return lower_network(model, precision)
    if model.format == "mlprogram":
        from coreproof.convert.coreml_to_onnx.mlprogram.program import lower_program

        return lower_program(model, precision, function)
    raise UnsupportedOperatorsError(model.where, [(model.kind, model.name)], "ONNX")
