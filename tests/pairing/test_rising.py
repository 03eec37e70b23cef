"""Places in two models that rise together: as many as can be kept."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from coreproof.pairing.rising import alike_in_order, longest_rising


def test_one_pair_far_ahead_does_not_cost_those_behind_it() -> None:
    assert longest_rising([("a", 9), ("b", 1), ("c", 2), ("d", 3)]) == [("b", 1), ("c", 2), ("d", 3)]


def test_of_nothing_nothing_is_kept() -> None:
    assert longest_rising([]) == []


@pytest.mark.parametrize("seed", range(8))
def test_no_longer_part_rises(seed: int) -> None:
    places = np.random.default_rng(seed).integers(0, 8, 8).tolist()
    kept = longest_rising(list(enumerate(places)))
    rises = [part for n in range(9) for part in combinations(places, n) if all(a < b for a, b in pairwise(part))]
    assert [place for _, place in kept] in [list(part) for part in rises]
    assert len(kept) == max(map(len, rises))
    assert [own for own, _ in kept] == sorted(own for own, _ in kept)


def test_what_is_met_often_is_paired_too() -> None:
    """difflib by itself leaves out what makes up more than a hundredth of a long row."""
    found = alike_in_order(["pool", *["conv"] * 250], ["add", "mul", *["conv"] * 250])
    assert list(found) == [(place, place + 1) for place in range(1, 251)]


def test_what_is_alike_is_paired_in_the_order_of_both() -> None:
    assert list(alike_in_order("abc", "xbyc")) == [(1, 1), (2, 3)]
    assert list(alike_in_order("", "a")) == []
