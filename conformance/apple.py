"""Apple's own tests as a judge: every prediction that coremltools' test suite makes is answered by coreproof.testing.

    python -m conformance.apple --suite FOLDER [--python PYTHON] [--sets N] [--only TEXT] [--slice | DIRECTORY...]

FOLDER holds ``run.sh``, which runs the unmodified tests of the coremltools wheel with a stand-in for Core ML's native
binding. Each test directory runs twice over: with float32 programs, and with float16 ones under a strict tolerance. Tests
that need an operation which is not lowered are counted apart. Writes conformance/results/apple.json and
docs/operators-mlprogram.md when all directories are run; a part of them writes nothing.
What no runtime can pass stands in conformance/apple_known_failures.json, with the reason; any other failure ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conformance.origin import origin

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "apple.json"
KNOWN_FAILURES = HERE / "apple_known_failures.json"
TABLE = HERE.parent / "docs" / "operators-mlprogram.md"
STRICT_FP16 = "1e-2:1e-2"
"""Relative and absolute tolerance of float16 tests; Apple's own, 0.05 and 0.5, hardly notices a wrong result."""

MIL = "converters/mil/mil/ops/tests"
DIRECTORIES = (*(f"{MIL}/iOS{version}" for version in (14, 15, 16, 17, 18)), "test/neural_network")
SLICE = (f"{MIL}/iOS16", f"{MIL}/iOS18", "test/neural_network/test_numpy_nn_layers.py")
"""What takes a few minutes: operations in their newer forms, compressed weights, states, and nearly every layer."""

SLICE_ONLY = "not topk and not random_normal and not conv2d_stress and not cpu_slow"
"""Without topk, whose expected indices are numpy's choice among equal numbers, and without what draws for a minute."""
SECONDS = "900"
"""What one test may take: a busy machine is not a failure."""


@dataclass(frozen=True)
class Outcome:
    """How one test ended that reached a prediction, and the operations that its models hold.

    ``status``: passed, failed, not lowered, or expected to fail by Apple (whatever happened here).
    """

    test: str
    kind: str
    precision: str
    operators: tuple[str, ...]
    status: str
    message: str = ""


def run_directory(suite: Path, python: str, directory: str, record: Path, sets: int, only: str | None) -> None:
    """Runs one directory of the suite into ``record``."""
    environment = {
        **os.environ,
        "PYTHON": python,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE.parent)]),
        "PYTEST_ADDOPTS": " ".join(["-p conformance.seeded", *([f"-k '{only}'"] if only else [])]),
        "APPLE_SUITE_FP16_TOL": STRICT_FP16,
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "TMO": os.environ.get("TMO", SECONDS),
    }
    if sets:
        environment["APPLE_SUITE_PER_FUNC"] = f"{sets}:20250101"
    record.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["bash", str(suite / "run.sh"), "coreproof.testing:predict", str(record), directory],
        env=environment,
        check=False,
    )


def read_record(record: Path) -> list[Outcome]:
    """The tests of one record that reached a prediction."""
    predictions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ends: dict[str, dict[str, Any]] = {}
    for line in record.read_text().splitlines():
        event = json.loads(line)
        if event["ev"] == "predict":
            predictions[event["test"]].append(event)
        elif event["ev"] == "test":
            ends[event["test"]] = event
    return [_outcome(test, ends[test], events) for test, events in predictions.items() if test in ends]


def _outcome(test: str, end: Mapping[str, Any], events: list[dict[str, Any]]) -> Outcome:
    precision = re.search(r"precision='(fp\d+)'", test)
    message = str(end.get("msg", ""))
    if any(e.get("outcome") == "not_implemented" for e in events):
        status, message = "not lowered", next(e["exc"] for e in events if e.get("outcome") == "not_implemented")
    elif end.get("outcome") in ("xfailed", "xpassed"):
        status = "expected to fail"
    else:
        status = "passed" if end.get("outcome") == "passed" else "failed"
    return Outcome(
        test=test,
        kind=str(events[-1]["kind"]),
        precision=precision.group(1) if precision else "fp32",
        operators=tuple(sorted({name for e in events for name in e["ops"]})),
        status=status,
        message="" if status == "passed" else message[:300],
    )


def summary(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """How many tests ended how, by kind of model and precision."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        table[f"{outcome.kind} {outcome.precision}"][outcome.status] += 1
    return {name: dict(counts) for name, counts in sorted(table.items())}


def operator_table(outcomes: Iterable[Outcome]) -> str:
    """docs/operators-mlprogram.md: from the registry and from how the tests of each operation ended."""
    from coreproof.conversion.operators import MIL

    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        if outcome.kind == "mlProgram":
            for operator in outcome.operators:
                counts[operator, outcome.precision][outcome.status] += 1
    lines = [
        "# Operations of ML Programs that are lowered to ONNX",
        "",
        "Generated by `python -m conformance.apple` from the registry and from Apple's own tests; do not edit.",
        "Each operation counts every test whose model holds it: passed / failed / expected to fail by Apple, float16 with",
        f"the strict tolerance {STRICT_FP16.replace(':', ' and ')} (relative, absolute).",
        "An operation without a test here is not vouched for by Apple's suite; coreproof's own tests hold each operation, in",
        "each of its forms, against its definition in NumPy or PyTorch, in float32 and float16",
        "(`tests/conversion/coreml_to_onnx/mlprogram/ops`).",
        "",
        "| operation | lowered since | float32 | float16 |",
        "| --- | --- | --- | --- |",
    ]
    for operator in MIL:
        cells = []
        for precision in ("fp32", "fp16"):
            ended = counts[operator, precision]
            figures = f"{ended['passed']} / {ended['failed']} / {ended['expected to fail']}"
            cells.append(figures if sum(ended.values()) else "no test")
        since = ", ".join(f"iOS{version}" for version in MIL.versions(operator))
        lines.append(f"| `{operator}` | {since} | {cells[0]} | {cells[1]} |")
    refused = sorted({o for (o, _), ended in counts.items() if ended["not lowered"]} - set(MIL) - {"const"})
    lines += ["", f"Refused by name: {', '.join(f'`{o}`' for o in refused) or 'nothing that these tests ask for'}.", ""]
    return "\n".join(lines)


@dataclass(frozen=True)
class KnownFailure:
    """Tests that no runtime can pass, and why.

    ``tests`` is searched in a test's address and ``message`` in what it says when it fails: what fails in another way,
    or by more, is not known. Both are regular expressions, since which parameters a test gets is drawn.
    """

    tests: str
    message: str
    reason: str

    def explains(self, outcome: Outcome) -> bool:
        """Whether this is how the test failed."""
        return bool(re.search(self.tests, outcome.test) and re.search(self.message, outcome.message))


def known_failures() -> list[KnownFailure]:
    """The failures that are proved to be the tests' own; the list may only get shorter."""
    return [KnownFailure(**entry) for entry in json.loads(KNOWN_FAILURES.read_text())]


def main(arguments: list[str] | None = None) -> int:
    """Runs the suite; 1 when a test failed whose operations are all lowered, and of which no runtime could do better."""
    parser = argparse.ArgumentParser(prog="conformance.apple", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suite", type=Path, default=os.environ.get("COREPROOF_APPLE_SUITE"), help="folder of run.sh")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the suite's requirements")
    parser.add_argument("--sets", type=int, default=1, help="parameter sets of each test function; 0 for all")
    parser.add_argument("--only", help="pytest -k expression")
    parser.add_argument(
        "--slice", action="store_true", help="only the directories that are quick; skips without a suite"
    )
    parser.add_argument("--records", type=Path, default=HERE.parent / "build" / "apple", help="where records go")
    parser.add_argument("--read-only", action="store_true", help="make the tables from the records that are there")
    parser.add_argument("directories", nargs="*", default=DIRECTORIES)
    chosen = parser.parse_args(arguments)
    if chosen.slice and chosen.suite is None:
        print("skipped: COREPROOF_APPLE_SUITE names no folder that holds run.sh")
        return 0
    if chosen.suite is None and not chosen.read_only:
        parser.error("--suite FOLDER (or COREPROOF_APPLE_SUITE) must name the folder that holds run.sh")
    outcomes: list[Outcome] = []
    directories = SLICE if chosen.slice else tuple(chosen.directories)
    if chosen.slice and not chosen.only:
        chosen.only = SLICE_ONLY
    for directory in directories:
        record = chosen.records / f"{directory.replace('/', '_')}.jsonl"
        if not chosen.read_only:
            run_directory(
                Path(chosen.suite).resolve(), chosen.python, directory, record.resolve(), chosen.sets, chosen.only
            )
        if record.is_file():
            outcomes += read_record(record)
    table = summary(outcomes)
    if directories == DIRECTORIES and not chosen.only:
        shown = [asdict(o) for o in outcomes if o.status in ("failed", "not lowered")]
        document = {**origin("conformance.apple"), "sets": chosen.sets, "summary": table, "not passed": shown}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        TABLE.write_text(operator_table(outcomes))
    failed, known = [], known_failures()
    for outcome in (o for o in outcomes if o.status == "failed"):
        if reason := next((k.reason for k in known if k.explains(outcome)), None):
            print(f"known to fail: {outcome.test.rpartition('/')[2]}\n       {reason}")
        else:
            failed.append(outcome)
    for name, ended in table.items():
        print(f"{name:32s} {', '.join(f'{count} {status}' for status, count in sorted(ended.items()))}")
    for outcome in failed:
        print(f"FAILED {outcome.test}\n       {outcome.message[:200]}")
    if not outcomes:
        print("no test reached a prediction")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
