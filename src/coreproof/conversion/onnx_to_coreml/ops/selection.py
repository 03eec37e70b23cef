"""Operators that choose among what they are given: Unique, NonMaxSuppression and TfIdfVectorizer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from coreproof.conversion.onnx_to_coreml.lowering import Context, Result, lowering
from coreproof.conversion.onnx_to_coreml.mil import Operand, several
from coreproof.conversion.onnx_to_coreml.ops.dtypes import axis_of, cast, float_name
from coreproof.conversion.onnx_to_coreml.ops.indexing import part

_MOST = 4096
"""Elements that Unique compares, each with each."""


@lowering("Unique", since=11)
def unique(ctx: Context, x: Operand, *, axis: int | None = None, sorted: int = 1) -> list[Operand]:
    """Every slice is compared with every other: the first of its kind is kept, in order of appearance or of value."""
    mb = ctx.mb
    boolean = ctx.is_bool(x)
    data = cast(ctx, x, "int32") if boolean else x
    shape = ctx.shape(data)
    along = 0 if axis is None else axis_of(axis, len(shape))
    order = [along, *(i for i in range(len(shape)) if i != along)]
    moved = mb.reshape(x=data, shape=[-1]) if axis is None else mb.transpose(x=data, perm=order)
    count = int(np.prod(shape)) if axis is None else shape[along]
    if count > _MOST:
        raise ctx.refuse(f"{count} elements to be compared with each other", f"at most {_MOST}")
    rows = mb.reshape(x=moved, shape=[count, -1])
    first, second = mb.expand_dims(x=rows, axes=[1]), mb.expand_dims(x=rows, axes=[0])
    same = mb.reduce_min(x=mb.cast(x=mb.equal(x=first, y=second), dtype="int32"), axes=[2], keep_dims=False)
    same = mb.maximum(x=same, y=np.eye(count, dtype=np.int32))  # NaN equals nothing, and is there all the same
    # the first that equals each; the largest of a row of zeros and ones stands at its first one
    origin = mb.reduce_argmax(x=cast(ctx, same, float_name(ctx)), axis=1, keep_dims=False)
    numbers = np.arange(count, dtype=np.int32)
    kept = mb.squeeze(x=mb.non_zero(x=mb.cast(x=mb.equal(x=origin, y=numbers), dtype="int32")), axes=[1])
    if sorted:
        smaller = _smaller(ctx, first, second)
        chosen = mb.gather(x=mb.gather(x=smaller, indices=kept, axis=0), indices=kept, axis=1)
        # as many are smaller than each as its place says; no two of them are equal
        place = mb.reduce_sum(x=chosen, axes=[0], keep_dims=False)
        kept = mb.gather(x=kept, indices=mb.argsort(x=place, axis=0, ascending=True), axis=0)
    matches = mb.gather(x=same, indices=kept, axis=0)  # [kept, all]
    inverse = mb.reduce_argmax(x=cast(ctx, matches, float_name(ctx)), axis=0, keep_dims=False)
    counts = mb.reduce_sum(x=matches, axes=[1], keep_dims=False)
    values = mb.gather(x=moved, indices=kept, axis=0)
    if axis is not None:
        values = mb.transpose(x=values, perm=[order.index(i) for i in range(len(shape))])
    return [cast(ctx, values, "bool") if boolean else values, kept, inverse, counts]


def _smaller(ctx: Context, first: Operand, second: Operand) -> Operand:
    """[n, n] in int32: whether the slice of the row comes before that of the column, by the first element that differs."""
    mb = ctx.mb
    less = mb.cast(x=mb.less(x=first, y=second), dtype="int32")
    more = mb.cast(x=mb.greater(x=first, y=second), dtype="int32")
    differs = mb.add(x=less, y=more)
    if ctx.shape(first)[-1] == 1:
        return mb.squeeze(x=less, axes=[2])
    at = mb.reduce_argmax(x=cast(ctx, differs, float_name(ctx)), axis=2, keep_dims=True)
    return mb.squeeze(x=mb.gather_along_axis(x=less, indices=at, axis=2), axes=[2])


@lowering("NonMaxSuppression", since=10)
def non_max_suppression(
    ctx: Context,
    boxes: Operand,
    scores: Operand,
    most: Operand | None = None,
    overlap: Operand | None = None,
    least: Operand | None = None,
    *,
    center_point_box: int = 0,
) -> Result:
    """[selected, 3]: batch, class and box. Each class of each picture is one batch of Core ML's operation."""
    mb = ctx.mb
    batch, classes, count = ctx.shape(scores)
    told = most is not None and not isinstance(most, np.ndarray) and most.val is None
    limit = count if told else 0 if most is None else int(ctx.constant(most, "max_output_boxes_per_class").item())
    if limit <= 0:
        return np.zeros((0, 3), np.int32)
    corners = boxes if center_point_box else _centred(ctx, boxes)
    each = mb.reshape(
        x=mb.tile(x=mb.expand_dims(x=corners, axes=[1]), reps=[1, classes, 1, 1]), shape=[batch * classes, count, 4]
    )
    rows = mb.reshape(x=scores, shape=[batch * classes, count, 1])
    lowest = float(np.finfo(ctx.dtype).min)
    if least is not None:
        # a score at the threshold is not chosen either
        threshold: Operand | np.floating = (
            mb.reshape(x=least, shape=[1, 1, 1])
            if not isinstance(least, np.ndarray)
            else ctx.scalar(float(least.item()))
        )
        rows = mb.select(cond=mb.greater(x=rows, y=threshold), a=rows, b=ctx.scalar(lowest))
    suppression = {
        "iou_threshold": ctx.scalar(0.0 if overlap is None else float(ctx.constant(overlap, "iou_threshold").item())),
        "max_boxes": min(limit, count),
        "per_class_suppression": False,
    }
    if ctx.target < 17:
        _, marks, numbers, _ = several(
            mb.non_maximum_suppression(boxes=each, scores=rows, score_threshold=ctx.scalar(lowest), **suppression)
        )
        marks = mb.squeeze(x=marks, axes=[2])
    else:
        turned = [mb.transpose(x=v, perm=[0, 2, 1]) for v in (each, rows)]
        _, marks, numbers = several(mb.non_maximum_suppression(boxes=turned[0], scores=turned[1], **suppression))
        marks = mb.squeeze(x=marks, axes=[1])
    # [batch * classes, most], with -1 behind the last; what the threshold ruled out is chosen last of all
    real = mb.logical_and(x=mb.greater_equal(x=numbers, y=np.int32(0)), y=mb.greater(x=marks, y=ctx.scalar(lowest)))
    if told and most is not None:  # they stand in the order in which they were chosen
        place_in_class = np.broadcast_to(np.arange(limit, dtype=np.int32), (batch * classes, limit))
        within = mb.less(x=np.ascontiguousarray(place_in_class), y=mb.reshape(x=most, shape=[1, 1]))
        real = mb.logical_and(x=real, y=within)
    found = mb.non_zero(x=mb.cast(x=real, dtype="int32"))
    place = part(ctx, found, 1, 0, 1)
    own = mb.expand_dims(x=mb.gather_nd(x=numbers, indices=found), axes=[1])
    picture = mb.floor_div(x=place, y=np.int32(classes))
    kind = mb.mod(x=place, y=np.int32(classes))
    return mb.concat(values=[picture, kind, own], axis=1)


def _centred(ctx: Context, boxes: Operand) -> Operand:
    """Two opposite corners, whichever, as centre and size. How much boxes overlap does not depend on which axis is first."""
    mb = ctx.mb
    first, second = part(ctx, boxes, -1, 0, 2), part(ctx, boxes, -1, 2, 4)
    centre = mb.mul(x=mb.add(x=first, y=second), y=ctx.scalar(0.5))
    return mb.concat(values=[centre, mb.abs(x=mb.sub(x=second, y=first))], axis=2)


@lowering("TfIdfVectorizer", since=9)
def tf_idf(
    ctx: Context,
    x: Operand,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] = (),
    pool_strings: Sequence[str] = (),
    weights: Sequence[float] = (),
) -> Result:
    """How often each n-gram of the pool occurs, with up to so many tokens left out between its own."""
    if pool_strings or not pool_int64s:
        raise ctx.refuse("a pool of strings", "a pool of integers, which is what Core ML can hold")
    mb = ctx.mb
    rows = mb.expand_dims(x=x, axes=[0]) if ctx.rank(x) == 1 else x
    batch, length = ctx.shape(rows)
    size = max(ngram_indexes) + 1
    bounds = [*ngram_counts, len(pool_int64s)]
    scale = np.ones(size)
    for place, weight in zip(ngram_indexes, weights, strict=False):
        scale[place] = weight
    total: Operand = np.zeros((batch, size), np.int32)
    seen = 0
    for grams, (begin, end) in enumerate(pairwise(bounds), start=1):
        pool = np.asarray(pool_int64s[begin:end], np.int64).reshape(-1, grams)
        columns = ngram_indexes[seen : seen + len(pool)]
        seen += len(pool)
        if not len(pool) or not min_gram_length <= grams <= max_gram_length:
            continue
        into = np.zeros((len(pool), size), np.int32)
        into[np.arange(len(pool)), list(columns)] = 1
        for skip in range(max_skip_count + 1 if grams > 1 else 1):
            reach = (grams - 1) * (skip + 1)
            if reach >= length:
                continue
            hit: Operand | None = None
            for place in range(grams):
                token = part(ctx, rows, 1, place * (skip + 1), length - reach + place * (skip + 1))
                equal = mb.equal(x=mb.expand_dims(x=token, axes=[2]), y=pool[None, None, :, place].astype(np.int32))
                hit = equal if hit is None else mb.logical_and(x=hit, y=equal)
            assert hit is not None
            found = mb.reduce_sum(x=mb.cast(x=hit, dtype="int32"), axes=[1], keep_dims=False)
            total = mb.add(x=total, y=mb.matmul(x=found, y=into))
    counts = total if mode != "IDF" else mb.minimum(x=total, y=np.int32(1))
    values = cast(ctx, counts, float_name(ctx))
    if mode != "TF" and weights:
        values = mb.mul(x=values, y=scale.astype(ctx.dtype))
    return mb.squeeze(x=values, axes=[0]) if ctx.rank(x) == 1 else values
