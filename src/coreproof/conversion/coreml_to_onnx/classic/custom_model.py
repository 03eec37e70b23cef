"""Custom models: computed by the function that the caller registered for their class."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.classic.lowerer import lowers_model
from coreproof.conversion.coreml_to_onnx.classic.stage import Stage
from coreproof.conversion.coreml_to_onnx.custom import CustomLayer, how_to_register, is_registered
from coreproof.conversion.coreml_to_onnx.custom_nodes import custom_node
from coreproof.model.coreml.model import CoreMLModel


def _problems(model: CoreMLModel) -> Iterator[str]:
    if not model.spec.customModel.className:
        yield "it names no class"


@lowers_model(_problems)
def lower_custom_model(stage: Stage) -> None:
    """The inputs in the order in which the model declares them; of each output what its feature declares."""
    custom = stage.model.spec.customModel
    if not is_registered(custom.className):
        raise stage.refuse(
            f"its class {custom.className!r} is computed by code of the app", fix=how_to_register(custom.className)
        )
    told = {name: getattr(value, value.WhichOneof("value") or "intValue") for name, value in custom.parameters.items()}
    layer = CustomLayer(stage.model.name, custom.className, told)
    outputs = stage.model.signature.outputs
    results = custom_node(stage.b, layer, [stage.value(f.name) for f in stage.inputs], len(outputs), dtype=None)
    for feature, value in zip(outputs, results, strict=True):
        if feature.kind == "string" or feature.dtype == "str":
            value.type = ir.TensorType(ir.DataType.STRING)
        stage.write(feature.name, value)
