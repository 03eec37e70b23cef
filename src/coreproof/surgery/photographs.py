"""Photos for the doctor: which there are, what they show, and how many of them a model gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coreproof.errors import InputError
from coreproof.model.base import Model
from coreproof.model.feeding import Feeding
from coreproof.run.images import fit, open_picture, pixels, to_tensor
from coreproof.run.photos import list_photos
from coreproof.run.session import Session, session

MOST_PHOTOS = 64
"""Photos that the doctor looks at, spread evenly over the folder: enough to tell a fault of five points from chance."""


def find_photos(folder: Path | None) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """Up to MOST_PHOTOS pictures of a folder, and the right class index of each (empty where no labels.csv tells)."""
    if folder is None:
        return (), ()
    photos = list_photos(folder)
    step = max(1, -(-len(photos.files) // MOST_PHOTOS))
    files = photos.files[::step]
    truth = [photos.truth.get(photos.name(file)) for file in files]
    known = [(file, t.index) for file, t in zip(files, truth, strict=True) if t is not None]
    if not known:
        return files, ()
    return tuple(f for f, _ in known), tuple(c for _, c in known)


def misclassified(model: Model, photos: Sequence[Path], classes: Sequence[int], feeding: Feeding | None) -> int | None:
    """On how many photos the best score is not at the right class; None where the model takes no single picture."""
    with session(model) as running:
        seen = [scores_of(running, fed_with(model, path, feeding)) for path in photos]
    if any(s is None or s.size <= max(classes) for s in seen):
        return None
    return sum(int(np.argmax(s)) != c for s, c in zip(seen, classes, strict=True) if s is not None)


def scores_of(running: Session, fed: Mapping[str, npt.NDArray[np.float32]] | None) -> npt.NDArray[np.float64] | None:
    """The scores for one photo, flat; None where there is nothing to feed or the model has no scores."""
    if fed is None:
        return None
    signature = running.signature
    taps = [signature.scores] if signature.scores is not None and signature.scores in running.tappable else []
    outcome = running.run(fed, taps)
    if signature.probabilities is not None and signature.probabilities in outcome:
        return np.asarray(list(outcome[signature.probabilities].values()), np.float64)
    arrays = [np.asarray(v) for v in outcome.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    return arrays[0].astype(np.float64).reshape(-1) if arrays else None


def fed_with(model: Model, path: Path, feeding: Feeding | None) -> dict[str, npt.NDArray[np.float32]] | None:
    """What a model with one picture input is fed for a photo: its pixels, or numbers as the feeding says."""
    inputs = model.signature.inputs
    if len(inputs) != 1:
        return None
    image = inputs[0].image
    if image is not None:
        geometry = replace(feeding or Feeding(), size=(image.width, image.height))
        return {inputs[0].name: pixels(fit(open_picture(path), geometry), image.colour)}
    if feeding is None:
        return None
    value = to_tensor(open_picture(path), feeding)
    shape = inputs[0].shape
    if shape is not None and len(shape) != value.ndim:
        fixed = [d if isinstance(d, int) and d > 0 else 1 for d in shape]
        if int(np.prod(fixed)) != value.size:
            raise InputError(
                "the feeding's size is not the model's", where=model.name, expected=str(inputs[0]), found=value.shape
            )
        value = value.reshape(fixed)
    return {inputs[0].name: value}
