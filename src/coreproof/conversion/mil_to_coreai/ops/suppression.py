"""MIL's non_maximum_suppression in Core AI, whose dialect has none: a loop that takes the best box that is left, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coreproof.conversion.mil_to_coreai.loops import repeated
from coreproof.conversion.mil_to_coreai.ops.gathering import gather
from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates


@translates("non_maximum_suppression", in_float32=True)
def non_maximum_suppression(
    t: Translation,
    *,
    boxes: Operand,
    scores: Operand,
    iou_threshold: Operand,
    score_threshold: Operand,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> list[Tensor]:
    """Boxes [n, B, 4] and scores [n, B, K]; the chosen ones, their numbers, and how many there are."""
    limit, least = (float(t.constant(v, "a threshold")) for v in (iou_threshold, score_threshold))
    return _survivors(t, t.value(boxes), t.value(scores), limit, least, int(max_boxes), per_class_suppression)


@translates("non_maximum_suppression", since="iOS17", in_float32=True)
def non_maximum_suppression_17(
    t: Translation,
    *,
    boxes: Operand,
    scores: Operand,
    iou_threshold: Operand,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> list[Tensor]:
    """The boxes along the last axis, [n, 4, B] and [n, K, B], no threshold for the scores, and no counts."""
    rows, marks = (t.transpose(v, [0, 2, 1]) for v in (boxes, scores))
    limit = float(t.constant(iou_threshold, "iou_threshold"))
    kept, answers, numbers, _ = _survivors(t, rows, marks, limit, None, int(max_boxes), per_class_suppression)
    return [t.transpose(kept, [0, 2, 1]), t.transpose(answers, [0, 2, 1]), numbers]


def _survivors(
    t: Translation, boxes: Tensor, scores: Tensor, limit: float, least: float | None, most: int, per_class: bool
) -> list[Tensor]:
    """Boxes [n, most, 4], scores [n, most, K], numbers [n, most] with -1 behind the last, counts [n]; by falling score."""
    pictures, count, _ = t.fixed(scores.shape, "it needs to know how many pictures and boxes there are")
    best = t.reduce("reduce_max", scores, [2], keep=False)
    kind = _first_largest(t, scores, 2) if per_class else None
    seen = _Boxes(best, None if kind is None else t.shrink_dims(kind, [2]), *_edges(t, boxes))
    numbers = np.arange(count, dtype=np.int32)[None]
    nowhere = t.broadcast_to(np.full((1, 1), -1, np.int32), [pictures, most])

    def goes_on(block: Translation, held: Sequence[Tensor]) -> Tensor:
        turns, alive, _ = held
        left = block.reshape(block.op("any", alive, si([0, 1]), shape=[1, 1], element="i1"), [1])
        return block.binary("and", left, block.binary("greater", si([most]), turns, "i1"))

    def turn(block: Translation, held: Sequence[Tensor]) -> list[Tensor]:
        turns, alive, chosen = held
        one = _first_largest(block, block.where(alive, seen.score, block.like(-np.inf, seen.score)), 1)
        is_it = block.binary("equal", numbers, one, "i1")
        goes = block.binary("or", is_it, _too_near(block, seen, is_it, limit))
        places = np.arange(most, dtype=np.int32)[None]
        here = block.binary("and", block.binary("equal", places, turns, "i1"), _any(block, alive))
        return [
            block.binary("add", turns, si([1])),
            block.binary("and", alive, block.negated(goes)),
            block.where(here, one, chosen),
        ]

    alive = _candidates(t, best, numbers, least)
    _, _, chosen = repeated(t, [t.value(si([0])), alive, nowhere], goes_on, turn)
    real = t.binary("greater", chosen, si(-1), "i1")
    places, wide = t.where(real, chosen, si(0)), t.expand_dims(real, [2])
    kept, answers = (
        t.where(wide, gather(t, x=v, indices=places, axis=1, batch_dims=1), t.like(0, v)) for v in (boxes, scores)
    )
    return [kept, answers, chosen, t.reduce("reduce_sum", t.cast(real, "si32"), [1], keep=False)]


def _candidates(t: Translation, best: Tensor, numbers: np.ndarray, least: float | None) -> Tensor:
    """Which boxes there are to choose from: those that reach the threshold, and the best one where none does."""
    if least is None:
        return t.broadcast_to(np.ones((1, 1), np.bool_), t.fixed(best.shape))
    above = t.negated(t.binary("greater", t.like(least, best), best, "i1"))
    top = t.binary("equal", numbers, _first_largest(t, best, 1), "i1")
    return t.binary("or", above, t.binary("and", top, t.negated(_any(t, above))))


class _Boxes(NamedTuple):
    """What is known of each box, [n, B]: how good it is, of which class where that matters, its edges, and how large it is."""

    score: Tensor
    kind: Tensor | None
    left: Tensor
    right: Tensor
    top: Tensor
    bottom: Tensor
    area: Tensor


def _edges(t: Translation, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The edges and areas of boxes that are given by centre and size."""
    pictures, count, _ = t.fixed(boxes.shape)
    x, y, width, height = (t.shrink_dims(t.slice(boxes, [0, 0, i], [pictures, count, i + 1]), [2]) for i in range(4))
    (left, right), (top, bottom) = (_ends(t, centre, size) for centre, size in ((x, width), (y, height)))
    return left, right, top, bottom, t.binary("mul", t.binary("sub", right, left), t.binary("sub", bottom, top))


def _ends(t: Translation, centre: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    half = t.binary("mul", size, 0.5)
    return t.binary("sub", centre, half), t.binary("add", centre, half)


def _too_near(t: Translation, seen: _Boxes, is_it: Tensor, limit: float) -> Tensor:
    """Which boxes overlap the marked one by more than the limit, and are of its class where that matters."""
    left, right, top, bottom, area = (
        _of_one(t, v, is_it) for v in (seen.left, seen.right, seen.top, seen.bottom, seen.area)
    )
    width = t.binary("sub", t.binary("minimum", seen.right, right), t.binary("maximum", seen.left, left))
    height = t.binary("sub", t.binary("minimum", seen.bottom, bottom), t.binary("maximum", seen.top, top))
    shared = t.binary("mul", width, height)
    union = t.binary("sub", t.binary("add", seen.area, area), shared)
    # no box without an area overlaps anything
    near = t.binary("greater", width, t.like(0, width), "i1")
    for size in (height, shared, seen.area, area, union):
        near = t.binary("and", near, t.binary("greater", size, t.like(0, size), "i1"))
    share = t.binary("divide", shared, t.where(near, union, t.like(1, union)))
    near = t.binary("and", near, t.binary("greater", share, t.like(limit, share), "i1"))
    if seen.kind is None:
        return near
    return t.binary("and", near, t.binary("equal", seen.kind, _of_one(t, seen.kind, is_it), "i1"))


def _of_one(t: Translation, x: Tensor, is_it: Tensor) -> Tensor:
    """Of [n, B] what stands at the marked place of each row, [n, 1]."""
    return t.reduce("reduce_sum", t.where(is_it, x, t.like(0, x)), [1])


def _first_largest(t: Translation, x: Tensor, axis: int) -> Tensor:
    """The place of the largest along an axis, which stays with length 1."""
    lengths = [1 if i == axis else n for i, n in enumerate(x.shape)]
    return t.cast(t.op("argmax", x, si(axis), shape=lengths, element="ui32"), "si32")


def _any(t: Translation, x: Tensor) -> Tensor:
    """Of truth values [n, B] whether any is true of each row, [n, 1]."""
    return t.op("any", x, si([1]), shape=[x.shape[0], 1], element="i1")
