"""What both models are fed: seeded random values within what the inputs declare, or what the caller gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from coreproof.errors import InputError
from coreproof.feeding.drawn import SEED, Draft, Feeds, Inputs, Pair, Sample, several
from coreproof.feeding.lengths import takes_shape
from coreproof.feeding.matched_inputs import fitted, handed_by_column, match_inputs, text_columns
from coreproof.feeding.own_preprocessing import Taker, in_words, likeliest, numbers, own_feedings, pixels_of
from coreproof.model.base import Model
from coreproof.model.features import Feature, Signature
from coreproof.model.feeding import Feeding
from coreproof.model.recording import Recording
from coreproof.runtime.open import session
from coreproof.runtime.session import Session

GIVEN = "given by the caller"


def samples(inputs: Inputs) -> list[Sample]:
    """One mapping, or several, as a list."""
    listed = [inputs] if isinstance(inputs, Mapping) else list(inputs) if isinstance(inputs, Iterable) else [inputs]
    if wrong := [each for each in listed if not isinstance(each, Mapping)]:
        raise InputError(
            "inputs are given by their names",
            expected="a mapping of input name to array, or a list of such",
            found=f"{type(wrong[0]).__name__}: {str(wrong[0])[:80]}",
        )
    if not listed:
        raise InputError("there is nothing to feed the models", expected="at least one mapping of input name to array")
    return listed


def hand_over(sample: Sample, reference: Signature, candidate: Signature) -> Pair:
    """One mapping for both: each side gets what it declares, under its own names and in its own rank.

    An input that has another name on either side may be given once for both, or under both names.
    """
    for_reference: dict[str, object] = {}
    for_candidate: dict[str, object] = {}
    for a, b in match_inputs(reference, candidate):
        if a.name not in sample and b.name not in sample:
            # either side falls back to its own default; that both do the same is part of what is compared
            if a.optional and b.optional:
                continue
            raise InputError(
                f"nothing is given for input {a.name!r}", expected=str(a), found=", ".join(sample) or "nothing"
            )
        for_reference[a.name] = sample[a.name] if a.name in sample else sample[b.name]
        for_candidate[b.name] = fitted(sample[b.name] if b.name in sample else sample[a.name], b)
    columns = text_columns(reference, candidate)
    if missing := [name for name in columns if name not in sample]:
        raise InputError(f"nothing is given for input {missing[0]!r}", found=", ".join(sample) or "nothing")
    for_reference |= {name: sample[name] for name in columns}
    for_candidate |= handed_by_column(sample, columns)
    unknown = set(sample) - set(for_reference) - set(for_candidate)
    if unknown:
        expected = ", ".join(for_reference)
        raise InputError("neither model has these inputs", found=", ".join(sorted(unknown)), expected=expected)
    return for_reference, for_candidate


def feeds_of(
    reference: Model,
    candidate: Model,
    inputs: Inputs | None = None,
    feeds: tuple[Inputs, Inputs] | Feeds | None = None,
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
        if isinstance(feeds, Feeds):
            return feeds
        if not isinstance(feeds, Sequence) or len(feeds) != 2:
            raise InputError(
                "feeds are a pair: what the reference is fed, and what the candidate is",
                expected="two mappings of input name to array, or two lists of such",
                found=f"{type(feeds).__name__}: {str(feeds)[:80]}",
            )
        for_reference, for_candidate = samples(feeds[0]), samples(feeds[1])
        if len(for_reference) != len(for_candidate):
            raise InputError(
                "the two models are fed another number of samples",
                expected=len(for_reference),
                found=len(for_candidate),
            )
        return Feeds(list(zip(for_reference, for_candidate, strict=True)), GIVEN)
    if inputs is not None:
        return Feeds([hand_over(s, reference.signature, candidate.signature) for s in samples(inputs)], GIVEN)
    saved = next((m for m in (reference, candidate) if isinstance(m, Recording)), None)
    if saved is not None:
        pairs = [hand_over(s, reference.signature, candidate.signature) for s in saved.samples]
        fed = Feeds(pairs, f"those of the saved run of {saved.name}")
    elif tried:
        fed = several(reference, candidate, seed, sessions)
    else:
        draft = Draft(reference, candidate, seed, sessions)
        again = draft if draft.may_redraw else None
        fed = Feeds(draft.pairs, draft.said(), draft.taken, draft.large, draft.far, again)
    return _translated(reference, candidate, fed, sessions)


def _translated(reference: Model, candidate: Model, fed: Feeds, sessions: tuple[Session, Session] | None) -> Feeds:
    """The same picture for both sides, where one takes it as a picture and the other as numbers; anything else as it is."""
    matched = match_inputs(reference.signature, candidate.signature)
    # a Core ML model may take the picture itself, with mean and scale inside; its source takes numbers
    mixed = [(a, b) for a, b in matched if (a.image is None) != (b.image is None) and a.name in fed.pairs[0][0]]
    for a, b in mixed:
        flip = b.image is None
        with _opened(reference, candidate, sessions) as (reference_session, candidate_session):
            sides = [Taker(reference, reference_session, a), Taker(candidate, candidate_session, b)]
            # the side with the picture first, whichever it is
            picture, other = sides if flip else sides[::-1]
            feeding = _feeding_for(picture, other, fed.pairs, len(matched) == 1)
        saved = isinstance(other.model, Recording)
        side = f"the {'candidate' if flip else 'reference'} {'was' if saved else 'is'} fed {in_words(feeding)}"
        pairs = [_one_translated(pair, a, b, feeding, saved) for pair in fed.pairs]
        fed = replace(fed, pairs=pairs, said=f"{fed.said}; {side}")
    return fed


@contextmanager
def _opened(
    reference: Model, candidate: Model, sessions: tuple[Session, Session] | None
) -> Iterator[tuple[Session, Session]]:
    if sessions is not None:
        yield sessions
        return
    with session(reference) as reference_session, session(candidate) as candidate_session:
        yield reference_session, candidate_session


def _feeding_for(picture: Taker, other: Taker, pairs: Sequence[Pair], alone: bool) -> Feeding:
    """How the side that takes numbers is fed: as it says itself, else as the picture's model feeds its own network."""
    told = other.model.feeding
    if told is not None:
        return told
    listed = own_feedings(picture.running, picture.feature)
    # beside other inputs, or of a saved run, nothing can be tried
    if not alone or isinstance(other.model, Recording):
        return listed[0]
    name = picture.feature.name
    planes = next(value for pair in pairs for sample in pair for n, value in sample.items() if n == name)
    return likeliest(picture, other, listed, np.asarray(planes))


def _one_translated(pair: Pair, a: Feature, b: Feature, feeding: Feeding, from_numbers: bool) -> Pair:
    for_reference, for_candidate = dict(pair[0]), dict(pair[1])
    sides = [(for_reference, a), (for_candidate, b)]
    (pictures, picture), (arrays, array) = sides if a.image is not None else sides[::-1]
    assert picture.image is not None
    if not from_numbers:
        value = numbers(np.asarray(pictures[picture.name]), picture.image, feeding, array)
        if not takes_shape(array, value.shape):
            raise InputError(
                "the two models see pictures of another size",
                expected=f"{picture} and {array} of one size",
                fix="feed both the same photos: --photos FOLDER",
            )
        arrays[array.name] = value
        return for_reference, for_candidate
    saved = np.asarray(arrays[array.name])
    # a saved run fed numbers: the pixels are computed back, and have to give those numbers again
    planes = pixels_of(saved, picture.image, feeding, array)
    again = numbers(planes, picture.image, feeding, array)
    # pixels are whole numbers, 1/255 apart: what is off by more than a quarter of that was no picture fed so
    if not np.allclose(again, saved, rtol=1e-3, atol=1e-3 * float(np.abs(again).max(initial=1.0))):
        raise InputError(
            f"what was fed to {array.name!r} when the run was saved is no picture fed as {in_words(feeding)}",
            fix="save the run with --photos FOLDER (and --scale, --mean, --std, where the model does not carry them)",
        )
    pictures[picture.name] = planes
    return for_reference, for_candidate


def describe(feeds: Sequence[Sample], origin: str | bool) -> str:
    """The inputs in a few words, for reports. ``origin``: where they came from, or whether the caller gave them."""
    if isinstance(origin, bool):
        origin = GIVEN if origin else f"random, one draw, seed {SEED}"
    parts = []
    for name, value in feeds[0].items():
        if isinstance(value, Mapping | list | tuple):
            parts.append(f"{name} {'dictionary' if isinstance(value, Mapping) else 'sequence'} of {len(value)}")
            continue
        array = np.asarray(value)
        parts.append(f"{name} {array.dtype}[{'x'.join(map(str, array.shape))}]")
    count = f"{len(feeds)} samples of " if len(feeds) > 1 else ""
    return f"{count}{', '.join(parts)} ({origin})"
