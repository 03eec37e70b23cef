"""Which inputs of two models get the same data, and a value in the rank that the other side declares."""

from __future__ import annotations

import numpy as np

from coreproof.errors import InputError
from coreproof.model.features import Feature, Signature


def match_inputs(reference: Signature, candidate: Signature) -> list[tuple[Feature, Feature]]:
    """Inputs that get the same data: by name, else by position."""
    theirs, mine = list(reference.inputs), list(candidate.inputs)
    by_name = {f.name: f for f in mine}
    pairs = [(f, by_name[f.name]) for f in theirs if f.name in by_name]
    left = [f for f in theirs if f.name not in by_name]
    taken = {f.name for f, _ in pairs}
    right = [f for f in mine if f.name not in taken]
    if len(left) != len(right):
        raise InputError(
            "the two models have different inputs",
            expected="; ".join(map(str, theirs)),
            found="; ".join(map(str, mine)),
            fix="say what each is fed: verify(a, b, feeds=(inputs_a, inputs_b))",
        )
    return [*pairs, *zip(left, right, strict=True)]


def fitted(value: object, feature: Feature) -> object:
    """An array in the rank that the other side declares, where only lengths of 1 differ."""
    if feature.image is not None or feature.shape is None or not isinstance(value, np.ndarray):
        return value
    shape = feature.shape
    if len(shape) == value.ndim or not all(isinstance(d, int) for d in shape):
        return value
    wanted = tuple(d for d in shape if isinstance(d, int))
    if len(wanted) > 64:  # NumPy's own bound
        raise InputError(
            f"input {feature.name!r} declares a shape that no array has",
            expected="at most 64 dimensions",
            found=f"{len(wanted)} dimensions",
        )
    squeezed = tuple(d for d in value.shape if d != 1)
    return value.reshape(wanted) if squeezed == tuple(d for d in wanted if d != 1) else value


def takes_shape(feature: Feature, shape: tuple[int, ...]) -> bool:
    if feature.shape is None or feature.ranges or feature.enumerated:
        return True
    return len(feature.shape) == len(shape) and all(
        not isinstance(d, int) or d <= 0 or d == n for d, n in zip(feature.shape, shape, strict=True)
    )
