"""The features of an ML Program being edited: what its description and its function say about inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coreproof.errors import EditError
from coreproof.model.coreml.proto import Model_pb2
from coreproof.model.formats import classic

ARRAY_DTYPES = {dtype: number for dtype, number in classic.ARRAY_DTYPES.items() if dtype != "float64"}
"""The dtypes that a multi-array of an ML Program can have."""


def description_of(spec: Any, function: str) -> Any:
    """What describes the features of one function: its own description where there are several functions."""
    for own in spec.description.functions:
        if own.name == function:
            return own
    return spec.description


def carried_dtype(dtype: str, specification: int) -> str:
    """The dtype of the multi-array that carries a value of ``dtype`` in or out, where a feature cannot have it itself."""
    if dtype == "float16":
        return "float16" if specification >= classic.FLOAT16_FEATURES_SINCE else "float32"
    if dtype in ARRAY_DTYPES:
        return dtype
    if dtype in ("float64", "bfloat16"):
        return "float32"
    if dtype in ("bool", "int8", "uint8", "int16", "uint16"):
        return "int32"
    raise EditError(f"a value of dtype {dtype} cannot be a feature", expected=", ".join(ARRAY_DTYPES), found=dtype)


def array_feature(name: str, dtype: str, shape: Sequence[int | None]) -> Any:
    """The description of a multi-array; without a shape where some lengths are known only when the program runs."""
    feature = Model_pb2.FeatureDescription(name=name)
    feature.type.multiArrayType.dataType = ARRAY_DTYPES[dtype]
    if None not in shape:
        feature.type.multiArrayType.shape.extend(n for n in shape if n is not None)
    return feature


def place_of(features: Any, name: str | None) -> int | None:
    """Where the feature of that name stands."""
    return next((i for i, f in enumerate(features) if f.name == name), None)


def declare_array(feature: Any, dtype: str, shape: Sequence[int | None]) -> None:
    """Gives a described multi-array another dtype and shape; its words stay, the shapes that it could also have go."""
    fresh = array_feature(feature.name, dtype, shape)
    optional = feature.type.isOptional
    feature.type.CopyFrom(fresh.type)
    feature.type.isOptional = optional
