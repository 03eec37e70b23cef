"""Dictionaries and sequences as values to compare: their numbers in a row, their keys and lengths held against each other.

Two such values agree when they are built alike, key for key and element for element, and the numbers in them agree as those of an
array would. A key that only one side has is a disagreement, whatever the numbers say: nothing stands in its place.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from coreproof.model.structured import Layout, taken_apart

_TOLD = 4
"""Keys that are named where two dictionaries differ."""


class Leaves(np.ndarray):
    """The numbers of a structured value, one after the other, keys in order; ``layout`` says where each of them stood."""

    layout: Layout | None = None


def leaves(value: object) -> Leaves:
    """A dictionary or a sequence, nested in any way, as the row of its numbers (or texts)."""
    layout, row = taken_apart(value)
    found = row.view(Leaves)
    found.layout = layout
    return found


def unlike(reference: object, candidate: object) -> str:
    """In what two structured values are built differently, in words; empty where they are built alike, or are arrays."""
    one, other = getattr(reference, "layout", None), getattr(candidate, "layout", None)
    if one is None or other is None or one == other:
        return ""
    return _difference(one, other)


def _difference(one: Layout, other: Layout) -> str:
    """In what two layouts differ, at the first place where they do."""
    if one[0] != other[0]:
        return f"a {one[0]} and a {other[0]}"
    if one[0] == "dictionary":
        if one[1] != other[1]:
            return f"the keys differ: {_apart(one[1], other[1])}"
        keyed = zip(one[1], one[2], other[2], strict=True)
        return next((f"at key {key!r}: {_difference(a, b)}" for key, a, b in keyed if a != b), "")
    if one[0] == "sequence":
        if len(one[1]) != len(other[1]):
            return f"the lengths differ: {len(one[1])} and {len(other[1])} elements"
        pairs = enumerate(zip(one[1], other[1], strict=True))
        return next((f"at element {at}: {_difference(a, b)}" for at, (a, b) in pairs if a != b), "")
    return f"shapes differ: {list(one[1])} and {list(other[1])}"


def _apart(one: Sequence[Hashable], other: Sequence[Hashable]) -> str:
    """The keys that only one of two dictionaries has, the first few of them."""
    sides = (("reference", set(one) - set(other)), ("candidate", set(other) - set(one)))
    return "; ".join(
        f"only in the {side}: {', '.join(map(repr, sorted(keys, key=str)[:_TOLD]))}"
        + (f" and {len(keys) - _TOLD} more" if len(keys) > _TOLD else "")
        for side, keys in sides
        if keys
    )
