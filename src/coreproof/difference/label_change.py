"""What happened to a list of class labels, in words: shifted, permuted, cut, spelt otherwise."""

from __future__ import annotations

from collections.abc import Sequence

_FARTHEST = 7
"""Places by which a list that lost its ends is held to be shifted; beyond, too few labels are left to tell."""


def label_words(before: list[str], after: list[str]) -> str:
    """What happened to a list of labels."""
    gone, new = [x for x in before if x not in set(after)], [x for x in after if x not in set(before)]
    count = len(before)
    if not gone and not new and sorted(before) == sorted(after):
        for shift in range(1, count):
            if after == before[-shift:] + before[:-shift]:
                steps = shift if shift <= count // 2 else shift - count
                return f"shifted by {steps:+d}, round the end"
        if after == before[::-1]:
            return "reversed"
        if after == sorted(before):
            return "permuted: sorted alphabetically now"
        return f"permuted: {sum(a != b for a, b in zip(before, after, strict=True))} of {count} in another place"
    for word, shorter, longer in (("added", before, after), ("removed", after, before)):
        extra = len(longer) - len(shorter)
        if extra > 0 and longer[extra:] == shorter:
            return f"{extra} {word} in front ({_few(longer[:extra])}): every other one is shifted by {extra}"
        if extra > 0 and longer[: len(shorter)] == shorter:
            return f"{extra} {word} at the end ({_few(longer[-extra:])})"
    if len(before) == len(after):
        if [_spelled(x) for x in before] == [_spelled(x) for x in after]:
            return f"{sum(a != b for a, b in zip(before, after, strict=True))} spelt differently"
        for step in range(1, min(_FARTHEST, max(1, (count - 1) // 2)) + 1):
            if before[step:] == after[:-step] or before[:-step] == after[step:]:
                signed = -step if before[step:] == after[:-step] else step
                return f"shifted by {signed:+d}: without {_few(gone)}, with {_few(new)}"
    parts = [f"{len(gone)} removed ({_few(gone)})" if gone else "", f"{len(new)} added ({_few(new)})" if new else ""]
    return ", ".join(p for p in parts if p) or "repeated labels"


def _spelled(label: str) -> str:
    return "".join(c for c in label.lower() if c.isalnum())


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", ..." if len(labels) > 3 else "")
