"""What a converted model declares: features, image layouts, flexible shapes, labels, deployment target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from coreproof.conversion.shapes import shapes_of_rank
from coreproof.errors import ConversionError, InputError
from coreproof.model.arguments import one_of
from coreproof.model.coreml.features import COLOURS
from coreproof.model.coreml.proto import FeatureTypes_pb2, Model_pb2
from coreproof.model.features import Colour
from coreproof.model.feeding import Feeding, check_numbers

SPECIFICATIONS = {13: 4, 14: 5, 15: 6, 16: 7, 17: 8, 18: 9, 26: 10}
"""Core ML specification version by iOS version (Apple, coremltools _deployment_compatibility)."""
_MACOS = {"10.15": 13, "11": 14, "12": 15, "13": 16, "14": 17, "15": 18, "26": 26}
_ARRAY = FeatureTypes_pb2.ArrayFeatureType
_DTYPES = {"float32": _ARRAY.FLOAT32, "float16": _ARRAY.FLOAT16, "int32": _ARRAY.INT32}


@dataclass(frozen=True)
class ImageInput:
    """Makes an input a picture: the network sees ``(pixel * scale - mean) / std`` per channel, pixels 0-255.

    ``mean`` and ``std`` are in the order of ``colour``, one number or one a channel.

    Example:
        >>> model = cp.convert("net.onnx", "mlprogram", images={"x": cp.ImageInput(scale=1 / 255)})
        >>> str(model.signature.inputs[0])
        'x: RGB image 8x8'

    """

    colour: Colour = "RGB"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Raises InputError for another colour, and for numbers that do not fit its channels."""
        one_of(self.colour, get_args(Colour), "an image input's colour")
        check_numbers("an image input's", self.colour, scale=self.scale, mean=self.mean, std=self.std)

    @classmethod
    def from_feeding(cls, feeding: Feeding) -> ImageInput:
        """What goes into the model so that it takes the plain pixels of what it was fed with ``feeding``."""
        return cls(feeding.colour, feeding.mean, feeding.std, feeding.scale)

    def affine(self, channels: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Factor and offset as [1, C, 1, 1] float32 so that value = pixel * factor + offset; None where they do nothing."""
        std, mean = (np.broadcast_to(np.asarray(v, np.float64), (channels,)) for v in (self.std, self.mean))
        # (pixel * scale - mean) / std with the pixel taken out, in float64: rounded once
        factor, offset = self.scale / std, -mean / std
        shape = (1, channels, 1, 1)
        return (
            None if np.all(factor == 1) else factor.astype(np.float32).reshape(shape),
            None if np.all(offset == 0) else offset.astype(np.float32).reshape(shape),
        )


def ios_version(target: str | None, to: str) -> int:
    """The iOS number of a deployment target ("iOS17", "macOS14"); by default iOS 17, or iOS 14 for a NeuralNetwork."""
    if target is None:
        return 17 if to == "mlprogram" else 14
    name = str(getattr(target, "name", target)).lower().removesuffix(".0")  # coremltools' own names are an enumeration
    version: int | None = None
    if name.startswith("ios") and name[3:].isdigit():
        version = int(name[3:])
    elif name.startswith("macos"):
        version = _MACOS.get(name[5:])
    # ML Programs came with iOS 15
    # later systems run a NeuralNetwork too, which gains nothing from being made for them
    allowed = [v for v in SPECIFICATIONS if (v >= 15) == (to == "mlprogram")]
    if version not in SPECIFICATIONS:
        known = ", ".join(f"iOS{v}" for v in SPECIFICATIONS)
        raise InputError("target does not know " + repr(target), expected=f"{known}, or the macOS of that year")
    if version not in allowed:
        raise InputError(
            f"{target} does not go with {to}",
            expected=f"iOS{allowed[0]} to iOS{allowed[-1]} for {to}",
            found=target,
            fix="an ML Program needs iOS 15 or later, a NeuralNetwork is made for iOS 13 and 14 and runs on all later ones",
        )
    return version


@dataclass(frozen=True)
class FlexibleShape:
    """The shape of one input: its default, and either ranges (low, high; -1 unbounded) or a list of allowed shapes."""

    default: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...] = ()
    enumerated: tuple[tuple[int, ...], ...] = ()

    @property
    def free(self) -> tuple[int, ...]:
        """The dimensions that can take more than one length."""
        if self.enumerated:
            return tuple(i for i, lengths in enumerate(zip(*self.enumerated, strict=True)) if len(set(lengths)) > 1)
        return tuple(i for i, (low, high) in enumerate(self.ranges) if low != high)


def flexible_shape(name: str, declared: Sequence[object], asked: object) -> tuple[FlexibleShape, list[str]]:
    """The shape that an input gets, and notes on what was decided.

    ``asked`` None takes the ONNX shape, with symbolic first dimensions fixed to 1; else what ``convert.shapes`` reads.
    A dimension beyond the first that nobody fixes is an error.
    """
    notes: list[str] = []
    if any(isinstance(length, int) and length == 0 for length in declared):
        raise ConversionError(
            f"input {name!r} has no elements: a length of 0 is no free dimension, and Core ML has no empty arrays",
            found=f"[{', '.join('?' if d is None else str(d) for d in declared)}]",
            expected="lengths of 1 and more, or free ones",
            fix="leave the input out, or free the dimension in the source's own file: a name in place of the 0",
        )
    if asked is None:
        fixed: list[int] = []
        for axis, length in enumerate(declared):
            if isinstance(length, int) and length > 0:
                fixed.append(length)
            # the first free dimension is a batch by convention, and an app feeds one at a time
            elif axis == 0:
                fixed.append(1)
                notes.append(f"input {name!r}: the free batch {length or '?'} was fixed to 1")
            else:
                raise ConversionError(
                    f"input {name!r} has a free dimension",
                    found=f"[{', '.join('?' if d is None else str(d) for d in declared)}]",
                    expected="a length, a range or a list of shapes for it",
                    fix=f"--shape {name}=..., or convert(..., shapes={{{name!r}: [...]}}): 1x64, 1x1..512 or 1x64|1x128",
                )
        return FlexibleShape(tuple(fixed)), notes
    options = shapes_of_rank(name, asked, declared)
    default = tuple(low for low, _ in options[0])
    if len(options) > 1:
        return FlexibleShape(default, enumerated=tuple(tuple(low for low, _ in shape) for shape in options)), notes
    ranges = options[0]
    return FlexibleShape(default, ranges=ranges if any(low != high for low, high in ranges) else ()), notes


# the description


def describe_array(feature: Model_pb2.FeatureDescription, shape: FlexibleShape | None, dtype: str) -> None:
    """Fills a FeatureDescription with a multi-array type."""
    array = feature.type.multiArrayType
    array.dataType = _DTYPES[dtype]
    if shape is None:
        return
    array.shape.extend(shape.default)
    if shape.enumerated:
        for option in shape.enumerated:
            array.enumeratedShapes.shapes.add().shape.extend(option)
    elif shape.ranges:
        for low, high in shape.ranges:
            array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)


def describe_classes(description: Model_pb2.ModelDescription, name: str, probabilities: str, *, is_text: bool) -> None:
    """Adds what a classifier gives: the label under ``name``, and the probabilities by label."""
    label, shares = description.output.add(name=name), description.output.add(name=probabilities)
    if is_text:
        label.type.stringType.SetInParent()
        shares.type.dictionaryType.stringKeyType.SetInParent()
    else:
        label.type.int64Type.SetInParent()
        shares.type.dictionaryType.int64KeyType.SetInParent()
    description.predictedFeatureName, description.predictedProbabilitiesName = label.name, shares.name


def describe_image(feature: Model_pb2.FeatureDescription, shape: FlexibleShape, colour: Colour) -> None:
    """Fills a FeatureDescription with an image type; flexible sizes become an image size range or list."""
    if len(shape.default) != 4 or shape.default[0] != 1 or 0 in shape.free:
        raise ConversionError(
            f"input {feature.name!r} cannot be a picture",
            expected="[1, 1 or 3, height, width]",
            found=str(list(shape.default)),
            fix="a picture has no batch: leave the batch at 1, or keep the input a multi-array",
        )
    image = feature.type.imageType
    image.height, image.width = shape.default[2:]
    image.colorSpace = COLOURS[colour]
    if shape.enumerated:
        for option in shape.enumerated:
            image.enumeratedSizes.sizes.add(height=option[2], width=option[3])
    elif shape.ranges:
        (low_h, high_h), (low_w, high_w) = shape.ranges[2:]
        image.imageSizeRange.heightRange.lowerBound, image.imageSizeRange.heightRange.upperBound = low_h, high_h
        image.imageSizeRange.widthRange.lowerBound, image.imageSizeRange.widthRange.upperBound = low_w, high_w


def check_images(images: Mapping[str, ImageInput], shapes: Mapping[str, FlexibleShape]) -> None:
    """Each picture input exists and has as many channels as its colour says."""
    for name, image in images.items():
        if name not in shapes:
            raise ConversionError(f"there is no input {name!r} to make a picture of", found=", ".join(shapes))
        channels = 3 if image.colour in ("RGB", "BGR") else 1
        shape = shapes[name].default
        if len(shape) != 4 or shape[1] != channels:
            raise ConversionError(
                f"input {name!r} cannot be a {image.colour} picture",
                expected=f"[1, {channels}, height, width]",
                found=str(list(shape)),
                fix="of one channel: colour GRAY" if len(shape) == 4 and shape[1] == 1 else None,
            )
