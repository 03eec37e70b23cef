"""What both models are fed: seeded random values within what the inputs declare, or what the caller gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from coreproof.errors import InputError
from coreproof.feeding.drawn import SEED, Draft, Sample, random_feeds, random_sample, roles_for, several
from coreproof.feeding.matched_inputs import fitted, match_inputs, takes_shape
from coreproof.feeding.own_preprocessing import Taker, in_words, likeliest, numbers, own_feedings, pixels_of
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.recording import Recording
from coreproof.model.structured import is_structured
from coreproof.runtime.open import session
from coreproof.runtime.session import Session

Inputs: TypeAlias = Sample | Sequence[Sample]


def samples(inputs: Inputs) -> list[Sample]:
    """One mapping, or several, as a list."""
    listed = [inputs] if isinstance(inputs, Mapping) else list(inputs)
    if not listed:
        raise InputError("there is nothing to feed the models", expected="at least one mapping of input name to array")
    return listed


def hand_over(sample: Sample, reference: Signature, candidate: Signature) -> tuple[Sample, Sample]:
    """One mapping for both: each side gets what it declares, under its own names and in its own rank.

    An input that has another name on either side may be given once for both, or under both names.
    """
    left, right = {}, {}
    for a, b in match_inputs(reference, candidate):
        if a.name not in sample and b.name not in sample:
            if a.optional and b.optional:
                continue
            raise InputError(
                f"nothing is given for input {a.name!r}", expected=str(a), found=", ".join(sample) or "nothing"
            )
        left[a.name] = sample[a.name] if a.name in sample else sample[b.name]
        right[b.name] = fitted(sample[b.name] if b.name in sample else sample[a.name], b)
    unknown = set(sample) - set(left) - set(right)
    if unknown:
        raise InputError("neither model has these inputs", found=", ".join(sorted(unknown)), expected=", ".join(left))
    return left, right


@dataclass(frozen=True)
class Feeds:
    """What two models are fed, sample by sample, and in words where that came from.

    Of what was drawn, ``taken`` says what each input of the reference was taken for, and ``large`` which samples are of more
    than the usual magnitude. ``draft``: they were drawn and not tried yet; it draws each of them again, without zeros.
    """

    pairs: list[tuple[Sample, Sample]]
    said: str
    taken: Mapping[str, str] = field(default_factory=dict)
    large: tuple[int, ...] = ()
    draft: Draft | None = None


def feeds_of(
    reference: Model,
    candidate: Model,
    inputs: Inputs | None = None,
    feeds: tuple[Inputs, Inputs] | None = None,
    seed: int = SEED,
    sessions: tuple[Session, Session] | None = None,
    *,
    tried: bool = True,
) -> Feeds:
    """What each side is fed, sample by sample, and in words where that came from.

    ``feeds`` as they are; ``inputs`` handed to both; else the inputs of a saved run; else random values. In the last two
    cases a picture on one side becomes on the other, where that takes numbers, what its feeding makes of it, or what
    the picture's model itself does first. ``sessions``: the two models ready to run, if they are. Draws are then tried on the
    reference; with ``tried=False`` whoever runs them sees to that, with the result's ``draft``.
    """
    if feeds is not None:
        if inputs is not None:
            raise InputError("give inputs for both models, or feeds for each, not both")
        left, right = samples(feeds[0]), samples(feeds[1])
        if len(left) != len(right):
            raise InputError("the two models are fed another number of samples", expected=len(left), found=len(right))
        return Feeds(list(zip(left, right, strict=True)), "given by the caller")
    if inputs is not None:
        given = [hand_over(s, reference.signature, candidate.signature) for s in samples(inputs)]
        return Feeds(given, "given by the caller")
    saved = next((m for m in (reference, candidate) if isinstance(m, Recording)), None)
    if saved is None and not tried:
        draft = Draft(reference, candidate, seed, sessions)
        pairs, said = translated(reference, candidate, draft.pairs, draft.said(), sessions)
        return Feeds(pairs, said, draft.taken, draft.large, draft if draft.may_redraw else None)
    if saved is None:
        draws = several(reference, candidate, seed, sessions)
        pairs, said = translated(reference, candidate, draws.pairs, draws.said, sessions)
        return Feeds(pairs, said, draws.taken, draws.large)
    drawn = [hand_over(s, reference.signature, candidate.signature) for s in saved.samples]
    return Feeds(*translated(reference, candidate, drawn, f"those of the saved run of {saved.name}", sessions))


def translated(
    reference: Model,
    candidate: Model,
    drawn: Sequence[tuple[Sample, Sample]],
    said: str,
    sessions: tuple[Session, Session] | None = None,
) -> tuple[list[tuple[Sample, Sample]], str]:
    """The same picture for both sides, where one takes it as a picture and the other as numbers; anything else as it is."""
    pairs = match_inputs(reference.signature, candidate.signature)
    mixed = [(a, b) for a, b in pairs if (a.image is None) != (b.image is None) and a.name in drawn[0][0]]
    for a, b in mixed:
        flip = b.image is None
        with _opened(reference, candidate, sessions) as (left, right):
            sides = [Taker(reference, left, a), Taker(candidate, right, b)]
            picture, other = sides if flip else sides[::-1]
            feeding = _feeding_for(picture, other, drawn, len(pairs) == 1)
        taker = other.model
        drawn = [_one_translated(pair, a, b, feeding, isinstance(taker, Recording)) for pair in drawn]
        side = "candidate" if flip else "reference"
        said += f"; the {side} {'was' if isinstance(taker, Recording) else 'is'} fed {in_words(feeding)}"
    return list(drawn), said


@contextmanager
def _opened(
    reference: Model, candidate: Model, sessions: tuple[Session, Session] | None
) -> Iterator[tuple[Session, Session]]:
    if sessions is not None:
        yield sessions
        return
    with session(reference) as left, session(candidate) as right:
        yield left, right


def _feeding_for(picture: Taker, other: Taker, drawn: Sequence[tuple[Sample, Sample]], alone: bool) -> Feeding:
    """How the side that takes numbers is fed: as it says itself, else as the picture's model feeds its own network."""
    told = other.model.feeding
    if told is not None:
        return told
    listed = own_feedings(picture.running, picture.feature)
    if not alone or isinstance(other.model, Recording):
        return listed[0]
    name = picture.feature.name
    planes = next(value for pair in drawn for sample in pair for n, value in sample.items() if n == name)
    return likeliest(picture, other, listed, planes)


def _one_translated(
    pair: tuple[Sample, Sample], a: Feature, b: Feature, feeding: Feeding, from_numbers: bool
) -> tuple[Sample, Sample]:
    left, right = dict(pair[0]), dict(pair[1])
    sides = [(left, a), (right, b)] if a.image is not None else [(right, b), (left, a)]
    (pictures, picture), (arrays, array) = sides
    assert picture.image is not None
    if not from_numbers:
        value = numbers(pictures[picture.name], picture.image, feeding, array)
        if not takes_shape(array, value.shape):
            raise InputError(
                "the two models see pictures of another size",
                expected=f"{picture} and {array} of one size",
                fix="feed both the same photos: --photos FOLDER",
            )
        arrays[array.name] = value
        return left, right
    planes = pixels_of(arrays[array.name], picture.image, feeding, array)
    again = numbers(planes, picture.image, feeding, array)
    if not np.allclose(again, arrays[array.name], rtol=1e-3, atol=1e-3 * float(np.abs(again).max(initial=1.0))):
        raise InputError(
            f"what was fed to {array.name!r} when the run was saved is no picture fed as {in_words(feeding)}",
            fix="save the run with --photos FOLDER (and --scale, --mean, --std, where the model does not carry them)",
        )
    pictures[picture.name] = planes
    return left, right


def describe(feeds: Sequence[Sample], origin: str | bool) -> str:
    """The inputs in a few words, for reports. ``origin``: where they came from, or whether the caller gave them."""
    if isinstance(origin, bool):
        origin = "given by the caller" if origin else f"random, one draw, seed {SEED}"
    parts = []
    for name, value in feeds[0].items():
        if is_structured(value):
            parts.append(f"{name} {'dictionary' if isinstance(value, Mapping) else 'sequence'} of {len(value)}")
            continue
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
    "roles_for",
    "samples",
    "translated",
]
