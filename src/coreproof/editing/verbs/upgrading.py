"""upgrade: a NeuralNetwork as an ML Program with the same features, labels, preprocessing and documentation."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from coreproof.errors import EditError
from coreproof.model.arguments import System
from coreproof.model.base import Model
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.features import Signature
from coreproof.model.load import load
from coreproof.model.onnx.model import OnnxModel
from coreproof.model.public import public

if TYPE_CHECKING:
    from coreproof.conversion.onnx_to_coreml.features import ImageInput

_CLASSIFIED = "_scores"
"""What is put behind the name of scores that are called like the label: an ML Program has one space of names."""


@public
def upgrade(
    model: Model | str | Path,
    *,
    precision: Literal["fp16", "fp32", "float16", "float32"] = "fp16",
    target: System | None = None,
) -> CoreMLModel:
    """The ML Program that computes what a NeuralNetwork does; ``precision`` is its arithmetic, ``target`` its oldest system.

    Pictures stay pictures and are preprocessed inside the program; flexible shapes and labels stay. Quantised weights are
    stored as the numbers that they stand for, float64 arrays become float32: the model's notes say so. Raises EditError for
    another kind of model, UnsupportedOperatorsError for layers that no operation expresses, ConversionError for shapes that are
    freer than an operation allows (``reshape`` the input to one shape first).

    Example:
        >>> cp.upgrade("net.mlmodel").is_program
        True

    """
    model = load(model)
    if not isinstance(model, CoreMLModel) or not model.is_network:
        raise EditError(
            "only a NeuralNetwork can be upgraded", where=model.name, expected="a NeuralNetwork", found=model.format
        )
    if model.spec.isUpdatable:
        raise EditError(
            "the model can be trained on the device, which no ML Program can",
            where=model.name,
            fix="keep it as a NeuralNetwork",
        )
    from coreproof.conversion.coreml_to_onnx.convert import coreml_to_onnx
    from coreproof.conversion.onnx_to_coreml.convert import onnx_to_coreml

    # by way of ONNX: both translators are held to their judges, and a third would have none
    lowered = coreml_to_onnx(model, precision="fp32")
    signature = lowered.signature
    renamed = _scores_first(lowered.model, signature)
    made = onnx_to_coreml(
        OnnxModel(lowered.model, name=model.name),
        "mlprogram",
        precision=precision,
        target=target,
        images=_pictures(signature),
        labels=signature.labels,
        predicted_label=identifier(signature.predicted_label or "classLabel"),
        shapes=_shapes(signature),
    )
    blobs = {value: blob for blob, value in lowered.values.items()}
    blobs.update({new: blobs.get(old, old) for new, old in renamed.items()})
    provenance = {made_value: blobs[value] for made_value, value in made.provenance.items() if value in blobs}
    finished = _finished(made, model, signature)
    finished.provenance, finished.made_from = provenance, frozenset({model.graph.outline})
    finished.notes = (*finished.notes, *_losses(model))
    return finished


def _pictures(signature: Signature) -> dict[str, ImageInput]:
    """Pictures enter as they are: the preprocessing is among the operations."""
    from coreproof.conversion.onnx_to_coreml.features import ImageInput

    return {f.name: ImageInput(colour=f.image.colour) for f in signature.inputs if f.image is not None}


def _scores_first(graph: ir.Model, signature: Signature) -> Mapping[str, str]:
    """Puts a classifier's scores first among the outputs, under a name that no feature has; new name -> old name."""
    if signature.labels is None or signature.scores is None:
        return {}
    outputs = graph.graph.outputs
    scores = next(v for v in outputs if v.name == signature.scores)
    if any(f.name == scores.name and f.kind == "tensor" for f in signature.outputs):
        # the scores are an output themselves, too: the labels are given to a copy
        copied = ir.Value(name=f"{scores.name}{_CLASSIFIED}", shape=scores.shape, type=scores.type)
        graph.graph.append(ir.node("Identity", [scores], outputs=[copied]))
        outputs.insert(0, copied)
        return {}
    outputs.remove(scores)
    outputs.insert(0, scores)
    old = scores.name or ""
    if old not in (signature.predicted_label, signature.probabilities):
        return {}
    scores.name = f"{old}{_CLASSIFIED}"
    return {scores.name: old}


def _shapes(signature: Signature) -> dict[str, object]:
    """The flexible shapes, as the converter takes them."""
    shapes: dict[str, object] = {}
    for feature in signature.inputs:
        front = [] if feature.image is None else [1, feature.image.channels]
        if feature.ranges:
            lengths = [str(r) for r in feature.ranges]
            shapes[feature.name] = [*front, *lengths]
        elif len(feature.enumerated) > 1:
            # the converter takes the first one for the default
            image, default = feature.image, feature.shape
            default = default if image is None else (image.height, image.width)
            options = sorted(feature.enumerated, key=lambda option: option != default)
            shapes[feature.name] = [[*front, *option] for option in options]
    return shapes


def identifier(name: str) -> str:
    """What a feature of that name is called in an ML Program, where names are letters, digits and underscores."""
    from coreproof.conversion.onnx_to_coreml.names import Names

    return Names().identifier_for(name)


def _finished(made: CoreMLModel, model: CoreMLModel, signature: Signature) -> CoreMLModel:
    """The program with the features under their own names, and with the documentation of the network."""
    from coreproof.editing.open import open_editor

    editor = open_editor(made)
    if signature.predicted_label is not None and signature.labels is not None:
        dictionary = f"{identifier(signature.predicted_label)}_probs"
        if signature.probabilities is None:
            editor.interface.drop_output(dictionary)
        elif identifier(signature.probabilities) != dictionary:
            editor.rename_value(dictionary, identifier(signature.probabilities))
    finished = editor.close()
    assert isinstance(finished, CoreMLModel)
    description, network = finished.spec.description, model.spec.description
    description.metadata.MergeFrom(network.metadata)
    documented = {identifier(f.name): f for f in (*network.input, *network.output)}
    for feature in (*description.input, *description.output):
        known = documented.get(feature.name)
        if known is not None:
            # what the converter knows nothing of: words, whether an input may be left out, flexible sizes
            feature.shortDescription = known.shortDescription
            feature.type.isOptional = known.type.isOptional
            if known.type.WhichOneof("Type") == "imageType":
                feature.type.imageType.CopyFrom(known.type.imageType)
    _in_order(description.input, [identifier(f.name) for f in network.input])
    _in_order(description.output, [identifier(f.name) for f in network.output])
    return finished


def _in_order(features: MutableSequence[Model_pb2.FeatureDescription], names: list[str]) -> None:
    """Sorts features as the network has them."""
    kept = sorted(features, key=lambda f: names.index(f.name) if f.name in names else len(names))
    copies = [Model_pb2.FeatureDescription.FromString(f.SerializeToString()) for f in kept]
    del features[:]
    features.extend(copies)


def _losses(model: CoreMLModel) -> list[str]:
    """What an ML Program made of this network does not have."""
    said = []
    quantised = [
        node.name
        for node in model.graph.nodes
        if any(dtype.startswith(("uint", "int")) for dtype, _ in node.parameters.values())
    ]
    if quantised:
        said.append(f"the quantised weights of {len(quantised)} layers are stored as the floats that they stand for")
    features = (*model.signature.inputs, *model.signature.outputs)
    doubles = [f.name for f in features if f.dtype == "float64" and f.kind == "tensor"]
    if doubles:
        said.append(f"{', '.join(doubles)}: float64 became float32, which an ML Program computes in")
    renamed = [f"{f.name} -> {identifier(f.name)}" for f in features if identifier(f.name) != f.name]
    if renamed:
        said.append(f"an ML Program cannot have these names: {', '.join(renamed)}")
    return said
