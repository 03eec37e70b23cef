"""What a NeuralNetwork says about its inputs and outputs, edited: declared, renamed, taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel, network_of
from coreproof.model.coreml.proto import FeatureTypes_pb2, Model_pb2
from coreproof.model.files.wire import field_bytes, records
from coreproof.model.formats import classic
from coreproof.model.formats import network as layered


def blob_shapes(model: CoreMLModel) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the blobs, as far as they can be followed from layer to layer."""
    from coreproof.validation.validate import inspect

    return inspect(model).shapes


# outputs


def declare_output(model: CoreMLModel, value: str, instead_of: str | None) -> None:
    """A multi-array output with the shape that its layers give it; a declared output of that name keeps its kind and dtype."""
    outputs = model.spec.description.output
    place = next((f for f in outputs if f.name == (instead_of or value)), None)
    if instead_of is not None and place is None:
        raise EditError(
            f"there is no output {instead_of!r}",
            where=model.name,
            expected=", ".join(f.name for f in outputs),
            found=instead_of,
        )
    if place is None:
        place = outputs.add()
    elif instead_of is not None and instead_of != value:
        if instead_of == model.spec.description.predictedProbabilitiesName:
            model.spec.description.predictedProbabilitiesName = ""
        _refuse_label(model.spec, instead_of)
    blob = blob_shapes(model).get(value, ())
    if place.name == value and place.type.WhichOneof("Type") == "imageType":
        if len(blob) >= 2:
            place.type.imageType.height, place.type.imageType.width = blob[-2:]
        return
    known = place.type.multiArrayType.dataType if place.name == value else None
    optional = place.type.isOptional
    if place.name != value:
        place.ClearField("shortDescription")
    place.name = value
    place.type.Clear()
    place.type.isOptional = optional
    place.type.multiArrayType.dataType = known or FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    place.type.multiArrayType.shape.extend(layered.feature_shape(model.spec, blob))


def _refuse_label(spec: Model_pb2.Model, name: str) -> None:
    if name == spec.description.predictedFeatureName and spec.WhichOneof("Type") == "neuralNetworkClassifier":
        raise EditError(
            f"output {name!r} is the label that the classifier predicts",
            expected="an output that is not the label",
            found=name,
            fix="a classifier always has its label; other outputs can be added beside it",
        )


def drop_output(spec: Model_pb2.Model, name: str) -> None:
    """Takes an output away; a classifier keeps its label."""
    _refuse_label(spec, name)
    outputs = spec.description.output
    if len(outputs) == 1 and outputs[0].name == name:
        raise EditError(f"{name!r} is the only output", fix="declare another output first")
    _drop(outputs, name, "output")
    if spec.description.predictedProbabilitiesName == name:
        spec.description.predictedProbabilitiesName = ""


def unclassified(model: CoreMLModel) -> CoreMLModel:
    """A classifier or regressor as a plain network with the outputs that its layers make, spelled as it was."""
    fields, kind = model.spec.DESCRIPTOR.fields_by_name, model.kind
    plain = fields["neuralNetwork"]
    shared = {f.number for f in model.spec.neuralNetwork.DESCRIPTOR.fields if f.name != "updateParams"}
    data = b""
    for record in records(model.stored()):
        if record.number == fields[kind].number:
            kept = b"".join(r.data for r in records(record.payload) if r.number in shared)
            data += field_bytes(plain.number, kept)
        else:
            data += record.data
    spec = type(model.spec).FromString(data)
    made = {name for layer in spec.neuralNetwork.layers for name in layer.output}
    description = spec.description
    for place in reversed(range(len(description.output))):
        feature = description.output[place]
        if feature.name not in made or feature.type.WhichOneof("Type") not in ("multiArrayType", "imageType"):
            del description.output[place]
    description.predictedFeatureName = description.predictedProbabilitiesName = ""
    return CoreMLModel(
        spec, name=model.name, folder=model.folder, notes=model.notes, provenance=model.provenance, origin=data
    )


# inputs


def declare_input(model: CoreMLModel, value: str, shape: Sequence[int], dtype: str) -> None:
    """A multi-array input of a fixed shape; float16 makes the specification version 7, the first that has it."""
    if dtype not in classic.ARRAY_DTYPES:
        raise EditError(f"an input cannot be {dtype}", expected=", ".join(classic.ARRAY_DTYPES), found=dtype)
    if not layered.keeps_rank(model.spec) and len(shape) not in (1, 3, 5):
        raise EditError(
            f"input {value!r} has a shape that its network cannot read",
            where=model.name,
            expected="[C], [C, H, W] or [Seq, Batch, C, H, W] (the network maps arrays to rank 5)",
            found=list(shape),
        )
    inputs = model.spec.description.input
    feature = next((f for f in inputs if f.name == value), None)
    if feature is None:
        feature = inputs.add(name=value)
    optional = feature.type.isOptional
    feature.type.Clear()
    feature.type.isOptional = optional
    feature.type.multiArrayType.dataType = classic.ARRAY_DTYPES[dtype]
    feature.type.multiArrayType.shape.extend(int(n) for n in shape)
    if dtype == "float16":
        model.spec.specificationVersion = max(model.spec.specificationVersion, classic.FLOAT16_FEATURES_SINCE)


def drop_input(spec: Model_pb2.Model, name: str) -> None:
    """Takes an input away, and the preprocessing that is stored for it."""
    _drop(spec.description.input, name, "input")
    preprocessing = network_of(spec).preprocessing
    for place in reversed(range(len(preprocessing))):
        if preprocessing[place].featureName == name:
            del preprocessing[place]


def _drop(features: Any, name: str, kind: str) -> None:
    for place, feature in enumerate(features):
        if feature.name == name:
            del features[place]
            return
    raise EditError(f"there is no {kind} {name!r}", expected=", ".join(f.name for f in features), found=name)
