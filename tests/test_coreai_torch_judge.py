"""What counts of coreai-torch's own tests, how a run goes on behind a process that ended, and that the table is the record's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conformance import coreai_torch as judge

PASSED, NEVER = "passed", ""


def ended(apple: str, coreproof: str, ran: int = 1, **more: object) -> judge.Ended:
    said = {"apart": {}, "operations": (), "commit": ""} | more
    return judge.Ended("t", apple, coreproof, {"apple": ran}, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("each", "verdict"),
    [
        (ended(PASSED, PASSED), "passed"),
        (ended(PASSED, "failed: AssertionError"), "failed"),
        (ended(PASSED, "ends the process"), "failed"),
        (ended("failed: AssertionError", PASSED), "not passed by Apple's interpreter"),
        (ended("ends the process", PASSED), "not passed by Apple's interpreter"),
        (ended(PASSED, PASSED, ran=0), "runs no model"),
        (ended("skipped: macOS only", NEVER), "skipped by itself"),
    ],
)
def test_only_what_apple_passes_and_runs_is_counted(each: judge.Ended, verdict: str) -> None:
    assert each.verdict == verdict


def lines(path: Path, *told: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    return path


def done(test: str, coreproof: str = PASSED) -> dict[str, object]:
    return {"test": test, "outcome": {"apple": PASSED, "coreproof": coreproof}, "ran": {"apple": 1}}


def test_the_test_that_ended_the_process_is_counted_and_one_of_apples_half_runs_again_with_ours(tmp_path: Path) -> None:
    record = lines(tmp_path / "r", done("a"), {"test": "b", "at": "coreproof", "apple": PASSED})
    assert judge.close_open_test(record)
    assert [(e.test, e.verdict) for e in judge.read_record(record)] == [("a", "passed"), ("b", "failed")]
    assert not judge.close_open_test(record)
    record = lines(tmp_path / "r", done("a"), {"test": "b", "at": "apple", "apple": ""})
    assert judge.close_open_test(record)
    assert [e.test for e in judge.read_record(record)] == ["a"]
    record = lines(tmp_path / "r", {"test": "b", "at": "coreproof", "apple": "ends the process"})
    assert judge.close_open_test(record)
    assert [e.verdict for e in judge.read_record(record)] == ["not passed by Apple's interpreter"]


def test_a_run_that_was_stopped_begins_its_open_test_again_and_what_failed_where_that_is_asked(tmp_path: Path) -> None:
    record = lines(tmp_path / "r", done("a"), done("b", "failed: no"), {"test": "c", "at": "apple"})
    judge.forget(record, failed=False)
    assert [e.test for e in judge.read_record(record)] == ["a", "b"]
    assert not judge.close_open_test(record)
    judge.forget(record, failed=True)
    assert [e.test for e in judge.read_record(record)] == ["a"]


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        (np.float32([1, 2]), np.float32([1, 2 + 2**-22]), 1.0),
        (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf]), 0.0),
        (np.float32([1, np.inf]), np.float32([1, 3]), "1 of 2 numbers differ, not all of them finite"),
        (np.float16([1]), np.float32([1]), "dtypes float16 and float32"),
        (np.float32([1]), np.float32([[1]]), "shapes (1,) and (1, 1)"),
        (np.int32([1, 2, 3]), np.int32([1, 2, 4]), "1 of 3 whole numbers differ"),
        (np.complex64([1 + 2j]), np.complex64([1 + 2j]), 0.0),
    ],
)
def test_how_far_two_engines_are_apart(left: np.ndarray, right: np.ndarray, found: float | str) -> None:
    assert judge.apart(left, right) == found


def test_the_column_of_the_table_is_what_the_record_says() -> None:
    record = json.loads(judge.RESULTS.read_text())
    page = judge.TABLE.read_text()
    assert judge.with_counts(page, record["operations"]) == page
    other = {name: {"passed": 0, "failed": 1} for name in record["operations"]}
    assert judge.with_counts(page, other) != page


def test_every_failure_in_the_record_has_a_reason() -> None:
    record = json.loads(judge.RESULTS.read_text())
    assert record["tests run"] > 3000
    assert all(len(told["reason"]) > 20 for told in record["failed"].values())
