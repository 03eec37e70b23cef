"""Windows along one axis, against counting them one by one."""

from __future__ import annotations

import itertools

from coreproof.conversion.windows import reach_beyond, same_pads


def test_same_padding_makes_room_for_one_window_a_stride_and_no_more() -> None:
    for length, kernel, stride in itertools.product(range(1, 12), range(1, 6), range(1, 5)):
        for lower in (False, True):
            before, after = same_pads(length, kernel, stride, lower=lower)
            starts = range(0, length + before + after - kernel + 1, stride)
            assert len(starts) == -(-length // stride) or before + after == 0
            assert 0 <= (before - after if lower else after - before) <= 1


def test_the_last_window_of_a_padded_axis_starts_before_the_padding_behind_it() -> None:
    for length, kernel, stride, pad in itertools.product(range(4, 12), range(1, 5), range(1, 5), range(3)):
        padded = length + 2 * pad
        last = 0
        while last + kernel < padded:  # windows until one reaches the end
            last += stride
        if pad and last >= length + pad:
            last -= stride
        assert reach_beyond(length, kernel, stride, pad, pad) == last + kernel - padded
