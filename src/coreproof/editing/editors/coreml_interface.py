"""What a Core ML model declares of its inputs and outputs, changed in one way for NeuralNetwork and ML Program.

A description says kind, shape and dtype. What it cannot say stands inside the model, where each format has its own means:
preprocessing and the mapping of arrays in a NeuralNetwork, operations in an ML Program. ``CoreMLInterface`` changes the
description; its subclasses answer what is inside, and make it follow.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from coreproof.editing.editor import require_value
from coreproof.editing.editors.document import CoreMLDocument
from coreproof.editing.interface import Interface, Reshaped, Retyped, place_of
from coreproof.errors import EditError
from coreproof.model.coreml.features import COLOURS
from coreproof.model.coreml.noted_labels import note_labels, noted_labels
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.formats import classic

BIASES = {"RGB": ("redBias", "greenBias", "blueBias"), "BGR": ("blueBias", "greenBias", "redBias")}
"""The fields of a scaler, in the order in which a picture of that layout has its channels."""

Feature = Model_pb2.FeatureDescription
Lengths = Sequence[int | None]


class CoreMLInterface(Interface):
    """The features of an open Core ML model."""

    array_dtypes: Collection[str] = classic.ARRAY_DTYPES
    """The dtypes that a multi-array of this format can have."""
    keeps_rank: bool
    """Whether an input has as many dimensions after ``reshape`` as before."""
    scaling_layer: str
    """What multiplies the numbers of an output picture, which no description scales."""

    def __init__(self, document: CoreMLDocument) -> None:
        self.document = document

    # what is inside

    @abstractmethod
    def all_or_nothing(self) -> AbstractContextManager[None]:
        """A change that fails half way is undone."""

    @abstractmethod
    def shape_of(self, value: str) -> Lengths:
        """The shape that the layers give a value, () where it is not known."""

    @abstractmethod
    def bring_out(self, value: str) -> tuple[str, Lengths]:
        """Lets a value leave; the dtype and the shape in which it does."""

    @abstractmethod
    def carried_dtype(self, dtype: str) -> str:
        """The dtype of the multi-array that carries numbers of ``dtype`` in."""

    @abstractmethod
    def check_array(self, name: str, lengths: Sequence[int]) -> None:
        """Raises EditError where the layers cannot read a multi-array of this shape."""

    @abstractmethod
    def feed(self, value: str, lengths: Sequence[int], dtype: str, carried: str) -> None:
        """Makes the layers read ``value`` from outside."""

    @abstractmethod
    def picture_of(self, feature: Feature) -> tuple[int, int, int]:
        """[channels, height, width] of a feature that is a picture or can be one; EditError where it cannot."""

    @abstractmethod
    def become_picture(self, name: str, is_input: bool, before: str | None, colour: str) -> None:
        """Makes the layers read, or make, a picture of this layout; ``before``: the layout of the picture that it was."""

    @abstractmethod
    def preprocess(self, name: str, colour: str, scale: float | None, bias: Sequence[float] | float | None) -> None:
        """Another scale or bias behind a picture; what is not said is kept."""

    @abstractmethod
    def become_array(self, name: str, is_input: bool) -> tuple[str, Lengths]:
        """Takes a picture's preprocessing away; dtype and shape of what the layers read or make."""

    @abstractmethod
    def become_dtype(self, name: str, is_input: bool, dtype: str) -> None:
        """Lets a multi-array be of ``dtype`` outside."""

    @abstractmethod
    def resized(self, name: str, lengths: Lengths, *, flexible: bool) -> AbstractContextManager[None]:
        """While an input gets other lengths (None: one that varies); the declared outputs follow."""

    @abstractmethod
    def scores(self) -> tuple[str, int | None] | None:
        """Where a classifier takes its scores from, and how many there are; None for another model."""

    @abstractmethod
    def write_labels(self, labels: Sequence[str] | Sequence[int], *, whole: bool) -> bool:
        """Stores a classifier's labels, as whole numbers if all are and those before were; whether it did so."""

    def output_replaced(self, old: str | None, new: str | None) -> None:
        """An output was declared (``old`` None), took the place of another, or went (``new`` None)."""

    def require_no_label(self, name: str) -> None:
        """Raises EditError for an output that a classifier cannot be without."""

    # outputs

    def set_output(self, value: str, instead_of: str | None = None) -> None:
        """See ``Interface.set_output``; the same output declared anew keeps its kind."""
        require_value(self.document.graph, value, self.document.where)
        outputs = self.document.description.output
        feature = (
            outputs[place_of(outputs, instead_of, "output", self.document.where)] if instead_of is not None else None
        )
        if value != instead_of and any(f.name == value for f in outputs):
            raise EditError(f"{value!r} is an output already", where=self.document.where)
        if feature is not None and value != instead_of:
            self.require_no_label(feature.name)
        shape = self.shape_of(value)
        if feature is not None and value == instead_of and is_image(feature):
            # a picture stays one, of the size that the layers make now
            if len(shape) >= 2:
                feature.type.imageType.height, feature.type.imageType.width = (n or 0 for n in shape[-2:])
            self.document.changed()
            return
        dtype, shape = self.bring_out(value)
        if feature is None:
            feature = outputs.add(name=value)
        elif value != instead_of:
            # what was said of the old value is not true of the new one
            self._forget(feature.name)
            feature.ClearField("shortDescription")
            feature.name = value
        declare_array(feature, dtype, shape)
        self.output_replaced(instead_of, value)
        self.document.changed()

    def drop_output(self, name: str) -> None:
        """See ``Interface.drop_output``."""
        outputs = self.document.description.output
        place = place_of(outputs, name, "output", self.document.where)
        self.require_no_label(name)
        if len(outputs) == 1:
            raise EditError(
                f"{name!r} is the only output", where=self.document.where, fix="declare another output first"
            )
        del outputs[place]
        self._forget(name)
        self.output_replaced(name, None)
        self.document.changed()

    def _forget(self, name: str) -> None:
        """A feature that goes is no classifier's any more."""
        for field in ("predictedFeatureName", "predictedProbabilitiesName"):
            if getattr(self.document.description, field) == name:
                setattr(self.document.description, field, "")

    # inputs

    def set_input(self, value: str, shape: Sequence[int], dtype: str) -> None:
        """See ``Interface.set_input``."""
        carried, lengths = self.carried_dtype(dtype), [int(n) for n in shape]
        self.check_array(value, lengths)
        self.feed(value, lengths, dtype, carried)
        inputs = self.document.description.input
        feature = next((f for f in inputs if f.name == value), None)
        declare_array(inputs.add(name=value) if feature is None else feature, carried, lengths)
        self.document.changed()

    # kinds

    def find(self, name: str) -> tuple[Feature, bool]:
        """The description of a feature that is a picture or a multi-array, and whether it is an input."""
        for features, is_input in ((self.document.description.input, True), (self.document.description.output, False)):
            for feature in features:
                if feature.name == name:
                    kind = feature.type.WhichOneof("Type")
                    if kind not in ("imageType", "multiArrayType"):
                        raise EditError(
                            f"{name!r} is neither a picture nor a multi-array", where=self.document.where, found=kind
                        )
                    return feature, is_input
        known = [f.name for f in (*self.document.description.input, *self.document.description.output)]
        raise EditError(
            f"there is no feature {name!r}", where=self.document.where, expected=", ".join(known), found=name
        )

    def retype(self, feature: str, to: Retyped) -> None:
        """See ``Interface.retype``."""
        found, is_input = self.find(feature)
        wanted = to.kind or ("image" if is_image(found) else "tensor")
        if wanted not in ("image", "tensor"):
            raise EditError("there is no such kind of feature", expected="image or tensor", found=wanted)
        if wanted == "image" and to.dtype is not None:
            raise EditError("a picture has no dtype of its own", expected="kind = tensor with a dtype", found=to.dtype)
        if wanted == "tensor" and (to.colour is not None or to.preprocesses):
            raise EditError("colour, scale and bias belong to pictures", expected='kind = "image"', found=wanted)
        if not is_input and to.preprocesses:
            raise EditError(
                f"the numbers of an output picture ({feature!r}) cannot be scaled by the description",
                fix=f"insert a {self.scaling_layer} in front of it",
            )
        with self.all_or_nothing():
            if wanted == "image":
                colour = self._to_picture(feature, to.colour)
                if to.preprocesses:
                    self.preprocess(feature, colour, to.scale, to.bias)
                return
            if is_image(found):
                self._to_array(feature)
            if to.dtype is not None:
                self._to_dtype(feature, to.dtype)

    def _to_picture(self, name: str, colour: str | None) -> str:
        if colour is not None and colour not in COLOURS:
            raise EditError("there is no such colour layout", expected=", ".join(COLOURS), found=colour)
        feature, is_input = self.find(name)
        before = colour_of(feature) if is_image(feature) else None
        channels, height, width = self.picture_of(feature)
        colour = colour or before or ("RGB" if channels == 3 else "GRAY")
        needed = 3 if colour in BIASES else 1
        if needed != channels:
            raise EditError(
                f"{name!r} has {channels} channels",
                where=self.document.where,
                expected=f"{needed} channels for a {colour} picture",
                found=channels,
            )
        self.become_picture(name, is_input, before, colour)
        feature, _ = self.find(name)
        if before is None:
            _clear_type(feature)
            feature.type.imageType.height, feature.type.imageType.width = height, width
        feature.type.imageType.colorSpace = COLOURS[colour]
        return colour

    def _to_array(self, name: str) -> None:
        """The numbers that the layers read (or make), without the preprocessing of the picture."""
        feature, is_input = self.find(name)
        if feature.type.imageType.WhichOneof("SizeFlexibility") is not None:
            raise EditError(
                f"{name!r} has a flexible size", fix="reshape it to one size first, and again when it is an array"
            )
        dtype, shape = self.become_array(name, is_input)
        declare_array(self.find(name)[0], dtype, shape)

    def _to_dtype(self, name: str, dtype: str) -> None:
        if dtype not in self.array_dtypes:
            raise EditError(f"a multi-array cannot be {dtype}", expected=", ".join(self.array_dtypes), found=dtype)
        self.become_dtype(name, self.find(name)[1], dtype)
        self.find(name)[0].type.multiArrayType.dataType = classic.ARRAY_DTYPES[dtype]

    # shapes

    def reshape(self, feature: str, to: Reshaped) -> None:
        """See ``Interface.reshape``."""
        found, is_input = self.find(feature)
        if not is_input:
            raise EditError(
                f"{feature!r} is an output: its shape follows from the layers",
                fix="reshape an input; or declare the output anew",
            )
        if to.enumerated and to.ranges:
            both = f"{list(to.enumerated)} and {list(to.ranges)}"
            raise EditError("a shape is enumerated or ranged, not both", found=both)
        image, array, picture = found.type.imageType, found.type.multiArrayType, is_image(found)
        now = [int(image.height), int(image.width)] if picture else [int(n) for n in array.shape]
        default = list(to.shape or (to.enumerated[0] if to.enumerated else now))
        self._check_lengths(feature, len(now) if picture or self.keeps_rank else None, default, to)
        if not picture:
            self.check_array(feature, default)
        varies = [len({one[i] for one in (default, *to.enumerated)}) > 1 for i in range(len(default))]
        if to.ranges:
            # Core ML refuses a default that lies outside of the range beside it
            default = [_within(n, one) for n, one in zip(default, to.ranges, strict=True)]
            varies = [low != high for low, high in to.ranges]
        lengths = [None if free else n for n, free in zip(default, varies, strict=True)]
        with self.all_or_nothing(), self.resized(feature, lengths, flexible=bool(to.enumerated or to.ranges)):
            (_resize_image if picture else _resize_array)(self.find(feature)[0], default, to)

    def _check_lengths(self, name: str, rank: int | None, default: Sequence[int], to: Reshaped) -> None:
        for one in to.ranges:
            if len(one) != 2 or one[0] < 1 or 0 <= one[1] < one[0]:
                raise EditError(
                    "a range is its lowest and its highest length",
                    expected="[low, high] with 1 <= low <= high; high -1: no end",
                    found=list(one),
                )
        wanted = len(default) if rank is None else rank
        for one in (default, *to.enumerated, [low for low, _ in to.ranges] or default):
            if len(one) != wanted or any(n < 1 for n in one):
                raise EditError(
                    f"the shapes of {name!r} do not go together",
                    where=self.document.where,
                    expected=f"{wanted} lengths, 1 or more each",
                    found=list(one),
                )

    # labels

    def relabel(self, labels: Sequence[str] | Sequence[int]) -> None:
        """See ``Interface.relabel``: those of a classifier, else those that the metadata of another model notes."""
        scores = self.scores()
        noted = self.document.spec.description.metadata.userDefined
        before = noted_labels(noted) if scores is None else None
        if scores is None and before is None:
            raise EditError(
                "the model has no labels", where=self.document.where, expected="a classifier", found="no labels"
            )
        place, count = (scores or ("its metadata", None)) if before is None else ("its metadata", len(before))
        if not labels:
            raise EditError("there are no labels in the list", expected="one label a score", found="none")
        if count is not None and count != len(labels):
            raise EditError(
                "the labels do not fit the scores" if scores else "the labels do not fit those that the model notes",
                where=f"{self.document.where}, {place}",
                expected=f"{count} labels, one a score",
                found=f"{len(labels)} labels",
            )
        if before is not None:
            note_labels(noted, labels)
        else:
            whole = all(isinstance(n, int) or n.removeprefix("-").isdigit() for n in labels)
            self._type_labels(whole=self.write_labels(labels, whole=whole))
        self.document.changed()

    def _type_labels(self, *, whole: bool) -> None:
        """The label and the keys of the dictionary are described as texts or as whole numbers."""
        for feature in self.document.description.output:
            if feature.name == self.document.description.predictedFeatureName:
                getattr(feature.type, "int64Type" if whole else "stringType").SetInParent()
            elif feature.name == self.document.description.predictedProbabilitiesName:
                kind = feature.type.dictionaryType
                getattr(kind, "int64KeyType" if whole else "stringKeyType").SetInParent()


def is_image(feature: Feature) -> bool:
    """Whether a feature is a picture."""
    return feature.type.WhichOneof("Type") == "imageType"


def colour_of(feature: Feature) -> str:
    """The layout of a picture."""
    return next(name for name, number in COLOURS.items() if number == feature.type.imageType.colorSpace)


def declare_array(feature: Feature, dtype: str, shape: Lengths) -> None:
    """Makes a feature a multi-array; its words stay, the shapes that it could also have go.

    Without a shape where some lengths are known only when the model runs: a description has no word for that.
    """
    _clear_type(feature)
    feature.type.multiArrayType.dataType = classic.ARRAY_DTYPES[dtype]
    if None not in shape:
        feature.type.multiArrayType.shape.extend(n for n in shape if n is not None)


def _clear_type(feature: Feature) -> None:
    """A feature of no kind yet; whether it may be left out stays."""
    optional = feature.type.isOptional
    feature.type.Clear()
    feature.type.isOptional = optional


def _within(length: int, limits: Sequence[int]) -> int:
    low, high = limits
    return low if length < low or 0 <= high < length else length


def _resize_image(feature: Feature, default: Sequence[int], to: Reshaped) -> None:
    image = feature.type.imageType
    image.height, image.width = default
    image.ClearField("enumeratedSizes")
    image.ClearField("imageSizeRange")
    for height, width in to.enumerated:
        image.enumeratedSizes.sizes.add(height=height, width=width)
    for limits, (low, high) in zip(
        (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange), to.ranges, strict=False
    ):
        limits.lowerBound, limits.upperBound = low, high


def _resize_array(feature: Feature, default: Sequence[int], to: Reshaped) -> None:
    array = feature.type.multiArrayType
    array.shape[:] = default
    array.ClearField("enumeratedShapes")
    array.ClearField("shapeRange")
    for one in to.enumerated:
        array.enumeratedShapes.shapes.add(shape=one)
    for low, high in to.ranges:
        array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
