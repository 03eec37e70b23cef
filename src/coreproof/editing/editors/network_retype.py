"""A NeuralNetwork's features under another type: pictures and arrays, float16, other labels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from coreproof.editing.editors.network_features import blob_shapes
from coreproof.editing.editors.noted_labels import relabel_noted
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.coreml.proto import FeatureTypes_pb2, NeuralNetwork_pb2
from coreproof.model.formats import classic
from coreproof.model.formats import network as layered
from coreproof.validation.names import score_blob

COLOURS = {
    "RGB": FeatureTypes_pb2.ImageFeatureType.RGB,
    "BGR": FeatureTypes_pb2.ImageFeatureType.BGR,
    "GRAY": FeatureTypes_pb2.ImageFeatureType.GRAYSCALE,
    "GRAY_FLOAT16": FeatureTypes_pb2.ImageFeatureType.GRAYSCALE_FLOAT16,
}
BIASES = {"RGB": ("redBias", "greenBias", "blueBias"), "BGR": ("blueBias", "greenBias", "redBias")}


def retype(
    model: CoreMLModel,
    name: str,
    kind: str | None,
    colour: str | None,
    scale: float | None,
    bias: Sequence[float] | float | None,
    dtype: str | None,
) -> None:
    """See ``Editor.retype``."""
    feature, is_input = find(model, name)
    is_image = feature.type.WhichOneof("Type") == "imageType"
    wanted = kind or ("image" if is_image else "tensor")
    if wanted not in ("image", "tensor"):
        raise EditError("there is no such kind of feature", expected="image or tensor", found=kind)
    if wanted == "image":
        if dtype is not None:
            raise EditError("a picture has no dtype of its own", expected="kind = tensor with a dtype", found=dtype)
        if not is_input and (scale is not None or bias is not None):
            raise EditError(
                f"the numbers of an output picture ({name!r}) cannot be scaled by the description",
                fix="insert a scale layer in front of it",
            )
        _to_image(model, feature, is_input, is_image, colour)
        if is_input and (scale is not None or bias is not None):
            _preprocess(model, name, colour_of(feature), scale, bias)
        return
    if colour is not None or scale is not None or bias is not None:
        raise EditError("colour, scale and bias belong to pictures", expected='kind = "image"', found=wanted)
    if is_image:
        _to_array(model, feature, is_input)
    if dtype is not None:
        _as_dtype(model, feature, dtype)


def find(model: CoreMLModel, name: str) -> tuple[Any, bool]:
    """The description of a feature that is a picture or an array, and whether it is an input."""
    description = model.spec.description
    for features, is_input in ((description.input, True), (description.output, False)):
        for feature in features:
            if feature.name == name:
                if feature.type.WhichOneof("Type") not in ("imageType", "multiArrayType"):
                    raise EditError(
                        f"{name!r} is neither a picture nor a multi-array",
                        where=model.name,
                        found=feature.type.WhichOneof("Type"),
                    )
                return feature, is_input
    known = [f.name for f in (*description.input, *description.output)]
    raise EditError(f"there is no feature {name!r}", where=model.name, expected=", ".join(known), found=name)


def colour_of(feature: Any) -> str:
    return next(name for name, number in COLOURS.items() if number == feature.type.imageType.colorSpace)


# pictures


def _to_image(model: CoreMLModel, feature: Any, is_input: bool, is_image: bool, colour: str | None) -> None:
    if colour is not None and colour not in COLOURS:
        raise EditError("there is no such colour layout", expected=", ".join(COLOURS), found=colour)
    if is_image:
        if colour is not None and colour != colour_of(feature):
            _recolour(model, feature, is_input, colour)
        return
    shape = _picture_shape(model, feature)
    channels = shape[0]
    colour = colour or ("RGB" if channels == 3 else "GRAY")
    _check_channels(feature.name, colour, channels)
    if is_input and layered.keeps_rank(model.spec):
        _map_images(model, feature.name, len(feature.type.multiArrayType.shape))
    optional = feature.type.isOptional
    feature.type.Clear()
    feature.type.isOptional = optional
    feature.type.imageType.height, feature.type.imageType.width = shape[1:]
    feature.type.imageType.colorSpace = COLOURS[colour]
    require_version(model, classic.FLOAT16_FEATURES_SINCE if colour == "GRAY_FLOAT16" else 1)


def _picture_shape(model: CoreMLModel, feature: Any) -> tuple[int, int, int]:
    """[C, H, W] of an array that can be a picture."""
    array = feature.type.multiArrayType
    shape = [int(n) for n in array.shape]
    if not shape:  # outputs may leave it out
        shape = list(layered.feature_shape(model.spec, blob_shapes(model).get(feature.name, ())))
    whole = [1] * (3 - len(shape)) + shape
    if array.WhichOneof("ShapeFlexibility") is not None:
        raise EditError(
            f"{feature.name!r} has a flexible shape", fix="reshape it to one size first, and again when it is a picture"
        )
    if len(shape) < 2 or prod(whole[:-3]) != 1 or whole[-3] not in (1, 3):
        raise EditError(
            f"{feature.name!r} does not have the shape of one picture",
            expected="[3, height, width] or [1, height, width], with leading ones or without",
            found=shape,
        )
    return whole[-3], whole[-2], whole[-1]


def _check_channels(name: str, colour: str, channels: int) -> None:
    needed = 3 if colour in BIASES else 1
    if needed != channels:
        raise EditError(
            f"{name!r} has {channels} channels", expected=f"{needed} channels for a {colour} picture", found=channels
        )


def _map_images(model: CoreMLModel, name: str, rank: int) -> None:
    """Where arrays keep their rank, pictures must enter with the rank that the layers are used to: 4 or 5."""
    others = [
        f.name for f in model.spec.description.input if f.name != name and f.type.WhichOneof("Type") == "imageType"
    ]
    mapping = {5: NeuralNetwork_pb2.RANK5_IMAGE_MAPPING, 4: NeuralNetwork_pb2.RANK4_IMAGE_MAPPING}.get(rank)
    if mapping is None or (others and model.network.imageInputShapeMapping != mapping):
        raise EditError(
            f"the layers behind {name!r} read {rank} dimensions",
            expected="4 (or 5), as pictures have, the same for all pictures",
            found=rank,
            fix="insert a layer that changes the rank (expandDims, squeeze) behind it first",
        )
    model.network.imageInputShapeMapping = mapping


def _recolour(model: CoreMLModel, feature: Any, is_input: bool, colour: str) -> None:
    """Another order of the channels: the network's channels keep their numbers."""
    old = colour_of(feature)
    _check_channels(feature.name, colour, 3 if old in BIASES else 1)
    feature.type.imageType.colorSpace = COLOURS[colour]
    require_version(model, classic.FLOAT16_FEATURES_SINCE if colour == "GRAY_FLOAT16" else 1)
    if not is_input or colour not in BIASES:
        return
    for step in _steps(model, feature.name):
        if step.WhichOneof("preprocessor") == "scaler":
            scaler = step.scaler
            scaler.redBias, scaler.blueBias = scaler.blueBias, scaler.redBias


def _steps(model: CoreMLModel, name: str) -> list[Any]:
    """The preprocessing of one picture; steps without a name belong to every picture."""
    return [s for s in model.network.preprocessing if s.featureName in ("", name)]


def _preprocess(
    model: CoreMLModel, name: str, colour: str, scale: float | None, bias: Sequence[float] | float | None
) -> None:
    """One scaler for the picture in the place of those that it has; what is not said is kept from it."""
    names = BIASES.get(colour, ("grayBias",))
    numbers = None if bias is None else [float(b) for b in bias] if isinstance(bias, Sequence) else [float(bias)]
    if numbers is not None and len(numbers) == 1:
        numbers = numbers * len(names)
    if numbers is not None and len(numbers) != len(names):
        raise EditError("there is one bias for each channel", expected=f"{len(names)} ({colour})", found=len(numbers))
    pictures = [f.name for f in model.spec.description.input if f.type.WhichOneof("Type") == "imageType"]
    steps = _steps(model, name)
    if len(pictures) > 1 and any(not s.featureName for s in steps):
        raise EditError(f"the preprocessing of {name!r} is that of all pictures", expected="preprocessing of its own")
    if any(s.WhichOneof("preprocessor") == "meanImage" for s in steps):
        raise EditError(
            f"{name!r} has a mean image taken away from it",
            expected="a scale and biases",
            fix="make it a tensor first, then a picture again",
        )
    preprocessing = model.network.preprocessing
    own = steps[0] if steps else preprocessing.add(featureName=name)
    for place in reversed(range(len(preprocessing))):
        if preprocessing[place] in steps[1:] and preprocessing[place].featureName == name:
            del preprocessing[place]
    if not steps:
        own.scaler.channelScale = 1.0
    if scale is not None:
        own.scaler.channelScale = float(scale)
    if numbers is not None:
        for field, number in zip(names, numbers, strict=True):
            setattr(own.scaler, field, number)


# arrays


def _to_array(model: CoreMLModel, feature: Any, is_input: bool) -> None:
    """The numbers that the network reads (or makes), without the preprocessing of the picture."""
    image = feature.type.imageType
    if image.WhichOneof("SizeFlexibility") is not None:
        raise EditError(
            f"{feature.name!r} has a flexible size", fix="reshape it to one size first, and again when it is an array"
        )
    name, optional = feature.name, feature.type.isOptional
    shape = [3 if colour_of(feature) in BIASES else 1, int(image.height), int(image.width)]
    if is_input:
        _keep_rank(model, name, shape)
        preprocessing = model.network.preprocessing
        pictures = [f.name for f in model.spec.description.input if f.type.WhichOneof("Type") == "imageType"]
        for place in reversed(range(len(preprocessing))):
            if preprocessing[place].featureName == name or (
                pictures == [name] and not preprocessing[place].featureName
            ):
                del preprocessing[place]
    elif layered.keeps_rank(model.spec):
        shape = list(blob_shapes(model).get(name, shape))
    feature.type.Clear()
    feature.type.isOptional = optional
    feature.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    feature.type.multiArrayType.shape.extend(shape)


def _keep_rank(model: CoreMLModel, name: str, shape: list[int]) -> None:
    """Leading ones, so that the array enters with the rank that the picture had."""
    modern = model.spec.specificationVersion >= 4
    rank = 4 if modern and model.network.imageInputShapeMapping == NeuralNetwork_pb2.RANK4_IMAGE_MAPPING else 5
    if not layered.keeps_rank(model.spec):
        if rank == 5:
            return  # [C, H, W] becomes [1, 1, C, H, W], as the picture did
        arrays = [f.name for f in model.spec.description.input if f.type.WhichOneof("Type") == "multiArrayType"]
        if arrays:
            raise EditError(
                f"the layers behind {name!r} read 4 dimensions, and arrays have 5 in this network",
                where=model.name,
                found=f"other arrays: {', '.join(arrays)}",
            )
        model.network.arrayInputShapeMapping = NeuralNetwork_pb2.EXACT_ARRAY_MAPPING
    shape[:0] = [1] * (rank - 3)


def _as_dtype(model: CoreMLModel, feature: Any, dtype: str) -> None:
    if dtype not in classic.ARRAY_DTYPES:
        raise EditError(f"a multi-array cannot be {dtype}", expected=", ".join(classic.ARRAY_DTYPES), found=dtype)
    feature.type.multiArrayType.dataType = classic.ARRAY_DTYPES[dtype]
    require_version(model, classic.FLOAT16_FEATURES_SINCE if dtype == "float16" else 1)


def require_version(model: CoreMLModel, version: int) -> None:
    """Raises the specification version where a type came with a later one."""
    model.spec.specificationVersion = max(model.spec.specificationVersion, version)


# labels


def relabel(model: CoreMLModel, labels: Sequence[str] | Sequence[int]) -> None:
    """See ``Editor.relabel``."""
    if relabel_noted(model.spec, labels, model.name):
        return
    if model.kind != "neuralNetworkClassifier":
        raise EditError("the model has no labels", where=model.name, expected="a classifier", found=model.kind)
    if not labels:
        raise EditError("there are no labels in the list", expected="one label a score", found="none")
    blob = score_blob(model)
    shape = blob_shapes(model).get(blob or "")
    if shape is not None and prod(shape) != len(labels):
        raise EditError(
            "the labels do not fit the scores",
            where=f"{model.name}, blob {blob!r}",
            expected=f"{prod(shape)} labels, one a score",
            found=f"{len(labels)} labels",
        )
    network, description = model.spec.neuralNetworkClassifier, model.spec.description
    whole = network.WhichOneof("ClassLabels") == "int64ClassLabels" and all(_is_whole(label) for label in labels)
    if whole:
        network.int64ClassLabels.vector[:] = [int(label) for label in labels]
    else:
        network.stringClassLabels.vector[:] = [str(label) for label in labels]
    for feature in description.output:
        if feature.name == description.predictedFeatureName:
            getattr(feature.type, "int64Type" if whole else "stringType").SetInParent()
        elif feature.name == description.predictedProbabilitiesName:
            kind = feature.type.dictionaryType
            getattr(kind, "int64KeyType" if whole else "stringKeyType").SetInParent()


def _is_whole(label: str | int) -> bool:
    return isinstance(label, int) or label.removeprefix("-").isdigit()
