"""The stages of a pipeline around a network: in front of it texts become numbers, and behind it classes get their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

from coreproof.conversion.onnx_to_coreml.class_outputs import NamedClasses
from coreproof.conversion.onnx_to_coreml.texts import DictionaryInput, TextInput, Texts
from coreproof.errors import ConversionError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import FeatureTypes_pb2, Model_pb2, NeuralNetwork_pb2

_DOUBLE = FeatureTypes_pb2.ArrayFeatureType.DOUBLE


_NAMED = 8
"""Labels that a note names."""


def with_text_stages(
    network: CoreMLModel, texts: Texts, named: Sequence[NamedClasses], identifier: Callable[[str], str]
) -> CoreMLModel:
    """A pipeline of ``network`` between the stages that make its numbers of texts, and texts of its numbers.

    ``named`` says which of its outputs hold the scores of classes; ``identifier`` what its features are called of those of ONNX.
    Raises ConversionError where an output holds the scores of several samples.
    """
    stage = Model_pb2.Model()
    stage.CopyFrom(network.spec)
    spec = Model_pb2.Model(specificationVersion=stage.specificationVersion)
    description, own = spec.description, stage.description
    stages: list[tuple[str, Model_pb2.Model]] = []
    named = [replace(of, scores=identifier(of.scores)) for of in named]
    in_front = {identifier(entry.numbers): list(_looked_up(entry, texts)) for entry in texts.inputs}
    in_front |= {identifier(entry.numbers): list(_vectorized(entry)) for entry in texts.dictionaries}
    for numbers, made_of in in_front.items():
        # the last of them makes the row, which the network reads under the name of its own input
        made_of[-1][1].description.output[0].name = numbers
    for feature in own.input:
        if feature.name not in in_front:
            description.input.add().CopyFrom(feature)
        for name, model in in_front.get(feature.name, ()):
            # a pipeline is of one version, its stages too
            model.specificationVersion = spec.specificationVersion
            stages.append((name, model))
            # the numbers between mapping and row are inside; the texts and dictionaries are fed from outside
            description.input.extend(f for f in model.description.input if f.type.WhichOneof("Type") != "int64Type")
    stages.append(("network", stage))
    description.predictedFeatureName = own.predictedFeatureName
    description.predictedProbabilitiesName = own.predictedProbabilitiesName
    # scores that only name classes are no outputs of the whole, unless the source hands them out too
    inner = {of.scores for of in named} - {identifier(of.kept) for of in named if of.kept}
    described = {of.output: _named(of, stage) for of in named}
    stages += [(of.output, described[of.output]) for of in named]
    labels = [of for of in named if of.is_label]
    shares = [of for of in named if not of.is_label]
    for of in named:
        made = described[of.output].description.output
        description.output.extend(feature for feature in made if feature.name == of.output)
    description.output.extend(feature for feature in own.output if feature.name not in inner)
    # Core ML has one predicted label and one dictionary of probabilities: of several none is picked
    if len(labels) == 1:
        description.predictedFeatureName = labels[0].output
        if len(shares) == 1:
            description.predictedProbabilitiesName = shares[0].output
    whole = spec.pipelineClassifier.pipeline if description.predictedFeatureName else spec.pipeline
    whole.models.extend(model for _, model in stages)
    whole.names.extend(name for name, _ in stages)
    description.metadata.CopyFrom(own.metadata)
    whole_model = network.with_spec(spec)
    whole_model.notes, whole_model.provenance = network.notes, network.provenance
    return whole_model


def scores_instead(of: NamedClasses, identifier: Callable[[str], str]) -> str:
    """What stands for a label or a dictionary where no stage makes it."""
    known = ", ".join(map(str, of.labels[:_NAMED])) + (", ..." if len(of.labels) > _NAMED else "")
    kind = "a label" if of.is_label else "a dictionary by label"
    return f"{identifier(of.scores)}: stands for {of.output!r}, {kind} to the source: a score for each of {known}, in this order"


def _looked_up(entry: TextInput, texts: Texts) -> Iterator[tuple[str, Model_pb2.Model]]:
    """A mapping for each text, and what puts their numbers in a row."""
    row = Model_pb2.Model()
    for name in entry.features:
        mapping = Model_pb2.Model()
        held = mapping.categoricalMapping
        for place, text in enumerate(texts.known):
            held.stringToInt64Map.map[text] = place
        # CategoricalMapping, ValueOnUnknown: the place behind the last, which equals no text that is known
        held.int64Value = len(texts.known)
        mapping.description.input.add(name=name).type.stringType.SetInParent()
        number = f"{name}_number"
        for description in (mapping.description.output, row.description.input):
            description.add(name=number).type.int64Type.SetInParent()
        row.featureVectorizer.inputList.add(inputColumn=number, inputDimensions=1)
        yield f"{name}_mapping", mapping
    _array(row, entry.numbers, entry.columns)
    yield entry.numbers, row


def _vectorized(entry: DictionaryInput) -> Iterator[tuple[str, Model_pb2.Model]]:
    """The values of a dictionary in the order of their keys."""
    model = Model_pb2.Model()
    dictionary = model.description.input.add(name=entry.name).type.dictionaryType
    for key in entry.keys:
        if isinstance(key, str):
            dictionary.stringKeyType.SetInParent()
            model.dictVectorizer.stringToIndex.vector.append(key)
        else:
            dictionary.int64KeyType.SetInParent()
            model.dictVectorizer.int64ToIndex.vector.append(key)
    _array(model, entry.numbers, len(entry.keys))
    yield entry.numbers, model


def _array(model: Model_pb2.Model, name: str, length: int) -> None:
    array = model.description.output.add(name=name).type.multiArrayType
    array.dataType = _DOUBLE
    array.shape.append(length)


def _named(of: NamedClasses, network: Model_pb2.Model) -> Model_pb2.Model:
    """A classifier that names the class of the highest of these scores, and hands them on by name."""
    scores = next(feature for feature in network.description.output if feature.name == of.scores)
    lengths = list(scores.type.multiArrayType.shape)
    if prod(lengths) != len(of.labels):
        raise ConversionError(
            "a Core ML classifier names the class of one sample at a time",
            where=f"output {of.output!r}",
            expected=f"{len(of.labels)} scores",
            found=str(lengths),
            fix="convert it for one sample: --batch 1, or give the input's shape",
        )
    model = Model_pb2.Model(specificationVersion=network.specificationVersion)
    held = model.neuralNetworkClassifier
    inner = f"{of.scores}_of_{of.output}"
    # the identity: a NeuralNetworkClassifier names what a layer of its own gives, never an input
    layer = held.layers.add(name=inner, input=[of.scores], output=[inner])
    layer.activation.linear.alpha = 1
    held.arrayInputShapeMapping = NeuralNetwork_pb2.EXACT_ARRAY_MAPPING
    held.labelProbabilityLayerName = inner
    model.description.input.add().CopyFrom(scores)
    label = model.description.output.add(name=of.output if of.is_label else f"{of.output}_label")
    shares = model.description.output.add(name=f"{of.output}_probs" if of.is_label else of.output)
    if isinstance(of.labels[0], str):
        label.type.stringType.SetInParent()
        shares.type.dictionaryType.stringKeyType.SetInParent()
        held.stringClassLabels.vector.extend(str(text) for text in of.labels)
    else:
        label.type.int64Type.SetInParent()
        shares.type.dictionaryType.int64KeyType.SetInParent()
        held.int64ClassLabels.vector.extend(int(number) for number in of.labels)
    model.description.predictedFeatureName, model.description.predictedProbabilitiesName = label.name, shares.name
    return model
