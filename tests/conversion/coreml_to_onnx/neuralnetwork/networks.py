"""Builds small NeuralNetwork models message by message, and runs their lowered form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel
from coreproof.conversion.coreml_to_onnx.neuralnetwork.network import lower_network
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2, NeuralNetwork_pb2


def fill(message: Any, fields: Mapping[str, Any]) -> None:
    """Sets fields: arrays become WeightParams, mappings sub-messages, words enumeration values."""
    for name, value in fields.items():
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, np.ndarray):
            getattr(message, name).floatValue.extend(value.astype(np.float32).ravel())
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


def run(model: CoreMLModel, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs of the lowered model."""
    lowered = lower_network(model, "fp32")
    return run_lowered(lowered, **inputs)


def run_lowered(lowered: LoweredModel, taps: Sequence[str] = (), **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of a lowered model, and taps on inner values."""
    proto = ir.to_proto(lowered.model)
    for tap in taps:
        proto.graph.output.add(name=tap)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def run_layer(
    kind: str, *inputs: np.ndarray, outputs: int = 1, exact: bool = True, **fields: Any
) -> np.ndarray | list[np.ndarray]:
    """What one layer makes of arrays; ``exact`` keeps their ranks, else they are [C] or [C, H, W] of a rank 5 network."""
    names = [f"x{i}" for i in range(len(inputs))]
    made = [f"y{i}" for i in range(outputs)]
    model = network(
        [layer(kind, " ".join(names), " ".join(made), **fields)],
        {n: v.shape for n, v in zip(names, inputs, strict=True)},
        dict.fromkeys(made),
        exact=exact,
    )
    results = run(model, **{n: v.astype(np.float32) for n, v in zip(names, inputs, strict=True)})
    return results["y0"] if outputs == 1 else [results[n] for n in made]
