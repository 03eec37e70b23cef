"""What two models say of a few inputs, as they said it: a page shows it as pictures, boxes or tables, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image

from coreproof.errors import IntegerRangeError
from coreproof.feeding.drawn import Sample
from coreproof.model.base import Model
from coreproof.pairing.taps import as_array, match_outputs, taps_of
from coreproof.runtime.open import session

MOST = 3
"""Inputs whose answers are kept whole."""


@dataclass(frozen=True)
class Answer:
    """One input, and what two models, ``a`` and ``b``, answered: each output of the first, with the other's beside it.

    ``picture`` is what the models saw, where they were fed one; ``labels`` are what the first calls its classes.
    """

    sample: str
    a: str
    b: str
    fed: Mapping[str, object]
    outputs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    labels: tuple[str, ...] = ()
    picture: Image.Image | None = None


def answers_of(
    models: Mapping[str, Model], samples: Iterable[tuple[str, Sample, Sample, Image.Image | None]]
) -> tuple[Answer, ...]:
    """What the two ``models`` answer to each sample: its name, what each of them is fed, and the picture that this is of.

    A sample whose whole numbers do not fit one of them has no answers to show.
    Raises what opening and running the models raises.
    """
    (a, first), (b, second) = models.items()
    labels = tuple(map(str, first.signature.labels or ()))
    made = []
    with session(first) as reference, session(second) as candidate:
        pairs = match_outputs(reference, candidate)
        sides = (reference, [pair.reference for pair in pairs]), (candidate, [pair.candidate for pair in pairs])
        states = [each.state() if each.signature.states else None for each, _ in sides]
        for name, *fed, picture in samples:
            told = []
            for (running, wanted), sample, state in zip(sides, fed, states, strict=True):
                with suppress(IntegerRangeError):
                    found = running.run(sample, taps_of(running, wanted), state)
                    told.append([np.asarray(as_array(found[output])) for output in wanted])
            if len(told) < len(sides):
                continue
            outputs = {pair.reference: (one, other) for pair, one, other in zip(pairs, *told, strict=True)}
            made.append(Answer(name, a, b, fed[0], outputs, labels, picture))
    return tuple(made)
