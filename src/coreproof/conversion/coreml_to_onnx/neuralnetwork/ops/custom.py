"""Custom layers: computed by the function that the caller registered for their class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coreproof.conversion.coreml_to_onnx.custom import CustomLayer, how_to_register, is_registered
from coreproof.conversion.coreml_to_onnx.custom_nodes import custom_node
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, Layer
from coreproof.conversion.coreml_to_onnx.neuralnetwork.layer_arguments import lowers
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.coreml.weight_params import read_vector

_Parameter = NeuralNetwork_pb2.CustomLayerParams.CustomLayerParamValue


@lowers("custom")
def custom(
    layer: Layer,
    *blobs: Blob,
    className: str = "",
    weights: Sequence[NeuralNetwork_pb2.WeightParams] = (),
    parameters: Mapping[str, _Parameter] | None = None,
    description: str = "",
) -> list[Blob]:
    """The inputs in the shapes that Core ML hands to a custom layer; what the function returns, as it returns it."""
    if not is_registered(className):
        raise layer.refuse(f"its class {className!r} is computed by code of the app", fix=how_to_register(className))
    told = {name: getattr(value, value.WhichOneof("value") or "intValue") for name, value in (parameters or {}).items()}
    own = CustomLayer(layer.name, className, told, tuple(read_vector(params) for params in weights))
    results = custom_node(layer.b, own, [layer.exact(blob) for blob in blobs], len(layer.outputs))
    return [Blob(value) for value in results]
