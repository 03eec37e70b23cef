"""Lowers a whole NeuralNetwork (plain, classifier or regressor): inputs, preprocessing, layers, outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from coreproof.conversion.coreml_to_onnx.builder import OnnxBuilder
from coreproof.conversion.coreml_to_onnx.custom import how_to_register, is_registered
from coreproof.conversion.coreml_to_onnx.lowered_model import LoweredModel, named_lengths
from coreproof.conversion.coreml_to_onnx.neuralnetwork.blobs import Blob, f32, i64, known
from coreproof.conversion.coreml_to_onnx.neuralnetwork.scope import Scope
from coreproof.conversion.operators import LAYERS
from coreproof.errors import ConversionError, UnsupportedOperatorsError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import NeuralNetwork_pb2
from coreproof.model.features import Dimension, Feature, Signature
from coreproof.model.formats import network as layered


def lower_network(
    model: CoreMLModel,
    precision: str,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    function: str | None = None,
) -> LoweredModel:
    """The ONNX model of a NeuralNetwork. Networks compute in float32 whatever ``precision`` says, and have one function.

    ``shapes`` are the lengths that inputs will have, where those are not the declared ones: a rank 5 network that
    declares [C, H, W] also takes [Seq, Batch, C, H, W].
    """
    layers = list(model.network.layers)
    _refuse_unsupported(model, layers)
    scope = open_scope(model, shapes)
    scope.lower(layers)
    signature = model.signature
    probabilities = _probability_blob(model, layers)
    if probabilities is None:  # a regressor names its output as "predicted" too; that is an array like any other
        signature = replace(signature, predicted_label=None, probabilities=None)
    plain = [f for f in signature.outputs if f.name not in (signature.predicted_label, signature.probabilities)]
    outputs = {f.name: _output(model, scope, f) for f in plain}
    if probabilities is not None:
        outputs[probabilities] = _scores(model, scope, probabilities, signature, outputs.get(probabilities))
    values = {name: blob.value.name or name for name, blob in scope.blobs.items()}
    values.update({name: name for name in (*outputs, *(f.name for f in signature.inputs))})
    return LoweredModel(
        model=scope.b.model(list(outputs.values())),
        signature=replace(signature, scores=probabilities),
        values=values,
    )


def open_scope(model: CoreMLModel, shapes: Mapping[str, Sequence[int]] | None = None) -> Scope:
    """The inputs of a network, preprocessed, as the blobs that its layers are then lowered from."""
    network = model.network
    layers = list(network.layers)
    wanted = {f.name for f in model.signature.outputs} | {_probability_blob(model, layers) or ""}
    b = OnnxBuilder(by_layer=True, fold=True)
    b.taken.update(name for layer in layered.nodes(layers) for name in (*layer.input, *layer.output))
    scope = Scope(b, frozenset(wanted.union(*map(layered.reads, layered.nodes(layers)))))
    exact_arrays = not maps_to_rank5(model)
    # RANK4_IMAGE_MAPPING, which version 4 brought
    exact_images = network.imageInputShapeMapping == 1 and model.spec.specificationVersion >= 4
    for feature in model.signature.inputs:
        given = (shapes or {}).get(feature.name)
        shape = list(given) if given is not None else _input_shape(model, feature)
        _add_input(model, scope, feature, shape, exact_images if feature.kind == "image" else exact_arrays)
    return scope


def maps_to_rank5(model: CoreMLModel) -> bool:
    """Whether a network sees its arrays as [Seq, Batch, C, H, W]; EXACT_ARRAY_MAPPING came with version 4."""
    return not (model.network.arrayInputShapeMapping == 1 and model.spec.specificationVersion >= 4)


def missing_kind(layer: NeuralNetwork_pb2.NeuralNetworkLayer) -> str | None:
    """What a layer is that cannot be lowered: of a kind without a lowering, or custom and computed by nobody's function."""
    kind = layer.WhichOneof("layer")
    if kind == "custom" and not is_registered(layer.custom.className):
        return f"custom:{layer.custom.className}"
    return (kind or "nothing") if kind not in LAYERS else None


def _refuse_unsupported(model: CoreMLModel, layers: Iterable[NeuralNetwork_pb2.NeuralNetworkLayer]) -> None:
    kinds = ((missing_kind(layer), layer.name) for layer in layered.nodes(layers))
    missing = [(kind, name) for kind, name in kinds if kind is not None]
    custom = [name.removeprefix("custom:") for name, _ in missing if name.startswith("custom:")]
    if missing:
        raise UnsupportedOperatorsError(
            model.where, missing, "ONNX", fix=how_to_register(custom[0]) if len(custom) == len(missing) else None
        )


# inputs


def _add_input(model: CoreMLModel, scope: Scope, feature: Feature, shape: Sequence[Dimension], exact: bool) -> None:
    """The ONNX input of a feature, and the blob that the layers see under its name."""
    b = scope.b
    value = b.input(feature.name, "float32" if feature.kind == "image" else feature.dtype or "float32", shape)
    scope.taken[feature.name] = value
    b.may_be_left_out(value, feature, model.where)
    if feature.kind == "image":
        scope.blobs[feature.name] = Blob(_preprocessed(model, scope, feature, value), 0 if exact else 1)
        return
    if value.dtype != ir.DataType.FLOAT:
        value = b.op("Cast", value, to=int(ir.DataType.FLOAT))
    hidden = 0
    if not exact:
        if len(shape) == 1:
            # [C] is seen as [1, 1, C, 1, 1], of which the sequence stays hidden
            value, hidden = b.op("Unsqueeze", value, i64([0, 2, 3])), 1
        elif len(shape) == 3:
            value, hidden = b.op("Unsqueeze", value, i64([0])), 1
        elif len(shape) != 5:
            raise ConversionError(
                f"input {feature.name!r} has a shape that its network cannot read",
                where=model.where,
                expected="[C], [C, H, W] or [Seq, Batch, C, H, W] (the network maps arrays to rank 5)",
                found=list(shape),
            )
    scope.blobs[feature.name] = Blob(value, hidden)


def _input_shape(model: CoreMLModel, feature: Feature) -> list[Dimension]:
    declared = named_lengths(feature)
    if declared is None:
        raise ConversionError(
            f"input {feature.name!r} does not declare its shape",
            where=model.where,
            expected="a multi-array or image input with a shape",
            found=str(feature),
        )
    return declared


def _preprocessed(model: CoreMLModel, scope: Scope, feature: Feature, value: ir.Value) -> ir.Value:
    """The image after the scalers and mean images that are stored for it."""
    assert feature.image is not None
    b = scope.b
    colour = feature.image.colour
    for step in model.network.preprocessing:
        if step.featureName not in ("", feature.name):
            continue
        if step.WhichOneof("preprocessor") == "meanImage":
            shape = (feature.image.channels, feature.image.height, feature.image.width)
            mean = np.asarray(step.meanImage.meanImage, np.float32)
            if mean.size != prod(shape):
                raise ConversionError(
                    f"the mean image of input {feature.name!r} does not fit it",
                    where=model.where,
                    expected=f"{prod(shape)} values for {list(shape)}",
                    found=f"{mean.size} values",
                )
            value = b.op("Sub", value, mean.reshape(1, *shape), name=f"{feature.name}_preprocessed")
            continue
        scaler = step.scaler
        bias = {
            "RGB": [scaler.redBias, scaler.greenBias, scaler.blueBias],
            "BGR": [scaler.blueBias, scaler.greenBias, scaler.redBias],
        }.get(colour, [scaler.grayBias])
        # scaled first, then shifted (NeuralNetwork.proto, NeuralNetworkImageScaler)
        if scaler.channelScale != 1:
            value = b.op("Mul", value, f32(scaler.channelScale), name=f"{feature.name}_scaled")
        if any(bias):
            value = b.op("Add", value, f32(bias).reshape(1, -1, 1, 1), name=f"{feature.name}_preprocessed")
    return value


# outputs


def _blob(model: CoreMLModel, scope: Scope, name: str) -> Blob:
    blob = scope.find(name)
    if blob is None:
        raise ConversionError(
            f"output {name!r} is made by no layer of the network",
            where=model.where,
            expected="the name of a blob",
            found=name,
            fix="the blobs made last are " + ", ".join(list(scope.blobs)[-3:]),
        )
    return blob


def _output(model: CoreMLModel, scope: Scope, feature: Feature) -> ir.Value:
    """The blob of an output in its declared dtype, without the dimensions of 1 that its declared shape leaves out."""
    blob = _blob(model, scope, feature.name)
    b = scope.b
    value = blob.value
    shape = known(value)
    if feature.image is not None:
        if shape is None or len(shape) != 4:
            value = b.op("Reshape", value, i64([1, feature.image.channels, -1, feature.image.width]))
    elif (target := _declared(feature, shape)) is not None:
        if blob.hidden or tuple(target) != shape:
            value = b.op("Reshape", value, i64(target))
    elif blob.hidden:
        value = b.op("Unsqueeze", value, i64(range(blob.hidden)))
    if feature.image is None and feature.dtype not in (None, "float32"):
        value = b.op("Cast", value, to=int(ir.DataType.from_numpy(np.dtype(feature.dtype))))
    return _named(scope, feature.name, value)


def _declared(feature: Feature, shape: tuple[int | None, ...] | None) -> list[int] | None:
    """The declared shape of an output when it differs from the blob's by dimensions of length 1 at most."""
    if not feature.shape or shape is None:
        return None
    declared = [d for d in feature.shape if isinstance(d, int)]
    fits = len(declared) == len(feature.shape) and [n for n in declared if n != 1] == [n for n in shape if n != 1]
    return declared if fits else None


def _named(scope: Scope, name: str, value: ir.Value) -> ir.Value:
    """``value`` as the graph output ``name``; the blob that had the name keeps its value under another one."""
    if value.const_value is not None or value.is_graph_input() or (value.name != name and value.name in scope.taken):
        value = scope.b.copy(value)
    if value.name != name:
        holder = scope.taken.get(name)
        if holder is not None:
            scope.b.rename(holder, scope.b.unique(f"{name}_blob"))
        scope.b.rename(value, name)
    scope.taken[name] = value
    return value


# classifiers


def _probability_blob(model: CoreMLModel, layers: list[NeuralNetwork_pb2.NeuralNetworkLayer]) -> str | None:
    if model.kind != "neuralNetworkClassifier":
        return None
    named = str(model.spec.neuralNetworkClassifier.labelProbabilityLayerName)
    if named or not layers or not layers[-1].output:
        return named or None
    # without a name it is what the last layer gives (NeuralNetworkClassifier)
    return str(layers[-1].output[0])


def _scores(model: CoreMLModel, scope: Scope, name: str, signature: Signature, output: ir.Value | None) -> ir.Value:
    """The blob of the class probabilities as a vector, checked against the number of labels."""
    blob = _blob(model, scope, name)
    shape = known(blob.value)
    labels = signature.labels or ()
    count = prod(n for n in shape or () if n is not None)
    if shape is not None and None not in shape and count != len(labels):
        raise ConversionError(
            f"the class labels do not fit the output of layer {name!r}",
            where=f"{model.where}, blob {name!r} (labelProbabilityLayerName)",
            expected=f"{len(labels)} values, one a label",
            found=f"{count} values in {[1] * blob.hidden + list(shape)}",
            fix="give as many labels as the network has classes, or name the blob that holds their probabilities",
        )
    if output is not None:
        return output
    value = blob.value if shape is not None and len(shape) == 1 else scope.b.op("Reshape", blob.value, i64([-1]))
    return _named(scope, name, value)
