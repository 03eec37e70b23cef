"""preprocessing: preprocessing that is missing or wrong: scale, bias, mean, std, order of the channels, crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import comb
from pathlib import Path

import numpy as np

from coreproof.doctor.case import Case
from coreproof.doctor.finding import Hypothesis, Repair
from coreproof.doctor.source.preprocessing import (
    PLAUSIBLE,
    Affine,
    own_affine,
    own_affines,
    picture_input,
    plausible_affine,
    repairs,
    wanted_affine,
)
from coreproof.errors import InputError
from coreproof.feeding.pictures import open_picture
from coreproof.feeding.predict import feed, probabilities, scores
from coreproof.model.features import Colour
from coreproof.model.feeding import Feeding
from coreproof.runtime.images import pixels, resize_and_crop
from coreproof.runtime.open import session
from coreproof.runtime.session import Session

_CAUSE = "scale, bias, mean, std or channel order were forgotten, or taken from another model, when it was converted"
SCREENED = 24
"""Photos on which every plausible preprocessing is tried; the most promising are tried on all."""
PROMISING = 3
LEAST_GAIN = 0.05
"""What another preprocessing must gain on the photos, as a share of them, to be called the right one."""


def applies(case: Case) -> bool:
    return case.evidence.runs


def hypotheses(case: Case) -> Iterator[Hypothesis]:
    """Against what the source is fed, where that is known; else by what the photos' classes say."""
    declared = list(_against_feeding(case))
    yield from declared
    if declared or not case.photos:
        return
    try:
        yield from _by_accuracy(case)
    except InputError:
        return  # no classifier of pictures: nothing to count


def _against_feeding(case: Case) -> Iterator[Hypothesis]:
    """The model's own numbers against the feeding of its source."""
    feature, feeding = picture_input(case.model), case.feeding
    if feature is None or feature.image is None or feeding is None or case.source is None:
        return
    steps = own_affines(case.model)
    if not steps:
        return
    right = wanted_affine(feeding, feature.image.channels)
    swapped = feature.image.colour != feeding.colour and feature.image.channels == 3
    own = steps[0]
    if own.close_to(right) and not swapped:
        return
    found = case.evidence.verification
    if not swapped and found is not None and found.agrees and any(done.close_to(right) for done in steps):
        return  # the steps behind are the network's own, and the source has them as well
    what = f"the model makes {own} of a {feature.image.colour} picture; its source is fed {right}, {feeding.colour}"
    yield Hypothesis(
        layer=feature.name,
        evidence=what + (f" ({_in_words(own, right)})" if not own.close_to(right) else ""),
        cause=_CAUSE,
        repairs=repairs(case.model, own, right, feeding.colour),
        weight=70,
    )


def _in_words(own: Affine, right: Affine) -> str:
    """What is wrong, in a word."""
    f, o = np.asarray(own.factor), np.asarray(own.offset)
    g, p = np.asarray(right.factor), np.asarray(right.offset)
    if np.allclose(f[::-1], g, rtol=1e-3) and np.allclose(o[::-1], p, rtol=1e-3) and not np.allclose(o, p, rtol=1e-3):
        return "the numbers stand at the wrong channels"
    if np.allclose(f, 1) and np.allclose(o, 0):
        return "no preprocessing at all"
    if np.allclose(f, f[0]) and not np.allclose(g, g[0]) and abs(f.mean() / g.mean() - 1) < 0.05:
        return "one scale for all channels where each has its own std"
    if np.allclose(f, g, rtol=1e-3):
        return "the scale is right, the bias is not" if not np.allclose(o, 0) else "the bias was left out"
    if np.allclose(-o / np.where(f == 0, 1, f), -p / g, rtol=1e-3, atol=1e-2):
        return "the mean is right, the std is not"
    return "neither mean nor std fits"


# by accuracy


@dataclass(frozen=True)
class _Way:
    """A way to feed the model, how many photos it gets right, and what would make the model so."""

    words: str
    feed: Callable[[Path], Mapping[str, object]]
    repairs: tuple[Repair, ...] = ()


def _by_accuracy(case: Case) -> Iterator[Hypothesis]:
    """Tries the plausible ways on photos whose classes are known, from labels or from the source's own answers."""
    targets = case.classes or _answers_of_source(case)
    ways = list(_ways(case))
    if len(targets) != len(case.photos) or len(ways) < 2:
        return
    with session(case.evidence.model) as running:
        right = {way.words: _right(running, way, case.photos[:SCREENED], targets) for way in ways}
        now = ways[0]
        better = [w for w in ways[1:] if sum(right[w.words]) >= sum(right[now.words])]
        # the rest of the photos is run for these alone: each plausible way costs a run a photo
        promising = sorted(better, key=lambda w: -sum(right[w.words]))[:PROMISING]
        if not promising:
            return
        full = {w.words: _right(running, w, case.photos, targets) for w in (now, *promising)}
    best = max(promising, key=lambda w: sum(full[w.words]))
    before, after = full[now.words], full[best.words]
    if not _clearly_better(before, after):
        return
    shares = "; ".join(f"{w.words}: {sum(full[w.words]) / len(targets):.0%}" for w in (now, *promising))
    judged = "their labels" if case.classes else "the source's answers"
    yield Hypothesis(
        layer=case.model.signature.inputs[0].name,
        evidence=f"right on {len(targets)} photos, by {judged}: {shares}",
        cause=_CAUSE,
        repairs=best.repairs,
        needs=None if best.repairs else f"the file is as it should be: feed it {best.words}",
        weight=70,
    )


def _clearly_better(before: Sequence[bool], after: Sequence[bool]) -> bool:
    """By LEAST_GAIN at least, and more than chance explains (one-sided sign test on the photos that changed, 5%)."""
    gained = sum(b and not a for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    changed = gained + lost
    if gained - lost < LEAST_GAIN * len(before):
        return False
    chance = sum(comb(changed, k) for k in range(gained, changed + 1)) / 2**changed
    return bool(chance < 0.05)


def _answers_of_source(case: Case) -> tuple[int, ...]:
    """The classes that the source itself sees on the photos: as good as labels for finding out how it was fed."""
    if case.source is None or case.feeding is None or case.evidence.reference is None:
        return ()
    with session(case.evidence.reference) as running:
        seen = [scores(running, case.evidence.reference, path, case.feeding) for path in case.photos]
    return tuple(int(np.argmax(s)) for s in seen)


def _right(running: Session, way: _Way, photos: Sequence[Path], targets: Sequence[int]) -> list[bool]:
    taps = [running.signature.scores] if running.signature.scores is not None else []
    answers = (probabilities(running, running.run(way.feed(path), taps)) for path in photos)
    return [int(np.argmax(a)) == target for a, target in zip(answers, targets, strict=False)]


def _ways(case: Case) -> Iterator[_Way]:
    """As the model is fed now, first; then the plausible ones."""
    feature = picture_input(case.model)
    if feature is None:
        yield from _ways_of_numbers(case)
        return
    own = own_affine(case.model)
    image = feature.image
    if own is None or image is None or any(f == 0 for f in own.factor):
        return  # a factor of zero hides what the pixels were
    geometry = replace(case.feeding or Feeding(), size=(image.width, image.height))

    def fed(right: Affine, colour: Colour) -> Callable[[Path], Mapping[str, object]]:
        def see(path: Path) -> Mapping[str, object]:
            planes = pixels(resize_and_crop(open_picture(path), geometry), colour)
            factor, offset, f, o = (
                np.asarray(n, np.float32).reshape(1, -1, 1, 1)
                for n in (right.factor, right.offset, own.factor, own.offset)
            )
            # pixels that the model's own preprocessing turns into what the other one would make of these
            return {feature.name: (planes * factor + offset - o) / f}

        return see

    yield _Way("as it is", fed(own, image.colour))
    for name, known, colour, right in _plausible(image.channels, own, image.colour):
        numbers = right if colour == known.colour else right.reversed()
        words = name + (f", {colour}" if colour != known.colour or colour != "RGB" else "")
        yield _Way(words, fed(numbers, colour), repairs(case.model, own, numbers, colour))
    if image.channels == 3:
        other: Colour = "BGR" if image.colour == "RGB" else "RGB"
        yield _Way(f"channels in the order {other}", fed(own, other), repairs(case.model, own, own, other))


def _plausible(channels: int, own: Affine, colour: Colour) -> Iterator[tuple[str, Feeding, Colour, Affine]]:
    """Every plausible preprocessing in each order of channels, but for the one that is carried out now."""
    orders: tuple[Colour, ...] = ("RGB", "BGR") if channels == 3 else (colour,)
    for (name, known), order in product(PLAUSIBLE.items(), orders):
        affine = plausible_affine(known, channels)
        if not (affine.close_to(own, 1e-2) and order == colour):
            yield name, known, order, affine


def _ways_of_numbers(case: Case) -> Iterator[_Way]:
    """For a model that takes an array: other feedings. The model itself stays as it is."""
    base = case.feeding
    inputs = case.model.signature.inputs
    if base is None or len(inputs) != 1:
        return

    def fed(feeding: Feeding) -> Callable[[Path], Mapping[str, object]]:
        return lambda path: feed(case.model, path, feeding)

    yield _Way(f"as it is fed ({base})", fed(base))
    channels = 1 if base.colour.startswith("GRAY") else 3
    own = wanted_affine(base, channels)
    for name, known, colour, _ in _plausible(channels, own, base.colour):
        mean, std = (known.mean, known.std) if colour == known.colour else (known.mean[::-1], known.std[::-1])
        feeding = replace(base, scale=known.scale, mean=mean[:channels], std=std[:channels], colour=colour)
        yield _Way(f"{name}, {colour}", fed(feeding))
    if base.resize == "crop":
        yield _Way("stretched instead of cropped", fed(replace(base, resize="squash")))
    else:
        yield _Way("cropped instead of stretched", fed(replace(base, resize="crop")))
