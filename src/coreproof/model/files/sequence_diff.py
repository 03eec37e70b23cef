"""Which items of a new list are which items of an old one: kept, moved, changed, or new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher


@dataclass(frozen=True)
class Step:
    """An item of the new list: which old one it comes from (None: it is new), and beside which old one it is written."""

    old: int | None
    new: int
    place: int
    unchanged: bool = False


def align(
    count: int,
    new_count: int,
    same: Callable[[int, int], bool],
    key: Callable[[int], bytes],
    new_key: Callable[[int], bytes],
    name: Callable[[int], str] | None = None,
    new_name: Callable[[int], str] | None = None,
) -> Iterator[Step]:
    """The items of the new list in order. Equal fronts and ends are compared in place, only what lies between by keys."""
    start, least = 0, min(count, new_count)
    while start < least and same(start, start):
        yield Step(start, start, start, unchanged=True)
        start += 1
    behind = 0
    while behind < least - start and same(count - 1 - behind, new_count - 1 - behind):
        behind += 1
    keys = [key(i) for i in range(start, count - behind)]
    new_keys = [new_key(j) for j in range(start, new_count - behind)]
    # of equal items the last one stands for all: any of them has the right bytes
    anywhere = {k: start + i for i, k in enumerate(keys)}
    # autojunk would leave out what stands often, as Relu layers do
    matcher = SequenceMatcher(None, keys, new_keys, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        olds, news = range(start + i1, start + i2), range(start + j1, start + j2)
        if kind == "equal":
            yield from (Step(i, j, i, unchanged=True) for i, j in zip(olds, news, strict=True))
            continue
        origin = _paired(olds, news, name, new_name)
        for step, j in enumerate(news):
            # an inserted item is written behind the old one before it, so what follows keeps its place
            place = olds[min(step, len(olds) - 1)] if olds else max(olds.start - 1, 0)
            moved = anywhere.get(new_keys[j - start])
            yield Step(origin.get(j) if moved is None else moved, j, place, unchanged=moved is not None)
    for step in range(behind):
        place = count - behind + step
        yield Step(place, new_count - behind + step, place, unchanged=True)


def _paired(
    olds: Sequence[int],
    news: Sequence[int],
    name: Callable[[int], str] | None,
    new_name: Callable[[int], str] | None,
) -> Mapping[int, int]:
    """Which new item is which old one, changed: by name where they have names, else in order."""
    names = {i: name(i) for i in olds} if name is not None else {}
    if new_name is None or not any(names.values()):
        return dict(zip(news, olds, strict=False))
    free = {names[i]: i for i in reversed(olds)}
    pairs = {}
    for j in news:
        origin = free.pop(new_name(j), None)
        if origin is not None:
            pairs[j] = origin
    if len(olds) == len(news):
        pairs.update(zip(_without(news, pairs), _without(olds, pairs.values()), strict=True))
    return pairs


def _without(items: Iterable[int], taken: Iterable[int]) -> list[int]:
    gone = set(taken)
    return [item for item in items if item not in gone]
