"""MIL's slices in Core AI's, which know no masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coreproof.conversion.mil_to_coreai.translation import Operand, Tensor, Translation, si, translates

_END = int(np.iinfo(np.int32).max)


def _known_places(
    lengths: Sequence[int | None],
    begin: Sequence[int],
    end: Sequence[int],
    steps: Sequence[int],
    masks: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[list[int], list[int]]:
    """From and to which place each axis is taken, counted from the front; as Python's own slices are."""
    starts, ends = [], []
    for i, (n, b, e, s) in enumerate(zip(lengths, begin, end, steps, strict=True)):
        first: int | None = None if masks[0][i] else b
        last: int | None = None if masks[1][i] else e
        if masks[2][i]:
            first, last = b, (b + 1 if b != -1 else None)
        if n is None:
            # of an axis that is not known, forwards: what is not said is the end, whichever that is
            starts.append(0 if first is None else first)
            ends.append(_END if last is None else last)
            continue
        start, stop, _ = slice(first, last, s).indices(n)
        starts.append(start)
        ends.append(stop)
    return starts, ends


def _masks(rank: int, *masks: Operand) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    begin, end, single = (np.zeros(rank, bool) if m is None else np.ravel(np.asarray(m, bool)) for m in masks)
    return begin & ~single, end, single


@translates("slice_by_index")
def slice_by_index(
    t: Translation,
    *,
    x: Operand,
    begin: Operand,
    end: Operand,
    stride: Operand = None,
    begin_mask: Operand = None,
    end_mask: Operand = None,
    squeeze_mask: Operand = None,
) -> Tensor:
    value = t.value(x)
    masks = _masks(len(value.shape), begin_mask, end_mask, squeeze_mask)
    starts, ends, steps = _places(t, value, begin, end, stride, masks)
    single = [int(a) for a in np.flatnonzero(masks[2])]
    if isinstance(starts, Tensor) or isinstance(ends, Tensor):
        declared = iter(t.outputs[0].shape or ())
        lengths = [1 if i in single else next(declared, None) for i in range(len(value.shape))]
        made = t.op("slice", value, starts, ends, si(steps), shape=lengths)
    else:
        made = t.slice(value, starts, ends, steps) if None not in value.shape else _free(t, value, starts, ends, steps)
    return t.shrink_dims(made, single)


def _free(t: Translation, x: Tensor, starts: list[int], ends: list[int], steps: list[int]) -> Tensor:
    """A slice of a tensor some of whose lengths are known at run time only."""
    lengths: list[int | None] = []
    for n, b, e, s in zip(x.shape, starts, ends, steps, strict=True):
        if n is None and s < 0:
            raise t.refuse("backwards it needs an axis of known length")
        known = n is not None or (b >= 0 and 0 <= e < _END and e - b == 1)
        lengths.append(max(0, -(-(e - b) // s)) if known else None)
    return t.op("slice", x, si(starts), si(ends), si(steps), shape=lengths)


def _places(
    t: Translation,
    x: Tensor,
    begin: Operand,
    end: Operand,
    stride: Operand,
    masks: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[list[int] | Tensor, list[int] | Tensor, list[int]]:
    rank = len(x.shape)
    steps = [1] * rank if stride is None else t.integers(stride, "stride")
    steps = [1 if masks[2][i] else s for i, s in enumerate(steps)]
    if not isinstance(begin, Tensor) and not isinstance(end, Tensor):
        starts, ends = _known_places(x.shape, t.integers(begin, "begin"), t.integers(end, "end"), steps, masks)
        return starts, ends, steps
    back = np.array(steps) < 0
    first = t.where(masks[0], si(np.where(back, _END, 0)), begin) if masks[0].any() else t.value(begin)
    last = t.value(end)
    if back.any():
        lengths = si(t.fixed(x.shape, "backwards it needs an input of known size"))
        # to Core AI -1 is the place before the first, to MIL the last one
        counted = t.binary("maximum", t.binary("add", last, lengths), -1)
        last = t.where(t.binary("and", back, t.binary("greater", 0, last, "i1")), counted, last)
    if masks[1].any():
        last = t.where(masks[1], si(np.where(back, -1, _END)), last)
    if masks[2].any():
        after = t.binary("add", begin, si([1] * rank))
        # behind the last element, counted from the end, is the end
        after = t.where(t.binary("equal", after, si([0] * rank), "i1"), si([_END] * rank), after)
        last = t.where(masks[2], after, last)
    return t.cast(first, "si32"), t.cast(last, "si32"), steps


@translates("slice_by_size")
def slice_by_size(t: Translation, *, x: Operand, begin: Operand, size: Operand) -> Tensor:
    value = t.value(x)
    rank = len(value.shape)
    if isinstance(begin, Tensor) or isinstance(size, Tensor):
        lengths = t.shape(value)
        dims = si(t.fixed(lengths, "places that are known at run time need an input of known size"))
        first = t.where(t.binary("greater", 0, begin, "i1"), t.binary("add", begin, dims), begin)
        rest = t.binary("equal", size, si([-1] * rank), "i1")
        last = t.where(rest, dims, t.binary("add", first, size))
        made = t.outputs[0].shape or (None,) * rank
        return t.op("slice", value, first, last, si([1] * rank), shape=made)
    starts, counts = t.integers(begin, "begin"), t.integers(size, "size")
    ends = [_END if c == -1 or (b < 0 and b + c == 0) else b + c for b, c in zip(starts, counts, strict=True)]
    masks = _masks(rank, None, None, None)
    first_known, last_known = _known_places(value.shape, starts, ends, [1] * rank, masks)
    if None in value.shape:
        return _free(t, value, first_known, last_known, [1] * rank)
    return t.slice(value, first_known, last_known)


@translates("slice_update", since="iOS18")
def slice_update(
    t: Translation,
    *,
    x: Operand,
    update: Operand,
    begin: Operand,
    end: Operand,
    stride: Operand = None,
    begin_mask: Operand = None,
    end_mask: Operand = None,
    squeeze_mask: Operand = None,
) -> Tensor:
    value = t.value(x)
    masks = _masks(len(value.shape), begin_mask, end_mask, squeeze_mask)
    starts, ends, steps = _places(t, value, begin, end, stride, masks)
    whole = t.expand_dims(t.value(update, value.element), [int(a) for a in np.flatnonzero(masks[2])])
    if not isinstance(starts, Tensor) and not isinstance(ends, Tensor) and None not in value.shape:
        wanted = [max(0, -(-(e - b) // s)) for b, e, s in zip(starts, ends, steps, strict=True)]
        whole = t.broadcast_to(whole, wanted)
        # backwards is forwards from the last place, with the update turned: Core AI takes an end of -1 for the last element here
        back = [i for i, s in enumerate(steps) if s < 0]
        whole = t.op("reverse", whole, si(back), shape=whole.shape) if back else whole
        for i in back:
            first = starts[i]
            starts[i], ends[i], steps[i] = first + (wanted[i] - 1) * steps[i], first + 1, -steps[i]
    return t.op("slice_update", value, starts, ends, si(steps), whole, shape=value.shape)


@translates("crop")
def crop(t: Translation, *, x: Operand, crop_height: Sequence[int], crop_width: Sequence[int]) -> Tensor:
    top, bottom = (int(n) for n in np.ravel(crop_height))
    left, right = (int(n) for n in np.ravel(crop_width))
    return t.pad(x, [*[(0, 0)] * (t.rank(x) - 2), (-top, -bottom), (-left, -right)])


@translates("reverse")
def reverse(t: Translation, *, x: Operand, axes: Operand = None) -> Tensor:
    value = t.value(x)
    over = t.axes(None if axes is None else t.constant(axes, "axes"), len(value.shape))
    return t.op("reverse", value, si(over), shape=value.shape) if over else value


@translates("reverse_sequence")
def reverse_sequence(t: Translation, *, x: Operand, lengths: Operand, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Place ``s`` of a row takes what stands at ``length - 1 - s``, as far as the row's length goes; behind it nothing moves."""
    value = t.value(x)
    whole, rank = t.fixed(value.shape), len(value.shape)
    time, batch = int(seq_axis) % rank, int(batch_axis) % rank
    steps = si(np.arange(whole[time])).reshape([-1 if a == time else 1 for a in range(rank)])
    ends = t.reshape(t.cast(t.value(lengths), "si32"), [whole[batch] if a == batch else 1 for a in range(rank)])
    turned = t.binary("sub", t.binary("sub", ends, si(1)), steps)
    places = t.where(t.binary("greater", ends, steps, "i1"), turned, steps)
    return t.op("gather_along_axis", value, t.broadcast_to(places, whole), si(time), shape=value.shape)
