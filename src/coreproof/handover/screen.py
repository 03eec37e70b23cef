"""What screen of the app fits a model: classes, a picture, boxes, or plain numbers; and how a detector's boxes are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from coreproof.feeding.predict import is_distribution
from coreproof.model.features import Signature

Kind = Literal["classifier", "image", "detector", "array"]
Array = np.ndarray

_LIKELIEST = 50
"""Boxes of each sample that tell how coordinates are written; those that nothing stands in may hold anything."""


@dataclass(frozen=True)
class Boxes:
    """How a detector's outputs are read, as Boxes.swift does it.

    ``centred``: a row is centre and size, not two corners. ``pixels``: of the model's own picture, not shares of it.
    ``background``: the first class is nothing.
    """

    coordinates: str
    scores: str
    centred: bool
    pixels: bool
    background: bool


def screen_for(signature: Signature, outputs: Mapping[str, object], labelled: bool) -> Kind:
    """The screen for a model that gave these outputs; ``labelled``: the user named its classes."""
    if signature.labels is not None or labelled:
        return "classifier"
    if any(isinstance(value, Image.Image) for value in outputs.values()):
        return "image"
    arrays = [value for value in outputs.values() if isinstance(value, np.ndarray)]
    if pairs_of_boxes(outputs) is not None:
        return "detector"
    if len(arrays) != 1:
        return "array"
    only = arrays[0]
    if only.size > 1 and max(only.shape, default=0) == only.size and only.dtype.kind == "f":
        return "classifier" if is_distribution(np.asarray(only, np.float64)) else "array"
    planes = only.shape[-3] if only.ndim >= 3 else 1
    # one picture of grey or colour; other numbers of planes are features, and a side of 8 shows nothing
    drawn = only.ndim >= 2 and min(only.shape[-2:]) > 8 and planes in (1, 3) and only.size == np.prod(only.shape[-3:])
    return "image" if drawn else "array"


def pairs_of_boxes(outputs: Mapping[str, object]) -> tuple[str, str] | None:
    """The output of rows of four numbers, and the one that scores each row from 0 to 1; None where there is no such pair."""
    arrays = {name: value for name, value in outputs.items() if isinstance(value, np.ndarray) and value.ndim >= 2}
    for name, rows in arrays.items():
        count = rows.size // 4
        # one row of four numbers may be anything
        if rows.shape[-1] != 4 or count < 2:
            continue
        for other, scores in arrays.items():
            # scores of four classes are told from boxes of pixels by their size
            rated = scores.shape[-1] != 4 or rows.max() > 1
            scored = other != name and rated and scores.size % count == 0 and count in scores.shape
            if scored and scores.min() >= 0 and scores.max() <= 1:
                return name, other
    return None


def reading_of(samples: Sequence[Mapping[str, object]]) -> Boxes | None:
    """How the boxes of these outputs are written, told by the likeliest of them; None for what is no detector."""
    names = pairs_of_boxes(samples[0]) if samples else None
    if names is None:
        return None
    coordinates, scores = names
    rows, sums = [], []
    for outputs in samples:
        boxes = np.asarray(outputs[coordinates], np.float64).reshape(-1, 4)
        likely = np.asarray(outputs[scores], np.float64).reshape(len(boxes), -1)
        sums.append(likely.sum(axis=1))
        # shares that add up to one go over all classes, nothing among them; detectors without it score each class by itself
        background = likely.shape[1] > 1 and bool(np.allclose(likely.sum(axis=1), 1, atol=0.01))
        best = likely[:, 1 if background else 0 :].max(axis=1)
        rows.append(boxes[np.argsort(-best, kind="stable")[:_LIKELIEST]])
    told = np.concatenate(rows)
    # two corners are in order in every row, a centre and a size only by chance
    corners = bool(np.mean((told[:, 2] > told[:, 0]) & (told[:, 3] > told[:, 1])) > 0.9)
    classes = np.asarray(samples[0][scores]).size // (np.asarray(samples[0][coordinates]).size // 4)
    return Boxes(
        coordinates,
        scores,
        centred=not corners,
        # shares of a picture reach little beyond 1, pixels far beyond
        pixels=bool(np.median(np.abs(told).max(axis=1)) > 2),
        background=classes > 1 and bool(np.allclose(np.concatenate(sums), 1, atol=0.01)),
    )
