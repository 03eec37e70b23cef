"""What ``make test`` leaves to ``make test-thorough``: never a whole sweep; CI runs both, a twelfth of the latter at a time."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest
from tests.conftest import REPOSITORY
from tests.sweeps import mark_thorough, share_of, spread


class Case:
    """Of a collected test, what marking looks at."""

    def __init__(self, test: str, sweep: Any, **params: object) -> None:
        self.nodeid = f"tests/test_x.py::{test}[{params}]"
        self.callspec = SimpleNamespace(params=params)
        self.thorough = False
        self._sweep = sweep

    def get_closest_marker(self, name: str) -> Any:
        return self._sweep if name == "sweep" else (self.thorough or None)

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


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_each_thorough_test_is_in_one_share_and_the_shares_are_of_a_size(parts: int) -> None:
    cases = [Case(f"test_{letter}", None, number=n) for letter in "abcd" for n in range(150)]
    shares = [share_of(cases, f"{number}/{parts}") for number in range(1, parts + 1)]  # type: ignore[arg-type]
    assert sorted(name for share in shares for name in share) == sorted(case.nodeid for case in cases)
    assert all(0.8 < len(share) * parts / len(cases) < 1.2 for share in shares)


@pytest.mark.parametrize("share", ["", "0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(ValueError, match="1/2 or 2/2"):
        share_of([], share)


def test_a_share_leaves_out_thorough_tests_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [Case("test_a", pytest.mark.sweep(2).mark, number=n) for n in range(40)]
    left: list[Any] = []
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: left.extend(items)))
    monkeypatch.setenv("COREPROOF_THOROUGH", "2/2")
    kept: list[Any] = list(items)
    conftest.pytest_collection_modifyitems(config, kept)
    assert set(kept) | set(left) == set(items)
    assert all(case.thorough for case in left)
    assert 10 < len(left) < 30
    assert [case for case in kept if not case.thorough] == [items[0], items[-1]]


def test_ci_runs_the_tests_and_its_table_names_its_parts_in_their_order() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    rows = re.findall(r"^#   ([\w-]+)  +\S.*?  +([\d.]+)$", script, re.M)
    ran = re.findall(r"^[^#\n]*\b(?:make|part) ([a-z][\w-]*)", script, re.M)
    assert [name.replace("set-up", "setup") for name, _ in rows] == ran
    assert ran[-2:] == ["test-thorough", "test"]
    (numbers,) = re.findall(r'^COREPROOF_THOROUGH="(.*)" part test-thorough$', script, re.M)
    computed = re.fullmatch(r"\$\(\(0x\$\{commit:0:7\} % (\d+) \+ 1\)\)/(\d+)", numbers)
    assert computed is not None
    assert computed[1] == computed[2] == "12", "each share has its turn"
    assert sum(float(minutes) for _, minutes in rows) <= 25
