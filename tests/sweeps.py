"""Which cases of a sweep ``make test`` runs: some, spread over all. The others become ``thorough``, for ``make test-thorough``.

Of the thorough tests a run may take a share: ``COREPROOF_THOROUGH=1/2`` leaves out each second one, and ``2/2`` the others.

``@pytest.mark.sweep(4)`` keeps four cases of a test; ``sweep(1, each="operator")`` one for each value of the argument
``operator`` (``each="trial.operator"``: of what this is of the argument ``trial``), so that none is left without a test. A
test of which nothing is needed with each change is ``thorough`` itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from functools import reduce
from zlib import crc32

import pytest


def spread(count: int, keep: int) -> set[int]:
    """``keep`` places among ``count``, the first and the last among them where there are two."""
    if keep < 1:
        raise ValueError("a sweep keeps at least one case: mark the test thorough")
    if keep >= count or keep == 1:
        return set(range(min(count, keep)))
    return {round(place * (count - 1) / (keep - 1)) for place in range(keep)}


def mark_thorough(items: Iterable[pytest.Item]) -> None:
    """Marks what a sweep does not keep."""
    sweeps: dict[Hashable, list[pytest.Item]] = defaultdict(list)
    keeps: dict[Hashable, int] = {}
    for item in items:
        found = item.get_closest_marker("sweep")
        if found is None:
            continue
        test = (item.nodeid.partition("[")[0], _value(item, found.kwargs.get("each")))
        sweeps[test].append(item)
        keeps[test] = found.args[0]
    for test, cases in sweeps.items():
        kept = spread(len(cases), keeps[test])
        for place, case in enumerate(cases):
            if place not in kept:
                case.add_marker(pytest.mark.thorough)


def share_of(thorough: Iterable[pytest.Item], share: str) -> set[str]:
    """The names of those tests that are in the share, "1/2" or "2/2": by their names alone, so that it is the same everywhere.

    Raises ValueError for what is no share.
    """
    number, _, parts = share.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise ValueError(f"a share is a number and how many there are, 1/2 or 2/2, and not {share!r}")
    return {item.nodeid for item in thorough if crc32(item.nodeid.encode()) % int(parts) == int(number) - 1}


def _value(item: pytest.Item, each: str | None) -> str:
    """What tells the cases of which some are kept from those of which others are."""
    if each is None:
        return ""
    argument, *attributes = each.split(".")
    return repr(reduce(getattr, attributes, item.callspec.params[argument]))  # type: ignore[attr-defined]
