"""Apple's own tests of coreai-torch as a judge: each runs with Apple's interpreter, and again with coreproof's lowering.

    python -m conformance.coreai_torch --suite FOLDER [--seconds N] [--record] [TESTS...]

FOLDER (or ``COREPROOF_COREAI_TORCH_TESTS``) is a checkout of apple/coreai-torch. It runs outside of our repository, by an
interpreter that has ``coreproof[coreai]``, torch, coreai-torch, pytest-asyncio, pytest-timeout and filecheck. One test of each
function comes first, the others behind, in an order that is drawn from a seed: so what has run after any time is a sample of all.
Where a test ends the process the next one begins in a new one, and a run goes on where the one before stopped.
``--record`` writes conformance/results/coreai_torch.json. Any failure of a test that passes with Apple's interpreter ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformance.origin import origin, write_record
from conformance.seeded import SEED
from coreproof.model.coreai.arrays import pairs

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "coreai_torch.json"
TABLE = HERE.parent / "docs" / "operators-coreai.md"
NOT_APPLE = "not passed by Apple's interpreter"
KNOWN = HERE / "coreai_torch_known_failures.json"
TESTS = ("tests/ops/test_ops.py",)
"""The suite's operator tests. Its other files run by their names, into a record of their own (``--records``)."""
TEST_SECONDS = 300
"""What one test may take: a busy machine is not a failure."""
NEAR = 64.0
"""How many steps of the dtype at the largest number two engines may be apart before a record names it: sums in another order."""


def apart(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float | str:
    """The largest difference, in steps of the narrower dtype at the largest number; a sentence where it is another kind."""
    if left.shape != right.shape:
        return f"shapes {left.shape} and {right.shape}"
    narrow = [a for a in (left, right) if a.dtype.kind not in "biuf"]
    if left.dtype != right.dtype and not narrow:
        return f"dtypes {left.dtype} and {right.dtype}"
    if narrow and left.dtype.kind == right.dtype.kind == "c":
        return apart(pairs(left), pairs(right))
    step = 2.0**-8 if narrow else float(np.finfo(left.dtype).eps) if left.dtype.kind == "f" else 0.0
    a, b = left.astype(np.float64), right.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not step:
        return f"{int((~same).sum())} of {same.size} whole numbers differ"
    if not np.isfinite(a[~same]).all() or not np.isfinite(b[~same]).all():
        return f"{int((~same).sum())} of {same.size} numbers differ, not all of them finite"
    largest = max(float(np.abs(array[np.isfinite(array)]).max(initial=0)) for array in (a, b))
    return round(float(np.abs(a - b)[~same].max()) / (step * largest), 2)


@dataclass(frozen=True)
class Ended:
    """How one test ended with each engine, how often they ran, and by how much their answers were apart."""

    test: str
    apple: str
    coreproof: str
    ran: dict[str, int]
    apart: dict[str, float | str]
    operations: tuple[str, ...]
    commit: str

    @property
    def verdict(self) -> str:
        """What counts of it."""
        if self.apple.startswith("skipped") or self.coreproof.startswith("skipped"):
            return "skipped by itself"
        if self.apple != "passed":
            return NOT_APPLE
        if not self.ran.get("apple"):
            return "runs no model"
        return "passed" if self.coreproof == "passed" else "failed"

    @property
    def parted(self) -> dict[str, float | str]:
        """Where the engines' answers are further apart than sums in another order make them."""
        return {name: by for name, by in self.apart.items() if isinstance(by, str) or by > NEAR}


def read_record(record: Path) -> list[Ended]:
    """The tests of a record that have ended, and those that ended the process."""
    ended: dict[str, Ended] = {}
    for line in record.read_text().splitlines() if record.is_file() else []:
        entry: dict[str, Any] = json.loads(line)
        if "outcome" in entry:
            told = entry["outcome"]
            ended[entry["test"]] = Ended(
                entry["test"],
                _without_paths(told["apple"]),
                _without_paths(told["coreproof"]),
                entry["ran"],
                entry.get("apart", {}),
                tuple(entry.get("operations", ())),
                entry.get("commit", ""),
            )
    return list(ended.values())


def _without_paths(told: str) -> str:
    """What a test said, without the temporary files of the machine that it ran on."""
    return re.sub(r"/\S*/tmp\w+(\.check|/model\.aimodel)", r"\1", f" {told}").strip()


def forget(record: Path, *, failed: bool) -> None:
    """Takes the test out of a record that was open when its run was stopped; if asked, those too that failed with either."""
    if not record.is_file():
        return
    again = {e.test for e in read_record(record) if failed and e.verdict in ("failed", NOT_APPLE)}
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    again |= {line["test"] for line in lines} - {line["test"] for line in lines if "outcome" in line}
    record.write_text("".join(json.dumps(line) + "\n" for line in lines if line["test"] not in again))


def close_open_test(record: Path) -> bool:
    """Ends the test that coreproof's half ended the process of; whether the process ended within a test at all."""
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []
    if not lines or "outcome" in lines[-1]:
        return False
    last = lines[-1]
    if last["at"] == "coreproof":
        told = {"apple": last["apple"], "coreproof": "ends the process"}
        line = {"test": last["test"], "outcome": told, "ran": {"apple": 1}}
        with record.open("a", encoding="utf-8") as written:
            written.write(json.dumps(line) + "\n")
    return True


def run(suite: Path, python: str, record: Path, tests: list[str], seconds: float) -> None:
    """Runs what has not ended yet, in as many processes as it takes, until all has or the time is over."""
    until = time.monotonic() + seconds
    record.parent.mkdir(parents=True, exist_ok=True)
    while (left := until - time.monotonic()) > 0:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE.parent)]),
            "COREAI_TORCH_RECORD": str(record),
            "COREAI_TORCH_SECONDS": str(left),
            "COREAI_TORCH_COMMIT": origin("conformance.coreai_torch")["commit"],
        }
        left_out = ("randomly", "cacheprovider", "logging", "rerunfailures")
        plugins = [*(f"-pno:{name}" for name in left_out), "-p", "conformance.coreai_suite"]
        options = [
            "-o",
            "addopts=",
            "-q",
            "--tb=no",
            "--no-header",
            f"--timeout={TEST_SECONDS}",
            "--timeout-method=thread",
        ]
        done = subprocess.run(
            [python, "-m", "pytest", *plugins, *options, *tests],
            cwd=suite,
            env=environment,
            check=False,
            stdout=subprocess.DEVNULL,
        )
        if not close_open_test(record):
            if done.returncode not in (0, 1, 5):
                raise SystemExit(f"pytest ended with {done.returncode} outside of a test")
            return


def known_failures() -> dict[str, str]:
    """Tests that are known to fail with our lowering -> why."""
    return dict(json.loads(KNOWN.read_text())) if KNOWN.is_file() else {}


def document(ended: list[Ended], suite: Path) -> dict[str, Any]:
    """The record: how many ended how, which failed and why, and by operation."""
    known = known_failures()
    counts = Counter(e.verdict for e in ended)
    judged = counts["passed"] + counts["failed"]
    steps = {e.test: _most(e) for e in ended if e.verdict == "passed"}
    by_operation: dict[str, Counter[str]] = defaultdict(Counter)
    for e in ended:
        for operation in e.operations if e.verdict in ("passed", "failed") else ():
            by_operation[operation][e.verdict] += 1
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=suite, capture_output=True, text=True, check=False)
    return {
        **origin("conformance.coreai_torch"),
        "suite": f"apple/coreai-torch {head.stdout.strip()[:12]}",
        "seed": SEED,
        "tests by commit": dict(Counter(e.commit for e in ended)),
        "tests run": len(ended),
        "summary": dict(counts.most_common()),
        "passed of those that Apple's interpreter passes": f"{counts['passed']} of {judged}",
        "by file": {
            name: dict(Counter(e.verdict for e in ended if e.test.startswith(f"{name}::")).most_common())
            for name in sorted({e.test.partition("::")[0] for e in ended})
        },
        "answers of both engines": {
            "equal": sum(1 for most in steps.values() if not most),
            "apart by at most 8 steps": sum(1 for most in steps.values() if 0 < most <= 8),
            "further apart": sum(1 for most in steps.values() if most > 8),
            "steps at most": max(steps.values(), default=0.0),
        },
        "failed": {
            e.test: {"why": e.coreproof, "reason": known.get(e.test, "")} for e in ended if e.verdict == "failed"
        },
        NOT_APPLE: {e.test: {"apple": e.apple, "coreproof": e.coreproof} for e in ended if e.verdict == NOT_APPLE},
        "apart": {e.test: e.parted for e in ended if e.verdict == "passed" and e.parted},
        "operations": {name: dict(found) for name, found in sorted(by_operation.items())},
    }


def _most(ended: Ended) -> float:
    """By how many steps the engines' answers of a test are apart at most; infinitely where they are not of one kind."""
    return max((by if isinstance(by, float | int) else float("inf") for by in ended.apart.values()), default=0.0)


def with_counts(page: str, operations: Mapping[str, Mapping[str, int]]) -> str:
    """The page of operations with what Apple's operator tests say of each, in the last column: passed / failed."""

    def row(found: re.Match[str]) -> str:
        counts = operations.get(found[1], {})
        told = f"{counts.get('passed', 0)} / {counts.get('failed', 0)}" if counts else "no test"
        return f"| `{found[1]}` | {found[2]} | {found[3]} | {told} |"

    return re.sub(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|.*$", row, page, flags=re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Runs the suite; 1 when a test failed that passes with Apple's interpreter, or when none was judged."""
    parser = argparse.ArgumentParser(
        prog="conformance.coreai_torch", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--suite", type=Path, default=os.environ.get("COREPROOF_COREAI_TORCH_TESTS"))
    parser.add_argument("--python", default=sys.executable, help="interpreter with Apple's packages")
    parser.add_argument(
        "--records", type=Path, default=HERE.parent / "build" / "coreai_torch.jsonl", help="resumes there"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no test after so long")
    parser.add_argument("--again", action="store_true", help="run what failed once more")
    parser.add_argument("--record", action="store_true", help=f"write {RESULTS.name}, and its counts into {TABLE.name}")
    parser.add_argument("--read-only", action="store_true", help="tell what has run; run nothing")
    parser.add_argument("tests", nargs="*", default=list(TESTS), help="files or addresses of pytest")
    chosen = parser.parse_args(arguments)
    if chosen.suite is None:
        print("skipped: COREPROOF_COREAI_TORCH_TESTS names no checkout of apple/coreai-torch")
        return 0
    record = chosen.records.resolve()
    if not chosen.read_only:
        forget(record, failed=chosen.again)
        run(Path(chosen.suite).resolve(), chosen.python, record, chosen.tests, chosen.seconds)
    ended = read_record(record)
    found = document(ended, Path(chosen.suite))
    if chosen.record:
        write_record(RESULTS, found)
        TABLE.write_text(with_counts(TABLE.read_text(), found["operations"]))
    for test, told in found["failed"].items():
        print(f"FAILED {test}\n       {told['why'][:300]}")
    for verdict, count in found["summary"].items():
        print(f"{count:6d} {verdict}")
    print(f"{found['passed of those that Apple' + chr(39) + 's interpreter passes']} tests passed")
    failed = [e for e in ended if e.verdict == "failed" and e.test not in known_failures()]
    return 1 if failed or not any(e.verdict == "passed" for e in ended) else 0


if __name__ == "__main__":
    sys.exit(main())
