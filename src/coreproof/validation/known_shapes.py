"""The shapes of a model's values: as its file says, else as they are inferred, as far as that comes."""

from __future__ import annotations

from dataclasses import replace

from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
from coreproof.errors import CoreproofError
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.graph import Graph, Value
from coreproof.model.onnx.model import OnnxModel
from coreproof.validation.validate import inspect


def with_shapes(model: Model) -> Graph:
    """The stored graph; values whose shape the file does not say get the one that is inferred."""
    graph = model.graph
    silent = {name for node in graph.nodes for name in node.outputs if not _has_shape(graph, name)}
    if not silent or not (model.is_network or model.is_onnx):  # an ML Program states all of them
        return graph
    inferred = _lowered_values(model) if model.is_network else {}
    if not inferred:  # of a broken network, the shapes up to the fault are what one wants to see
        inferred = _followed_values(model)
    values = {name: value for name, value in inferred.items() if name in silent or name in graph.values}
    return replace(graph, values={**graph.values, **values})


def _has_shape(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    return value is not None and value.shape is not None


def _lowered_values(model: Model) -> dict[str, Value]:
    """What the lowering of a NeuralNetwork to ONNX knows of its values; nothing where it cannot be lowered."""
    assert isinstance(model, CoreMLModel)
    try:
        lowered = coreml_to_onnx(model, precision="fp32")
    except CoreproofError:
        return {}  # a broken model is shown as it is; verify and doctor say what is wrong with it
    known = OnnxModel(lowered.model, name=model.name).graph.values
    twins = {name: known.get(lowered.values.get(name, name)) for name in model.graph.values}
    return {name: Value(name, twin.dtype, twin.shape) for name, twin in twins.items() if twin is not None}


def _followed_values(model: Model) -> dict[str, Value]:
    """The values that have no shape in the file, with the one that is found from layer to layer."""
    try:
        shapes = inspect(model).shapes
    except CoreproofError:
        return {}
    dtypes = {name: value.dtype for name, value in model.graph.values.items()}
    unknown = {name: shape for name, shape in shapes.items() if not _has_shape(model.graph, name)}
    return {name: Value(name, dtypes.get(name), shape) for name, shape in unknown.items()}
