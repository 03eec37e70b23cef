"""Which inputs of two models get the same data, and a value in the rank that the other side declares."""

from __future__ import annotations

import numpy as np

from coreproof.errors import InputError
from coreproof.model.features import Feature, Signature

_MOST_DIMENSIONS = 64
"""What NumPy can hold (NPY_MAXDIMS, since 2.0)."""


def match_inputs(reference: Signature, candidate: Signature) -> list[tuple[Feature, Feature]]:
    """Inputs that get the same data: by name, else by position."""
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
