"""Pairs of places in two models that do not cross each other: those that are known, and those that are alike in order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

_T = TypeVar("_T")


def longest_rising(pairs: Sequence[tuple[_T, int]]) -> list[tuple[_T, int]]:
    """The longest part of the pairs, which stand in the order of one model, whose places in the other rise as well.

    A longest increasing subsequence: ``ends[n]`` is the least place in which a part of length n + 1 can end, ``at[n]`` the pair
    that ends it, ``back`` the pair before each.
    """
    ends: list[int] = []
    at: list[int] = []
    back: list[int] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        back.append(at[length - 1] if length else -1)
        if length == len(ends):
            ends.append(place)
            at.append(index)
        else:
            ends[length], at[length] = place, index
    kept: list[tuple[_T, int]] = []
    index = at[-1] if at else -1
    while index >= 0:
        kept.append(pairs[index])
        index = back[index]
    return kept[::-1]


def alike_in_order(keys: Sequence[Hashable], others: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """The places (here, there) of what bears the same key on both sides, in the order of both."""
    # autojunk would take for noise what occurs often, as most operations of a long network do
    for block in SequenceMatcher(None, keys, others, autojunk=False).get_matching_blocks():
        yield from ((block.a + k, block.b + k) for k in range(block.size))
