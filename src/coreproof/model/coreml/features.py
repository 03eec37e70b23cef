"""Reads a Core ML model's description into features: FeatureTypes.proto and Model.proto."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import replace
from typing import get_args

from coreproof.errors import UnreadableModelError
from coreproof.model.coreml.noted_labels import noted_labels
from coreproof.model.coreml.proto import FeatureTypes_pb2, MIL_pb2, Model_pb2
from coreproof.model.features import Colour, Feature, ImageLayout, Kind, ShapeRange, Signature
from coreproof.model.formats import classic, program

_ARRAY_DTYPES: dict[int, str] = {
    **{number: dtype for dtype, number in classic.ARRAY_DTYPES.items()},
    # not in the protobuf files of every coremltools yet, and read where it is
    **({FeatureTypes_pb2.ArrayFeatureType.INT8: "int8"} if hasattr(FeatureTypes_pb2.ArrayFeatureType, "INT8") else {}),
}
COLOURS = {
    "RGB": FeatureTypes_pb2.ImageFeatureType.RGB,
    "BGR": FeatureTypes_pb2.ImageFeatureType.BGR,
    "GRAY": FeatureTypes_pb2.ImageFeatureType.GRAYSCALE,
    "GRAY_FLOAT16": FeatureTypes_pb2.ImageFeatureType.GRAYSCALE_FLOAT16,
}
"""The layouts of pictures, as a description says them."""
_COLOURS: dict[int, Colour] = {COLOURS[colour]: colour for colour in get_args(Colour)}

_OTHER_KINDS: dict[str, tuple[Kind, str | None]] = {
    "int64Type": ("int64", "int64"),
    "doubleType": ("double", "float64"),
    "stringType": ("string", None),
}


def read_signature(spec: Model_pb2.Model, function: str | None = None) -> Signature:
    """The features of a Core ML ``Model`` message; ``function`` picks one of a multi-function model."""
    description = spec.description
    chosen: Model_pb2.ModelDescription | Model_pb2.FunctionDescription = description
    if description.functions:
        # where there are several functions, each is described by itself
        wanted = function or description.defaultFunctionName
        found = [f for f in description.functions if f.name == wanted]
        if not found:
            raise UnreadableModelError(
                f"the model's description has no function {wanted!r}",
                expected=", ".join(f.name for f in description.functions),
                found=wanted,
            )
        chosen = found[0]
    return Signature(
        inputs=tuple(read_feature(f) for f in chosen.input),
        outputs=tuple(read_feature(f) for f in chosen.output),
        states=tuple(read_feature(f) for f in chosen.state),
        labels=read_labels(spec) or noted_labels(description.metadata.userDefined),
        predicted_label=chosen.predictedFeatureName or None,
        probabilities=chosen.predictedProbabilitiesName or None,
        metadata={
            key: text
            for key in ("author", "license", "shortDescription", "versionString")
            if (text := getattr(description.metadata, key))
        },
    )


def read_feature(description: Model_pb2.FeatureDescription) -> Feature:
    """One FeatureDescription message."""
    kind = description.type.WhichOneof("Type")
    feature = Feature(description.name, optional=description.type.isOptional, description=description.shortDescription)
    if kind == "multiArrayType":
        return _of_array(replace(feature, kind="tensor"), description.type.multiArrayType)
    if kind == "stateType":
        return _of_array(replace(feature, kind="state"), description.type.stateType.arrayType)
    if kind == "imageType":
        image = description.type.imageType
        return replace(
            feature,
            kind="image",
            # pictures are bytes, save for GRAYSCALE_FLOAT16 (iOS 16)
            dtype="float16" if _COLOURS.get(image.colorSpace) == "GRAY_FLOAT16" else "uint8",
            image=ImageLayout(int(image.width), int(image.height), _COLOURS.get(image.colorSpace, "RGB")),
            enumerated=tuple((int(s.height), int(s.width)) for s in image.enumeratedSizes.sizes),
            ranges=tuple(_range(r) for r in (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange))
            if image.WhichOneof("SizeFlexibility") == "imageSizeRange"
            else (),
        )
    if kind == "dictionaryType":
        keys = "int64" if description.type.dictionaryType.WhichOneof("KeyType") == "int64KeyType" else "text"
        return replace(feature, kind="dictionary", dtype="float64", holds=f"dictionary of {keys} to float64")
    if kind == "sequenceType":
        texts = description.type.sequenceType.WhichOneof("Type") == "stringType"
        holds = f"sequence of {'text' if texts else 'int64'}"
        return replace(feature, kind="sequence", dtype="str" if texts else "int64", holds=holds)
    name, dtype = _OTHER_KINDS.get(kind or "", ("tensor", None))
    return replace(feature, kind=name, dtype=dtype)


def _of_array(feature: Feature, array: FeatureTypes_pb2.ArrayFeatureType) -> Feature:
    default = array.WhichOneof("defaultOptionalValue")
    return replace(
        feature,
        dtype=_ARRAY_DTYPES.get(array.dataType, "float32"),
        shape=tuple(int(d) for d in array.shape) if array.shape else None,
        default=float(getattr(array, default)) if default else None,
        enumerated=tuple(tuple(int(d) for d in s.shape) for s in array.enumeratedShapes.shapes),
        ranges=tuple(_range(r) for r in array.shapeRange.sizeRanges),
    )


def _range(message: FeatureTypes_pb2.SizeRange) -> ShapeRange:
    # FeatureTypes.proto: an upper bound below 0 means that there is none
    return ShapeRange(int(message.lowerBound), int(message.upperBound) if message.upperBound >= 0 else None)


def read_labels(spec: Model_pb2.Model) -> tuple[str, ...] | tuple[int, ...] | None:
    """The class labels in order, None for models that are not classifiers.

    ML Programs keep theirs in the ``classify`` operation instead of the description.
    """
    labels = [label for held in label_lists(spec) for label in held]
    if spec.WhichOneof("Type") == "kNearestNeighborsClassifier":  # which stores the label of each of its samples
        labels = sorted(set(labels), key=lambda label: (str(type(label)), label))
    if any(isinstance(label, str) for label in labels):  # of both kinds only in a damaged list
        return tuple(str(label) for label in labels)
    return tuple(label for label in labels if isinstance(label, int)) or None


def label_lists(spec: Model_pb2.Model) -> list[MutableSequence[object]]:
    """Where a classifier stores its labels: the repeated fields that hold them, in order; none in other models."""
    kind = spec.WhichOneof("Type")
    if kind == "mlProgram":
        return _program_labels(spec.mlProgram)
    if kind == "pipelineClassifier":
        # the last stage with labels answers: those before it hand on features
        stages = (label_lists(stage) for stage in reversed(spec.pipelineClassifier.pipeline.models))
        return next((held for held in stages if any(held)), [])
    holder = getattr(spec, kind or "")
    which = holder.WhichOneof("ClassLabels") if "ClassLabels" in holder.DESCRIPTOR.oneofs_by_name else None
    return [] if which is None else [getattr(holder, which).vector]


def _program_labels(stored: MIL_pb2.Program) -> list[MutableSequence[object]]:
    for block in program.blocks(stored):
        constants = {}
        for operation in block.operations:
            if operation.type == "const" and operation.outputs and "val" in operation.attributes:
                constants[operation.outputs[0].name] = operation.attributes["val"]
            elif operation.type == "classify":
                return _class_values(operation, constants)
    return []


def _class_values(classify: MIL_pb2.Operation, constants: dict[str, MIL_pb2.Value]) -> list[MutableSequence[object]]:
    """The ``classes`` argument: a tensor or a list, of strings or of integers; nothing when it is not immediate."""
    bindings = list(classify.inputs["classes"].arguments) if "classes" in classify.inputs else []
    # a list of names would be bound one by one; the op takes one constant
    if len(bindings) != 1:
        return []
    binding = bindings[0]
    value = binding.value if binding.WhichOneof("binding") == "value" else constants.get(binding.name)
    if value is None or value.WhichOneof("value") != "immediateValue":
        return []
    immediate = value.immediateValue
    if immediate.WhichOneof("value") == "list":
        tensors = [item.immediateValue.tensor for item in immediate.list.values]
    else:
        tensors = [immediate.tensor]
    return [
        getattr(t, which).values for t in tensors if (which := t.WhichOneof("value")) in ("strings", "ints", "longInts")
    ]
