"""When models that agree over photos have shown little by it: one class throughout, no answers, no better than guessing, few."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from coreproof.comparison.tally import Tally
from coreproof.model.weakness import Weakness, listed

FEW = 30
"""Fewer pictures than this are few: when all of 29 agree, more than one in ten of all others may still differ (Wilson, 95%)."""

ENOUGH = 10
"""Of fewer pictures whose class is known, a model may be right on none by bad luck."""


def weaknesses_of(
    tally: Tally,
    pictures: int,
    untrained: Collection[str],
    class_name: Callable[[int], str],
    unlike: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> tuple[Weakness, ...]:
    """Why what is said about classes over photos says little. Models that stand there to explain are left out.

    ``pictures``: how many the photos are of; ``untrained``: the models with random weights; ``unlike``: models whose labels
    nobody else knows, with what each calls a class and what that is called elsewhere.
    """
    names = tally.main
    # behind the classes each model has one more: "no answer"
    answers = len(next(iter(tally.models.values())).named) - len(tally.names)
    named = {name: frozenset(np.flatnonzero(tally.models[name].named[:answers]).tolist()) for name in names}
    silent = [name for name in names if tally.models[name].named[answers:].any()]
    found: list[Weakness] = []
    classes = frozenset[int]().union(*named.values())
    if len(classes) == 1:
        # a single picture can have no more than one class
        what = f"{class_name(next(iter(classes)))!r} is the only class that is named on any photo"
        found.append(Weakness("one-class", what, names, fails=pictures > 1))
    elif fixed := [name for name in names if len(named[name]) == 1 and pictures > 1]:
        what = f"{len(fixed)} of {len(names)} models name{'s' if len(fixed) == 1 else ''} one class on every photo"
        found.append(Weakness("one-class", what, tuple(fixed)))
    if silent:
        often = max(int(tally.models[name].named[answers:].sum()) for name in silent)
        everywhere = not classes
        what = f"no answer of {listed(silent)} (NaN or zeros) on {often:,} of {tally.photos:,} photos"
        found.append(Weakness("no-answer", what, tuple(silent), fails=everywhere))
    found += [chance] if (chance := _chance(tally, [name for name in names if name not in untrained], answers)) else []
    if random := tuple(name for name in untrained if name in names):
        found.append(Weakness("untrained", "untrained weights: their classes mean nothing", random))
    if pictures < FEW:
        crops = "" if pictures == tally.photos else f", of which the {tally.photos:,} photos are crops"
        many = "picture" if pictures == 1 else "pictures"
        found.append(Weakness("few-samples", f"only {pictures} {many}{crops}"))
    if unlike:
        own, other = next(iter(unlike.values()))
        names_classes = f"{listed(tuple(unlike))} name{'s' if len(unlike) == 1 else ''} classes otherwise"
        what = f"{names_classes} ({own!r} for {other!r}): matched by their places alone"
        found.append(Weakness("labels", what, tuple(unlike)))
    return tuple(sorted(found, key=lambda weakness: not weakness.fails))


def _chance(tally: Tally, names: Sequence[str], classes: int) -> Weakness | None:
    """Models that are right about photos of a known class no more often than whoever guesses among their classes.

    Wrong feeding, labels in another order and photos of something else look so, whereas the models may agree all the same.
    """
    models = {name: tally.models[name] for name in names}
    guessing = tuple(
        name for name, told in models.items() if told.known_pictures >= ENOUGH and told.top1 * classes <= told.known
    )
    if not guessing:
        return None
    known, rights = int(tally.known_of.sum()), sorted({tally.models[name].top1 for name in guessing})
    often = f"{rights[0]:,}" if len(rights) == 1 else f"{rights[0]:,} to {rights[-1]:,}"
    seen = f"{'is' if len(guessing) == 1 else 'are'} right on {often} of {known:,} photos"
    what = (
        f"{listed(guessing)} {seen}, no more than a guess among {classes:,} classes: check the feeding and the labels"
    )
    return Weakness("chance", what, guessing)
