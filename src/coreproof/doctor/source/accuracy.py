"""Photos for the doctor: which there are, what they show, and how many of them a model gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coreproof.errors import CoreproofError
from coreproof.feeding.photos import list_photos
from coreproof.feeding.predict import scores
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.runtime.open import session

MOST_PHOTOS = 200
"""Photos that the doctor looks at, spread evenly over the folder: enough to tell a fault of five points from chance."""


def find_photos(folder: Path | None, truth: Path | None = None) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """Up to MOST_PHOTOS pictures of a folder, and the right class index of each (empty where no truth tells it)."""
    if folder is None:
        return (), ()
    photos = list_photos(folder, truth)
    step = max(1, -(-len(photos.files) // MOST_PHOTOS))
    files = photos.files[::step]
    told = [photos.truth.get(photos.name(file)) for file in files]
    known = [(file, t.index) for file, t in zip(files, told, strict=True) if t is not None and t.index >= 0]
    if not known:
        return files, ()
    return tuple(f for f, _ in known), tuple(c for _, c in known)


def misclassified(model: Model, photos: Sequence[Path], classes: Sequence[int], feeding: Feeding | None) -> int | None:
    """On how many photos the best score is not at the right class; None where the model is no classifier of pictures."""
    try:
        with session(model) as running:
            seen = [scores(running, model, path, feeding) for path in photos]
    except CoreproofError:
        return None
    # the classes are of another list than the model's
    if any(s.size <= max(classes) for s in seen):
        return None
    return sum(int(np.argmax(s)) != c for s, c in zip(seen, classes, strict=True))
