"""What both models are fed: seeded random values within what the inputs declare, or what the caller gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError
from coreproof.model.features import Feature, Signature

Sample: TypeAlias = Mapping[str, Any]
Inputs: TypeAlias = Sample | Sequence[Sample]
SEED = 20180607


def samples(inputs: Inputs) -> list[Sample]:
    """One mapping, or several, as a list."""
    listed = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if not listed:
        raise InputError("there is nothing to feed the models", expected="at least one mapping of input name to array")
    return listed


def random_sample(reference: Signature, candidate: Signature, seed: int = SEED) -> tuple[Sample, Sample]:
    """The same random values for both models: drawn for the reference's inputs, handed to the candidate's.

    Images: smooth pictures with some noise, 0-255, like photos. Floats: standard normal. Integers: 0 to 9 (or the one
    value 0 and 1 for booleans). Where one side takes a picture, both are fed its pixels. Lengths that are free are 1 for the
    first dimension, else what the other side declares, else 8.
    """
    rng = np.random.default_rng(seed)
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for a, b in match_inputs(reference, candidate):
        value = _draw(a if a.image is not None or b.image is None else b, _lengths(a, b), rng)
        left[a.name] = right[b.name] = value
    return left, right


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


def hand_over(sample: Sample, reference: Signature, candidate: Signature) -> tuple[Sample, Sample]:
    """One mapping for both: each side gets what it declares, under its own names and in its own rank."""
    left, right = {}, {}
    for a, b in match_inputs(reference, candidate):
        if a.name not in sample and b.name not in sample:
            if a.optional and b.optional:
                continue
            raise InputError(
                f"nothing is given for input {a.name!r}", expected=str(a), found=", ".join(sample) or "nothing"
            )
        value = sample[a.name] if a.name in sample else sample[b.name]
        left[a.name], right[b.name] = value, _fitted(value, b)
    unknown = set(sample) - set(left) - set(right)
    if unknown:
        raise InputError("neither model has these inputs", found=", ".join(sorted(unknown)), expected=", ".join(left))
    return left, right


def _fitted(value: Any, feature: Feature) -> Any:
    """An array in the rank that the other side declares, where only lengths of 1 differ."""
    if feature.image is not None or feature.shape is None or not isinstance(value, np.ndarray):
        return value
    shape = feature.shape
    if len(shape) == value.ndim or not all(isinstance(d, int) for d in shape):
        return value
    wanted = tuple(d for d in shape if isinstance(d, int))
    squeezed = tuple(d for d in value.shape if d != 1)
    return value.reshape(wanted) if squeezed == tuple(d for d in wanted if d != 1) else value


def _lengths(a: Feature, b: Feature) -> tuple[int, ...]:
    if a.image is not None or b.image is not None:
        image = a.image or b.image
        assert image is not None
        return (1, image.channels, image.height, image.width)
    shape = a.shape if a.shape is not None else b.shape
    if shape is None:
        raise InputError(
            f"the shape of input {a.name!r} is not declared", fix="give the inputs: verify(a, b, inputs={name: array})"
        )
    other = b.shape if b.shape is not None and len(b.shape) == len(shape) else (None,) * len(shape)
    free = [1 if i == 0 else 8 for i in range(len(shape))]
    if a.enumerated and len(a.enumerated[0]) == len(shape):
        return tuple(a.enumerated[0])
    lengths = []
    for i, (mine, theirs) in enumerate(zip(shape, other, strict=True)):
        known = (
            mine if isinstance(mine, int) and mine > 0 else theirs if isinstance(theirs, int) and theirs > 0 else None
        )
        lengths.append(known if known is not None else free[i])
    return tuple(lengths)


def _draw(feature: Feature, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[Any]:
    if feature.image is not None:
        return _picture(shape, rng)
    dtype = np.dtype(feature.dtype or "float32")
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return rng.integers(0, 10, shape).astype(dtype)
    return rng.standard_normal(shape).astype(np.float32).astype(dtype)


def _picture(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Broad gradients and waves with a little noise, whole numbers 0-255, as in a photo."""
    _, channels, height, width = shape
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = []
    for _ in range(channels):
        waves = sum(
            rng.normal() * np.sin(2 * np.pi * (rng.uniform(0, 4) * x + rng.uniform(0, 4) * y + rng.uniform()))
            for _ in range(6)
        )
        planes.append(127 + 45 * waves + 12 * rng.standard_normal((height, width)))
    picture: npt.NDArray[np.float32] = np.clip(np.rint(np.stack(planes)), 0, 255).astype(np.float32)
    return picture[None]


def describe(feeds: Sequence[Sample], given: bool) -> str:
    """The inputs in a few words, for reports."""
    parts = []
    for name, value in feeds[0].items():
        array = np.asarray(value)
        parts.append(f"{name} {array.dtype}[{'x'.join(map(str, array.shape))}]")
    how = "given by the caller" if given else f"random, seed {SEED}"
    count = f"{len(feeds)} samples of " if len(feeds) > 1 else ""
    return f"{count}{', '.join(parts)} ({how})"


__all__ = ["SEED", "Inputs", "Sample", "describe", "hand_over", "match_inputs", "random_sample", "samples"]
