"""Core ML models from their stored messages: NeuralNetworks layer by layer, models that are no network, pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2


def fill(message: Any, fields: Mapping[str, Any]) -> None:
    """Sets fields: arrays become WeightParams, mappings sub-messages, words enumeration values."""
    for name, value in fields.items():
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, np.ndarray):
            getattr(message, name).floatValue.extend(value.astype(np.float32).ravel())
        elif isinstance(value, Mapping) and descriptor.message_type.GetOptions().map_entry:
            getattr(message, name).update(value)
        elif isinstance(value, Mapping):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for item in value:
                fill(getattr(message, name).add(), item)
        elif isinstance(value, list | tuple):
            getattr(message, name).extend(value)
        elif descriptor.enum_type is not None:
            setattr(message, name, descriptor.enum_type.values_by_name[value].number)
        else:
            setattr(message, name, value)


def layer(kind: str, inputs: str, outputs: str, **fields: Any) -> Any:
    """A layer; inputs and outputs are blank-separated names."""
    message = NeuralNetwork_pb2.NeuralNetworkLayer(name=f"the {kind}", input=inputs.split(), output=outputs.split())
    getattr(message, kind).SetInParent()
    fill(getattr(message, kind), fields)
    return message


def named(name: str, kind: str, reads: str, makes: str, **fields: Any) -> Any:
    """A NeuralNetwork layer of that name."""
    message = layer(kind, reads, makes, **fields)
    message.name = name
    return message


def convolution(name: str, reads: str, makes: str, weight: np.ndarray, stride: int = 1) -> Any:
    edge = {"startEdgeSize": 1, "endEdgeSize": 1}
    return named(
        name, "convolution", reads, makes, outputChannels=weight.shape[0], kernelChannels=weight.shape[1], nGroups=1,
        kernelSize=weight.shape[2:], stride=[stride, stride], dilationFactor=[1, 1], weights=weight,
        valid={"paddingAmounts": {"borderAmounts": [edge, edge]}},
    )  # fmt: skip


def inner_product(name: str, reads: str, makes: str, weight: np.ndarray) -> Any:
    return named(
        name,
        "innerProduct",
        reads,
        makes,
        inputChannels=weight.shape[1],
        outputChannels=weight.shape[0],
        weights=weight,
    )


def pool(name: str, reads: str, makes: str, kind: str = "AVERAGE") -> Any:
    return named(name, "pooling", reads, makes, type=kind, globalPooling=True)


def network(
    layers: Sequence[Any],
    inputs: Mapping[str, Sequence[int] | str],
    outputs: Mapping[str, Sequence[int] | None],
    *,
    exact: bool = False,
    labels: Sequence[str] | None = None,
    preprocessing: Sequence[Mapping[str, Any]] = (),
) -> CoreMLModel:
    """A model; an input is a shape, or an image as "RGB 4x6" (height x width)."""
    spec = Model_pb2.Model(specificationVersion=4 if exact else 1)
    body = spec.neuralNetworkClassifier if labels is not None else spec.neuralNetwork
    body.layers.extend(layers)
    for step in preprocessing:
        fill(body.preprocessing.add(), step)
    body.arrayInputShapeMapping = body.imageInputShapeMapping = int(exact)
    for name, given in inputs.items():
        kind = spec.description.input.add(name=name).type
        if isinstance(given, str):
            colour, size = given.split()
            kind.imageType.height, kind.imageType.width = (int(n) for n in size.split("x"))
            kind.imageType.colorSpace = type(kind.imageType).ColorSpace.Value(colour)
        else:
            kind.multiArrayType.shape.extend(given)
            kind.multiArrayType.dataType = type(kind.multiArrayType).FLOAT32
    for name, shape in outputs.items():
        kind = spec.description.output.add(name=name).type
        kind.multiArrayType.shape.extend(shape or ())
        kind.multiArrayType.dataType = type(kind.multiArrayType).FLOAT32
    if labels is not None:
        body.stringClassLabels.vector.extend(labels)
        del spec.description.output[:]
        (probabilities,) = outputs
        spec.description.output.add(name=probabilities).type.dictionaryType.stringKeyType.SetInParent()
        spec.description.output.add(name="label").type.stringType.SetInParent()
        spec.description.predictedFeatureName = "label"
        spec.description.predictedProbabilitiesName = probabilities
    return CoreMLModel(spec, name="net")


def feature(
    message: Any, name: str, kind: str | Sequence[int], dtype: str = "DOUBLE", *, optional: bool = False
) -> None:
    """A FeatureDescription: an array where ``kind`` is a shape, else "double", "int64", "string", "dictionary string" ..."""
    described = message.add(name=name).type
    described.isOptional = optional
    if not isinstance(kind, str):
        described.multiArrayType.shape.extend(kind)
        described.multiArrayType.dataType = type(described.multiArrayType).ArrayDataType.Value(dtype)
    elif " " in kind:
        of, element = kind.split()
        ending = "KeyType" if of == "dictionary" else "Type"
        getattr(getattr(described, f"{of}Type"), f"{element}{ending}").SetInParent()
    else:
        getattr(described, f"{kind}Type").SetInParent()


def classic(
    kind: str,
    inputs: Mapping[str, str | Sequence[int]],
    outputs: Mapping[str, str | Sequence[int]],
    *,
    optional: Sequence[str] = (),
    dtype: str = "DOUBLE",
    **fields: Any,
) -> CoreMLModel:
    """A model that is no network; the first output is the predicted one, a dictionary holds the probabilities."""
    spec = Model_pb2.Model(specificationVersion=4)
    for name, of in inputs.items():
        feature(spec.description.input, name, of, dtype, optional=name in optional)
    for name, of in outputs.items():
        feature(spec.description.output, name, of, dtype)
        if of in ("dictionary string", "dictionary int64") and kind.endswith("Classifier"):
            spec.description.predictedProbabilitiesName = name
    if kind.endswith(("Classifier", "Regressor")):
        spec.description.predictedFeatureName = next(iter(outputs))
    getattr(spec, kind).SetInParent()
    fill(getattr(spec, kind), fields)
    return CoreMLModel(spec, name=kind)


def pipeline(
    kind: str, stages: Sequence[CoreMLModel], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> CoreMLModel:
    """A pipeline, plain or a classifier or a regressor, of these models."""
    model = classic(kind, inputs, outputs)
    body = model.spec.pipeline if kind == "pipeline" else getattr(model.spec, kind).pipeline
    body.models.extend(stage.spec for stage in stages)
    return CoreMLModel(model.spec, name=kind)
