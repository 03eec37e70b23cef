"""Which inputs of two models get the same data, and a value in the rank that the other side declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, takewhile

import numpy as np

from coreproof.errors import InputError
from coreproof.model.features import Feature, Signature

_MOST_DIMENSIONS = 64
"""What NumPy can hold (NPY_MAXDIMS, since 2.0)."""


def text_columns(reference: Signature, candidate: Signature) -> dict[str, tuple[str, ...]]:
    """Inputs of several texts of the reference, each with the candidate's inputs that take them one by one.

    Core ML has no array of texts: "sizes" of two texts is "sizes_0" and "sizes_1" there.
    """
    singles = {f.name for f in candidate.inputs if f.kind == "string"}
    arrays = [f for f in reference.inputs if f.kind == "tensor" and f.dtype == "str" and f.name not in singles]
    found = {f.name: tuple(takewhile(singles.__contains__, (f"{f.name}_{at}" for at in count()))) for f in arrays}
    return {name: columns for name, columns in found.items() if columns}


def handed_by_column(sample: Mapping[str, object], columns: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    """What the candidate's inputs of single texts get of a sample, as ``text_columns`` says."""
    taken: dict[str, object] = {}
    for name, singles in columns.items():
        texts = np.asarray(sample[name], object).reshape(-1)
        if len(texts) != len(singles):
            raise InputError(
                f"input {name!r} is fed one sample at a time",
                expected=f"{len(singles)} texts",
                found=f"{len(texts)} texts",
            )
        taken |= dict(zip(singles, texts, strict=True))
    return taken


def match_inputs(reference: Signature, candidate: Signature) -> list[tuple[Feature, Feature]]:
    """Inputs that get the same data: by name, else by position. Those of ``text_columns`` are no pairs, and left out."""
    if columns := text_columns(reference, candidate):
        apart = {single for singles in columns.values() for single in singles}
        reference = replace(reference, inputs=tuple(f for f in reference.inputs if f.name not in columns))
        candidate = replace(candidate, inputs=tuple(f for f in candidate.inputs if f.name not in apart))
    by_name = {f.name: f for f in candidate.inputs}
    pairs = [(f, by_name[f.name]) for f in reference.inputs if f.name in by_name]
    # renamed by a converter, or by another exporter: their order is what is left
    common = {f.name for f, _ in pairs}
    rest_of_reference = [f for f in reference.inputs if f.name not in common]
    rest_of_candidate = [f for f in candidate.inputs if f.name not in common]
    if len(rest_of_reference) != len(rest_of_candidate):  # what need not be fed, and the other side does not know
        rest_of_reference, rest_of_candidate = (
            [f for f in rest if not f.optional] for rest in (rest_of_reference, rest_of_candidate)
        )
    if len(rest_of_reference) != len(rest_of_candidate):
        raise InputError(
            "the two models have different inputs",
            expected="; ".join(map(str, reference.inputs)),
            found="; ".join(map(str, candidate.inputs)),
            fix="say what each is fed: verify(a, b, feeds=(inputs_a, inputs_b))",
        )
    return [*pairs, *zip(rest_of_reference, rest_of_candidate, strict=True)]


def fitted(value: object, feature: Feature) -> object:
    """An array or a number in the rank that the other side declares, where only lengths of 1 differ."""
    if feature.image is not None or feature.shape is None or not isinstance(value, np.ndarray | np.generic):
        return value
    shape = feature.shape
    if len(shape) == value.ndim or not all(isinstance(d, int) for d in shape):
        return value
    wanted = tuple(d for d in shape if isinstance(d, int))
    require_dimensions(feature, len(wanted))
    squeezed = tuple(d for d in value.shape if d != 1)
    return value.reshape(wanted) if squeezed == tuple(d for d in wanted if d != 1) else value


def require_dimensions(feature: Feature, count: int) -> None:
    """Raises InputError for an input of more dimensions than an array can have; a file may declare any number."""
    if count > _MOST_DIMENSIONS:
        raise InputError(
            f"input {feature.name!r} has more dimensions than an array can have",
            expected=f"at most {_MOST_DIMENSIONS} dimensions",
            found=f"{count} dimensions",
        )
