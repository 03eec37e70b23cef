"""The smallest set of operators that has to stay in float32, found by trying: bisection, then taking away what is not needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Trials:
    """Counts and remembers trials: does the model agree when exactly these units compute in float32?"""

    def __init__(self, units: Sequence[str], agrees: Callable[[frozenset[str]], bool], limit: int = 400) -> None:
        self.units = tuple(units)
        self.limit = limit
        self.done = 0
        self._agrees = agrees
        self._known: dict[frozenset[str], bool] = {}

    def agrees(self, kept: frozenset[str]) -> bool:
        """Whether it agrees with ``kept`` in float32 and all other units in float16."""
        if kept not in self._known:
            self.done += 1
            self._known[kept] = self._agrees(kept)
        return self._known[kept]

    @property
    def spent(self) -> bool:
        """Whether no trial is left."""
        return self.done >= self.limit


def minimal_set(trials: Trials, rank: Callable[[], Sequence[str]]) -> tuple[frozenset[str], bool]:
    """Units of which none can go back to float16, and whether that much was shown (or the trials ran out before).

    First the units that do harm alone, found by halving; then, where the harm is the sum of many, as many of the worst
    (in the order of ``rank``) as it takes; last everything is taken away again that is not needed.
    """
    if trials.agrees(frozenset()):
        return frozenset(), True
    everything = frozenset(trials.units)
    kept = frozenset(_guilty(trials, trials.units))
    if not trials.agrees(kept):
        kept = _enough(trials, kept, rank()) if not trials.spent else everything
    return _needed(trials, kept)


def _guilty(trials: Trials, group: Sequence[str]) -> list[str]:
    """The units of ``group`` that do harm when they alone compute in float16."""
    if not group or trials.spent or trials.agrees(frozenset(trials.units).difference(group)):
        return []
    if len(group) == 1:
        return [group[0]]
    # a unit that does no harm alone is dismissed with its whole half
    middle = len(group) // 2
    return [*_guilty(trials, group[:middle]), *_guilty(trials, group[middle:])]


def _enough(trials: Trials, kept: frozenset[str], ranked: Sequence[str]) -> frozenset[str]:
    """``kept`` and the shortest head of ``ranked`` with which it agrees, by halving."""
    more = [unit for unit in ranked if unit not in kept]
    low, high = 0, len(more)
    while low < high:
        middle = (low + high) // 2
        if trials.agrees(kept.union(more[:middle])):
            high = middle
        else:
            low = middle + 1
    return kept.union(more[:high])


def _needed(trials: Trials, kept: frozenset[str]) -> tuple[frozenset[str], bool]:
    """``kept`` without whatever can go: large pieces first, single units last."""
    # halves first, as in delta debugging: most sets are far too large
    size = max(1, len(kept) // 2)
    while kept:
        went = False
        ordered = [unit for unit in trials.units if unit in kept]
        for start in range(0, len(ordered), size):
            without = kept.difference(ordered[start : start + size])
            if trials.spent:
                return kept, False
            if trials.agrees(without):
                kept, went = without, True
        if not went and size == 1:
            return kept, True
        size = size if went else max(1, size // 2)
    return kept, True
