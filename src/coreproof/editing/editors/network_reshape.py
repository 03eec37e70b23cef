"""A NeuralNetwork's inputs in other lengths: one shape, several, or ranges; the declared outputs follow."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from coreproof.editing.editors.network_features import blob_shapes
from coreproof.editing.editors.network_retype import BIASES, colour_of, find, require_version
from coreproof.errors import EditError
from coreproof.model.coreml.model import CoreMLModel
from coreproof.model.formats import network as layered

_FLEXIBLE_VERSION = 3
"""The first specification version (iOS 12) that has flexible shapes."""


def reshape(
    model: CoreMLModel,
    name: str,
    shape: Sequence[int] | None,
    enumerated: Sequence[Sequence[int]],
    ranges: Sequence[Sequence[int]],
) -> None:
    """See ``Editor.reshape``."""
    feature, is_input = find(model, name)
    if not is_input:
        raise EditError(
            f"{name!r} is an output: its shape follows from the layers",
            fix="reshape an input; or declare the output anew",
        )
    is_image = feature.type.WhichOneof("Type") == "imageType"
    image, array = feature.type.imageType, feature.type.multiArrayType
    now = [int(image.height), int(image.width)] if is_image else [int(n) for n in array.shape]
    if enumerated and ranges:
        raise EditError("a shape is enumerated or ranged, not both", found=f"{list(enumerated)} and {list(ranges)}")
    default = list(shape or (enumerated[0] if enumerated else now))
    _check_shapes(model, name, is_image, default, [default, *enumerated, *([r[0] for r in ranges],) * bool(ranges)])
    if ranges:
        _check_ranges(ranges)
        default = [
            n if low <= n and (high < 0 or n <= high) else low for n, (low, high) in zip(default, ranges, strict=True)
        ]
    follow = _outputs_that_follow(model)
    if is_image:
        image.height, image.width = default
        image.ClearField("enumeratedSizes")
        image.ClearField("imageSizeRange")
        for height, width in enumerated:
            image.enumeratedSizes.sizes.add(height=height, width=width)
        for length, (low, high) in zip(("height", "width"), ranges, strict=False):
            getattr(image.imageSizeRange, f"{length}Range").lowerBound = low
            getattr(image.imageSizeRange, f"{length}Range").upperBound = high
    else:
        array.shape[:] = default
        array.ClearField("enumeratedShapes")
        array.ClearField("shapeRange")
        for one in enumerated:
            array.enumeratedShapes.shapes.add(shape=one)
        for low, high in ranges:
            array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
    if enumerated or ranges:
        require_version(model, _FLEXIBLE_VERSION)
    _follow(model, follow)


def _check_shapes(
    model: CoreMLModel, name: str, is_image: bool, default: Sequence[int], shapes: Sequence[Sequence[int]]
) -> None:
    for one in shapes:
        if len(one) != len(default) or any(n < 1 for n in one):
            raise EditError(
                f"the shapes of {name!r} do not go together",
                expected=f"{len(default)} lengths, 1 or more",
                found=list(one),
            )
    if is_image and len(default) != 2:
        raise EditError(f"{name!r} is a picture", expected="[height, width]", found=list(default))
    if not is_image and not layered.keeps_rank(model.spec) and len(default) not in (1, 3, 5):
        raise EditError(
            f"{name!r} would have a shape that its network cannot read",
            expected="[C], [C, H, W] or [Seq, Batch, C, H, W]",
            found=list(default),
        )


def _check_ranges(ranges: Sequence[Sequence[int]]) -> None:
    for one in ranges:
        if len(one) != 2 or (one[1] >= 0 and one[1] < one[0]):
            raise EditError(
                "a range is its lowest and its highest length", expected="[low, high], -1: no end", found=list(one)
            )


def _outputs_that_follow(model: CoreMLModel) -> list[str]:
    """Outputs whose declared shape is what their layers give now, and will have to change with them."""
    shapes = blob_shapes(model)
    return [
        f.name
        for f in model.spec.description.output
        if f.name in shapes and [n for n in _declared(f) if n != 1] == [n for n in shapes[f.name][-3:] if n != 1]
    ]


def _declared(feature: Any) -> list[int]:
    if feature.type.WhichOneof("Type") == "imageType":
        image = feature.type.imageType
        return [3 if colour_of(feature) in BIASES else 1, int(image.height), int(image.width)]
    return [int(n) for n in feature.type.multiArrayType.shape]


def _follow(model: CoreMLModel, names: Sequence[str]) -> None:
    """Declares outputs as large as they now are; the editor must have forgotten its view of the old ones."""
    fresh = blob_shapes(model.with_spec(model.spec))
    for feature in model.spec.description.output:
        if feature.name not in names or feature.name not in fresh:
            continue
        blob = fresh[feature.name]
        if feature.type.WhichOneof("Type") == "imageType":
            feature.type.imageType.height, feature.type.imageType.width = blob[-2:]
        else:
            rank = len(feature.type.multiArrayType.shape)
            shape = blob[-rank:] if prod(blob[:-rank]) == 1 else layered.feature_shape(model.spec, blob)
            feature.type.multiArrayType.shape[:] = shape
