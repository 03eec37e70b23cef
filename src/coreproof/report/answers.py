"""answers: what two models that name no class of a photo say of the same inputs: pictures, boxes on a photo, tables."""

from __future__ import annotations

import colorsys
import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from coreproof.comparison.answers import Answer
from coreproof.comparison.lineup import spoken
from coreproof.comparison.scored import told_classes
from coreproof.feeding.detections import CONFIDENCE, IOU, boxes_of_grids, suppressed
from coreproof.feeding.predict import is_distribution, softmax
from coreproof.handover.screen import Boxes, reading_of
from coreproof.report.curve import Document

_SIDE = 448
"""Longer side in pixels of a picture that is shown: sharp at the width of a phone."""
_ROWS = 8
_BOXES = 12
_SUREST = 300
"""Boxes that compete for a place in the picture."""
_LEAST = 8
"""A side of so few pixels shows nothing."""


def shown_answers(answers: Sequence[Answer], called: Mapping[str, str]) -> Document | None:
    """The answers as the page draws them; None where there are none. ``called``: what people call each model."""
    if not answers:
        return None
    a, b = answers[0].a, answers[0].b
    answers, boxes = _of_grids(answers) or (answers, _reading(answers))
    entries = [
        {
            "models": [spoken(name, called.get(name, "")) for name in (answer.a, answer.b)],
            **(_entry(answer) if boxes is None else _boxes(answer, boxes)),
        }
        for answer in answers
    ]
    return {"a": spoken(a, called.get(a, "")), "b": spoken(b, called.get(b, "")), "inputs": entries}


def _entry(answer: Answer) -> Document:
    picture = None if answer.picture is None else _encoded(answer.picture)
    drawn = {} if picture is None else {name: _drawn(name, *two, answer) for name, two in answer.outputs.items()}
    pictures = [view for view in drawn.values() if view is not None]
    tables = [_table(name, *two, answer) for name, two in answer.outputs.items() if drawn.get(name) is None]
    return {"sample": answer.sample, "picture": picture, "pictures": pictures, "boxes": None, "tables": tables}


# pictures


def _drawn(name: str, a: np.ndarray, b: np.ndarray, answer: Answer) -> Document | None:
    """Both outputs as pictures on one scale; None for what is none: few pixels, or several of them."""
    if a.shape != b.shape or a.ndim < 2 or min(a.shape[-2:]) <= _LEAST:
        return None
    planes = a.shape[-3] if a.ndim >= 3 else 1
    if a.size != np.prod(a.shape[-3:]) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    one, other = (value.reshape(planes, *a.shape[-2:]) for value in (a, b))
    if planes in (1, 3) and a.dtype.kind == "f":
        return _pixels(name, one.astype(np.float64), other.astype(np.float64))
    if planes == 1 or a.dtype.kind == "f":
        return _regions(name, one, other, answer.labels)
    return None


def _pixels(name: str, a: np.ndarray, b: np.ndarray) -> Document:
    low, high = _range(a)
    far = np.abs(a - b) / (high - low)
    said = (
        f"output {name!r}, {low:.4g} to {high:.4g} shown as black to white; of that range, pixels differ by {far.max():.2g} at "
        f"most, {np.sqrt((far**2).mean()):.2g} typically"
    )
    sources = [_encoded(_picture(255 * (each - low) / (high - low))) for each in (a, b)]
    return {"sources": sources, "said": said, "legend": []}


_OVERSHOOT = 0.01
"""The share of pixels at either end that may lie beyond a picture's range."""


def _range(a: np.ndarray) -> tuple[float, float]:
    """What is black and what white: a usual range of pixels where values fill a quarter of it at least, else their own ends.

    A sharp edge overshoots: single pixels beyond a range do not make it another.
    """
    least, most = (float(end) for end in np.quantile(a, (_OVERSHOOT, 1 - _OVERSHOOT)))
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        room = 0.1 * (high - low)
        if least >= low - room and most <= high + room and most - least > (high - low) / 4:
            return low, high
    least, most = float(a.min()), float(a.max())
    return (least, most) if most > least else (least, least + 1)


def _picture(pixels: np.ndarray) -> Image.Image:
    whole = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return Image.fromarray(whole[0] if len(whole) == 1 else whole.transpose(1, 2, 0))


def _regions(name: str, a: np.ndarray, b: np.ndarray, labels: Sequence[str]) -> Document:
    """Both as maps of classes: of several planes the strongest at each pixel, of one its whole numbers."""
    maps = [np.argmax(each, axis=0) if len(each) > 1 else each[0].astype(np.int64) for each in (a, b)]
    same = int((maps[0] == maps[1]).sum())
    counts = [dict(zip(*(part.tolist() for part in np.unique(m, return_counts=True)), strict=True)) for m in maps]
    most = sorted({*counts[0], *counts[1]}, key=lambda k: -max(count.get(k, 0) for count in counts))[:_BOXES]
    legend = [
        {
            "colour": "#{:02x}{:02x}{:02x}".format(*_colour(k)),
            "name": labels[k] if 0 <= k < len(labels) else f"class {k}",
            "shares": [count.get(k, 0) / maps[0].size for count in counts],
        }
        for k in most
    ]
    said = f"output {name!r}, the class of each pixel: the same at {same:,} of {maps[0].size:,}"
    return {"sources": [_encoded(_coloured(each), exact=True) for each in maps], "said": said, "legend": legend}


def _colour(index: int) -> tuple[int, int, int]:
    # the golden angle: neighbours in number are far apart in hue; the first class is mostly the background
    if index == 0:
        return 40, 42, 46
    red, green, blue = colorsys.hls_to_rgb(index * 0.618034 % 1, 0.55 + 0.12 * (index % 3 - 1), 0.6)
    return round(255 * red), round(255 * green), round(255 * blue)


def _coloured(classes: np.ndarray) -> Image.Image:
    there, places = np.unique(classes, return_inverse=True)
    palette = np.array([_colour(int(k)) for k in there], np.uint8)
    return Image.fromarray(palette[places.reshape(classes.shape)])


def _encoded(picture: Image.Image, *, exact: bool = False) -> str:
    """As a page holds it; ``exact``: no colour between two classes that are neighbours."""
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS)
    written = io.BytesIO()
    small.save(written, "PNG" if exact else "JPEG", **({} if exact else {"quality": 85}))
    return f"data:image/{'png' if exact else 'jpeg'};base64,{b64encode(written.getvalue()).decode()}"


# boxes


def _reading(answers: Sequence[Answer]) -> Boxes | None:
    """How the boxes of a detector that saw pictures are written; None for other models."""
    if any(answer.picture is None for answer in answers):
        return None
    outputs = [{name: one for name, (one, _) in answer.outputs.items()} for answer in answers]
    finite = all(np.isfinite(value).all() for each in outputs for value in each.values() if value.dtype.kind == "f")
    return reading_of(outputs) if finite else None


def _of_grids(answers: Sequence[Answer]) -> tuple[Sequence[Answer], Boxes] | None:
    """The answers with their raw output as boxes and scores, where each has that of a YOLO network; None for other models."""
    reading = Boxes("boxes", "scores", centred=True, pixels=True, background=False)
    split = []
    for answer in answers:
        if answer.picture is None:
            return None
        size = answer.picture.size
        sides = [[boxes_of_grids(one[at], size) for one in answer.outputs.values()] for at in (0, 1)]
        first, second = ([each for each in side if each is not None] for side in sides)
        if not len(first) == len(second) == 1:
            return None
        (boxes, scores), (others, other_scores) = first[0], second[0]
        outputs = {reading.coordinates: (boxes, others), reading.scores: (scores, other_scores)}
        split.append(replace(answer, outputs=outputs))
    return split, reading


def _boxes(answer: Answer, reading: Boxes) -> Document:
    assert answer.picture is not None
    sides = [
        _surest(answer.outputs[reading.coordinates][at], answer.outputs[reading.scores][at], reading, answer)
        for at in (0, 1)
    ]
    few = any(box["share"] < CONFIDENCE for side in sides for box in side)
    said = f"the surest boxes; none is surer than {CONFIDENCE:.0%}" if few else f"boxes surer than {CONFIDENCE:.0%}"
    boxes = {"sides": sides, "said": f"{said}; of those of one class that overlap, the surest"}
    return {"sample": answer.sample, "picture": _encoded(answer.picture), "pictures": [], "boxes": boxes, "tables": []}


def _surest(coordinates: np.ndarray, scores: np.ndarray, reading: Boxes, answer: Answer) -> list[Document]:
    """The boxes of one model that are drawn, in per cent of the picture's sides."""
    assert answer.picture is not None
    rows = coordinates.reshape(-1, 4).astype(np.float64)
    first = 1 if reading.background else 0
    likely = scores.reshape(len(rows), -1)[:, first:].astype(np.float64)
    if not (np.isfinite(rows).all() and np.isfinite(likely).all()):
        return []
    order = np.argsort(-likely.max(axis=1), kind="stable")[:_SUREST]
    rows, likely = rows[order], likely[order]
    if not reading.centred:
        rows = np.concatenate([(rows[:, :2] + rows[:, 2:]) / 2, rows[:, 2:] - rows[:, :2]], axis=1)
    if reading.pixels:
        rows = rows / np.array(answer.picture.size * 2, np.float64)
    least = CONFIDENCE if likely.max(initial=0.0) >= CONFIDENCE else 0.0
    kept = suppressed(likely, rows, iou=IOU, least=least, per_class=True)[: _BOXES if least else 3]
    drawn: list[Document] = []
    for row in kept:
        x, y, width, height = (100 * float(length) for length in rows[row])
        index = int(likely[row].argmax()) + first
        name = answer.labels[index] if index < len(answer.labels) else f"class {index}"
        place = {"left": x - width / 2, "top": y - height / 2, "width": width, "height": height}
        drawn.append({"name": name, "share": float(likely[row].max()), **place})
    return drawn


# tables


def _table(name: str, a: np.ndarray, b: np.ndarray, answer: Answer) -> Document:
    """The places where the two differ most: classes where the output scores them, else its numbers."""
    if a.shape != b.shape:
        return {
            "output": name,
            "said": f"shape {list(a.shape)} beside {list(b.shape)}",
            "head": (),
            "rows": [],
            "left": 0,
        }
    if told_classes(name, a, len(answer.labels)):
        return _class_table(name, a, b, answer)
    one, other = (value.reshape(-1) for value in (a, b))
    numbers = one.dtype.kind in "fiub" and other.dtype.kind in "fiub"
    far = _far(one.astype(np.float64), other.astype(np.float64)) if numbers else (one != other).astype(np.float64)
    order = np.argsort(-np.nan_to_num(far, nan=np.inf), kind="stable")[:_ROWS]
    # a phone has no room for digits that say nothing; whole numbers have none of these
    differ = "{:.3g}".format if "f" in (one.dtype.kind, other.dtype.kind) else _said
    rows = [
        {"place": _place(int(k), a.shape), "cells": [_said(one[k]), _said(other[k]), differ(far[k]) if numbers else ""]}
        for k in order
    ]
    head = ("place", "", "", "difference")
    return {"output": name, "said": "", "head": head, "rows": rows, "left": one.size - len(rows)}


def _far(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far apart two numbers are; the same infinity, and NaN twice, are not."""
    with np.errstate(invalid="ignore"):
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        return np.where(same, 0.0, np.abs(one - other))


def _class_table(name: str, a: np.ndarray, b: np.ndarray, answer: Answer) -> Document:
    one, other = (value.reshape(-1, value.shape[-1]).astype(np.float64) for value in (a, b))
    best, others = one.argmax(axis=1), other.argmax(axis=1)
    apart = best != others
    # where another class is named, first; the rest in its order, as a text is read
    order = np.argsort(~apart, kind="stable")[:_ROWS]
    tokens = _tokens(answer, len(one))
    rows = [
        {
            "place": _place(int(k), a.shape[:-1]) + ("" if tokens is None else f": {tokens[k]}"),
            "cells": [
                _class(one[k], answer.labels),
                _class(other[k], answer.labels),
                "another" if apart[k] else "same",
            ],
        }
        for k in order
    ]
    said = f"the same class at {int((~apart).sum()):,} of {len(one):,} places"
    return {
        "output": name,
        "said": said,
        "head": ("place" if tokens is None else "place: fed", "", "", "class"),
        "rows": rows,
        "left": len(one) - len(rows),
    }


def _tokens(answer: Answer, places: int) -> list[object] | None:
    """The token at each place, where one input of whole numbers has as many."""
    fed = [np.asarray(value) for value in answer.fed.values()]
    # the first: a mask and the kinds of segments follow the ids
    ids = next((each for each in fed if each.dtype.kind in "iu" and each.size == places and places > 1), None)
    return None if ids is None else ids.reshape(-1).tolist()


def _class(scores: np.ndarray, labels: Sequence[str]) -> str:
    if not np.isfinite(scores).all():
        return "not finite"
    shares = scores if is_distribution(scores) else softmax(scores)
    best = int(shares.argmax())
    return f"{labels[best] if best < len(labels) else best} ({shares[best]:.1%})"


def _place(index: int, shape: Sequence[int]) -> str:
    axes = [int(k) for k in np.unravel_index(index, tuple(shape))] if shape else []
    # the one sample of a batch has no number worth saying
    return ", ".join(map(str, axes[1:] if len(axes) > 1 and shape[0] == 1 else axes)) or "0"


def _said(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
