"""What ``make test`` leaves to ``make test-thorough``: never a whole sweep, and CI runs both."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.sweeps import mark_thorough, spread


class Case:
    """Of a collected test, what marking looks at."""

    def __init__(self, test: str, sweep: Any, **params: object) -> None:
        self.nodeid = f"tests/test_x.py::{test}[{params}]"
        self.callspec = SimpleNamespace(params=params)
        self.thorough = False
        self._sweep = sweep

    def get_closest_marker(self, name: str) -> Any:
        return self._sweep if name == "sweep" else None

    def add_marker(self, mark: Any) -> None:
        self.thorough = mark.name == "thorough"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 100])
@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_as_many_cases_are_kept_as_are_asked_for(count: int, keep: int) -> None:
    places = spread(count, keep)
    assert len(places) == min(count, keep)
    assert places <= set(range(count))
    assert 0 in places
    assert (count - 1 in places) == (keep > 1 or count == 1)


def test_a_sweep_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="mark the test thorough"):
        spread(3, 0)


def test_each_test_keeps_cases_of_its_own_and_of_each_value() -> None:
    by_operator = pytest.mark.sweep(1, each="operator").mark
    cases = [Case("test_a", pytest.mark.sweep(2).mark, number=n) for n in range(5)]
    operators = [Case("test_b", by_operator, operator=o, rank=r) for o in ("Abs", "Neg") for r in range(3)]
    other = Case("test_c", None)
    mark_thorough([*cases, *operators, other])  # type: ignore[list-item]
    assert [case.thorough for case in cases] == [False, True, True, True, False]
    assert [case.thorough for case in operators] == [False, True, True, False, True, True]
    assert not other.thorough


def test_what_make_test_leaves_out_is_run_elsewhere() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    asked = dict(re.findall(r"^(test[\w-]*|coverage): .*\n(?:\t@.*\n)?\t.*-m pytest (.*)$", makefile, re.M))
    chosen = {target: re.findall(r'-m "([^"]+)"', words) for target, words in asked.items()}
    assert chosen == {"test": ["not thorough"], "test-thorough": ["thorough"], "test-all": [], "coverage": []}


def test_ci_runs_all_tests_and_its_table_names_its_parts_in_their_order() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    rows = re.findall(r"^#   ([\w-]+)  +\S.*?  +([\d.]+)$", script, re.M)
    ran = re.findall(r"^[^#\n]*\b(?:make|part) ([a-z][\w-]*)", script, re.M)
    assert [name.replace("set-up", "setup") for name, _ in rows] == ran
    assert ran[-2:] == ["test-thorough", "test"]
    assert sum(float(minutes) for _, minutes in rows) <= 25
