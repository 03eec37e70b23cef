"""What both models are fed: seeded random values within what the inputs declare, or what the caller gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.graph import Graph
from coreproof.model.recording import Recording
from coreproof.verify.draw import draw, lengths, table_rows

Sample: TypeAlias = Mapping[str, Any]
Inputs: TypeAlias = Sample | Sequence[Sample]
SEED = 20180607


def samples(inputs: Inputs) -> list[Sample]:
    """One mapping, or several, as a list."""
    listed = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if not listed:
        raise InputError("there is nothing to feed the models", expected="at least one mapping of input name to array")
    return listed


def random_sample(
    reference: Signature, candidate: Signature, seed: int = SEED, graphs: Sequence[tuple[Graph, Signature]] = ()
) -> tuple[Sample, Sample]:
    """The same random values for both models: drawn for the reference's inputs, handed to the candidate's.

    What is drawn, and in which shape, ``coreproof.verify.draw`` says. Where one side takes a picture, both are fed its
    pixels. ``graphs`` are the models' graphs, each with its signature: integers that pick rows of a table stay within it.
    """
    rng = np.random.default_rng(seed)
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    for a, b in match_inputs(reference, candidate):
        drawn = a if a.image is not None or b.image is None else b
        rows = [table_rows(graph, feature.name) for graph, of in graphs for feature in (a, b) if feature in of.inputs]
        value = draw(drawn, lengths(a, b), rng, min((r for r in rows if r is not None), default=None))
        left[a.name], right[b.name] = value, _fitted(value, b)
    return left, right


def random_feeds(reference: Model, candidate: Model, seed: int = SEED) -> tuple[Sample, Sample]:
    """What both models are fed where nothing is given: random values within everything that the two models declare."""
    graphs = [(model.graph, model.signature) for model in (reference, candidate)]
    return random_sample(reference.signature, candidate.signature, seed, graphs)


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


def feeds_of(
    reference: Model,
    candidate: Model,
    inputs: Inputs | None = None,
    feeds: tuple[Inputs, Inputs] | None = None,
    seed: int = SEED,
) -> tuple[list[tuple[Sample, Sample]], str]:
    """What each side is fed, sample by sample, and in words where that came from.

    ``feeds`` as they are; ``inputs`` handed to both; else the inputs of a saved run; else random values.
    """
    if feeds is not None:
        if inputs is not None:
            raise InputError("give inputs for both models, or feeds for each, not both")
        left, right = samples(feeds[0]), samples(feeds[1])
        if len(left) != len(right):
            raise InputError("the two models are fed another number of samples", expected=len(left), found=len(right))
        return list(zip(left, right, strict=True)), "given by the caller"
    said = "given by the caller"
    if inputs is None:
        saved = next((m for m in (reference, candidate) if isinstance(m, Recording)), None)
        if saved is None:
            return [random_feeds(reference, candidate, seed)], f"random, seed {seed}"
        inputs, said = saved.samples, f"those of the saved run of {saved.name}"
    return [hand_over(s, reference.signature, candidate.signature) for s in samples(inputs)], said


def describe(feeds: Sequence[Sample], origin: str | bool) -> str:
    """The inputs in a few words, for reports. ``origin``: where they came from, or whether the caller gave them."""
    if isinstance(origin, bool):
        origin = "given by the caller" if origin else f"random, seed {SEED}"
    parts = []
    for name, value in feeds[0].items():
        array = np.asarray(value)
        parts.append(f"{name} {array.dtype}[{'x'.join(map(str, array.shape))}]")
    count = f"{len(feeds)} samples of " if len(feeds) > 1 else ""
    return f"{count}{', '.join(parts)} ({origin})"


__all__ = [
    "SEED",
    "Inputs",
    "Sample",
    "describe",
    "feeds_of",
    "hand_over",
    "match_inputs",
    "random_feeds",
    "random_sample",
    "samples",
]
