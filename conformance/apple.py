"""Apple's own tests as a judge: every prediction that coremltools' test suite makes is answered by coreproof.testing.

    python -m conformance.apple --suite FOLDER [--python PYTHON] [--sets N] [--only TEXT] [--slice | DIRECTORY...]

FOLDER holds ``run.sh``, which runs the unmodified tests of the coremltools wheel with a stand-in for Core ML's native
binding. Each test directory runs twice over: with float32 programs, and with float16 ones under a strict tolerance. Tests
that need an operation which is not lowered are counted apart. Writes conformance/results/apple.json and
docs/operators-mlprogram.md when all directories are run; a part of them writes nothing.
``--sets 0`` runs the whole suite, as far as it reaches a prediction. That takes hours: it goes on where it was cut off, and
ends with conformance/results/apple_whole.json.
What no runtime can pass stands in conformance/apple_known_failures.json, with the reason; any other failure ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.apple_parts import DIRECTORIES, SLICE, STRICT_FP16, Part, run_part, whole_suite
from conformance.origin import origin

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "apple.json"
WHOLE_RESULTS = HERE / "results" / "apple_whole.json"
KNOWN_FAILURES = HERE / "apple_known_failures.json"
TABLE = HERE.parent / "docs" / "operators-mlprogram.md"

SLICE_ONLY = "not random_ and not conv2d_stress and not cpu_slow and not _gpu"
"""Without random_*, which hold the moments of two small samples against each other, so that chance decides; without what draws
for a minute; and without test_X_gpu, each of which does what its test_X_cpu does: the same where there is no Core ML that would
compute on another unit. The whole run has them."""


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


@dataclass
class _Predictions:
    """What the predictions of one test had in common: a record holds a hundred thousand lines, and few that differ."""

    kind: str = ""
    operators: set[str] = field(default_factory=set)
    not_lowered: str | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Takes in one prediction."""
        self.kind = str(event["kind"])
        self.operators.update(event["ops"])
        if event.get("outcome") == "not_implemented" and self.not_lowered is None:
            self.not_lowered = str(event["exc"])


def read_record(record: Path) -> list[Outcome]:
    """The tests of one record that reached a prediction."""
    predictions: dict[str, _Predictions] = defaultdict(_Predictions)
    ends: dict[str, dict[str, Any]] = {}
    with record.open() as lines:
        for line in lines:
            event = json.loads(line)
            if event["ev"] == "predict":
                predictions[event["test"]].add(event)
            elif event["ev"] == "test":
                ends[event["test"]] = event
    return [_outcome(test, ends[test], predicted) for test, predicted in predictions.items() if test in ends]


def _outcome(test: str, end: Mapping[str, Any], predicted: _Predictions) -> Outcome:
    precision = re.search(r"precision='(fp\d+)'", test)
    message = str(end.get("msg", ""))
    if predicted.not_lowered is not None:
        status, message = "not lowered", predicted.not_lowered
    elif end.get("outcome") in ("xfailed", "xpassed"):
        status = "expected to fail"
    else:
        status = "passed" if end.get("outcome") == "passed" else "failed"
    return Outcome(
        test=test,
        kind=predicted.kind,
        precision=precision.group(1) if precision else "fp32",
        operators=tuple(sorted(predicted.operators)),
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


def vacuous(suite: Path) -> frozenset[str]:
    """The tests that pass whatever is predicted, as the suite lists them: they prove nothing and are not counted."""
    listed = suite / "tables" / "vacuous_ids.txt"
    return frozenset(listed.read_text().splitlines()) if listed.is_file() else frozenset()


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """What is to be run, from the command line."""
    parser = argparse.ArgumentParser(prog="conformance.apple", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suite", type=Path, default=os.environ.get("COREPROOF_APPLE_SUITE"), help="folder of run.sh")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the suite's requirements")
    parser.add_argument(
        "--sets", type=int, default=1, help="parameter sets of each test function; 0 for the whole suite, which resumes"
    )
    parser.add_argument("--only", help="pytest -k expression")
    parser.add_argument(
        "--slice", action="store_true", help="only the directories that are quick; skips without a suite"
    )
    parser.add_argument("--records", type=Path, default=HERE.parent / "build" / "apple", help="where records go")
    parser.add_argument("--fresh", action="store_true", help="with --sets 0: run again what has been run")
    parser.add_argument("--read-only", action="store_true", help="make the tables from the records that are there")
    parser.add_argument("directories", nargs="*", default=DIRECTORIES)
    chosen = parser.parse_args(arguments)
    if chosen.suite is None and not chosen.read_only and not chosen.slice:
        parser.error("--suite FOLDER (or COREPROOF_APPLE_SUITE) must name the folder that holds run.sh")
    if chosen.slice and not chosen.only:
        chosen.only = SLICE_ONLY
    return chosen


def parts_of(chosen: argparse.Namespace) -> list[Part]:
    """The pieces that are run, in their order."""
    if chosen.slice:
        return [Part(directory) for directory in SLICE]
    asked = tuple(chosen.directories)
    if chosen.sets:
        return [Part(directory) for directory in asked]
    return [part for part in whole_suite() if asked == DIRECTORIES or part.directory in asked]


def run_parts(chosen: argparse.Namespace, parts: list[Part]) -> list[Outcome]:
    """Runs each part, of the whole suite only those that have not ended yet, and reads what became of their tests."""
    commit = origin("conformance.apple")["commit"]
    records, whole = chosen.records.resolve(), not chosen.sets and not chosen.slice
    outcomes: list[Outcome] = []

    def run(number: int, part: Part, **alone: int) -> None:
        known = part.finished_at(records) if whole and not chosen.fresh else None
        if not chosen.read_only and known is None:
            print(f"[{number}/{len(parts)}] {part.name}", flush=True)
            part.forget(records)
            suite = Path(chosen.suite).resolve()
            if run_part(suite, chosen.python, part, records, chosen.sets, chosen.only, **alone):
                part.finish(records, commit)

    if chosen.slice:
        # each worker imports for ten seconds before its first test: the parts run side by side, with none but themselves
        with ThreadPoolExecutor(len(parts)) as pool:
            for begun in [pool.submit(run, number, part, workers=0) for number, part in enumerate(parts, 1)]:
                begun.result()
    else:
        for number, part in enumerate(parts, 1):
            run(number, part)
    for part in parts:
        if part.record(records).is_file():
            outcomes += read_record(part.record(records))
    return outcomes


def record_results(chosen: argparse.Namespace, parts: list[Part], outcomes: list[Outcome]) -> None:
    """Writes the results of a run that left nothing out; a part of the suite writes nothing."""
    if chosen.only or chosen.slice:
        return
    shown = [asdict(o) for o in outcomes if o.status in ("failed", "not lowered")]
    document = {**origin("conformance.apple"), "sets": chosen.sets, "summary": summary(outcomes), "not passed": shown}
    if tuple(chosen.directories) == DIRECTORIES and chosen.sets:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        TABLE.write_text(operator_table(outcomes))
    commits = {part.finished_at(chosen.records.resolve()) for part in parts}
    if not chosen.sets and tuple(chosen.directories) == DIRECTORIES and None not in commits:
        by_directory: dict[str, Counter[str]] = defaultdict(Counter)
        for part in parts:
            for outcome in read_record(part.record(chosen.records.resolve())):
                by_directory[part.directory][outcome.status] += 1
        document["commit"] = ", ".join(sorted(str(commit) for commit in commits))
        document["directories"] = {name: dict(counts) for name, counts in by_directory.items()}
        WHOLE_RESULTS.write_text(json.dumps(document, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs the suite; 1 when a test failed whose operations are all lowered, and of which no runtime could do better."""
    chosen = arguments_of(arguments)
    if chosen.slice and chosen.suite is None:
        print("skipped: COREPROOF_APPLE_SUITE names no folder that holds run.sh")
        return 0
    parts = parts_of(chosen)
    outcomes = run_parts(chosen, parts)
    proves_nothing = vacuous(Path(chosen.suite)) if chosen.suite else frozenset()
    outcomes = [outcome for outcome in outcomes if outcome.test not in proves_nothing]
    record_results(chosen, parts, outcomes)
    failed, known = [], known_failures()
    for outcome in (o for o in outcomes if o.status == "failed"):
        if reason := next((k.reason for k in known if k.explains(outcome)), None):
            print(f"known to fail: {outcome.test.rpartition('/')[2]}\n       {reason}")
        else:
            failed.append(outcome)
    for name, ended in summary(outcomes).items():
        print(f"{name:32s} {', '.join(f'{count} {status}' for status, count in sorted(ended.items()))}")
    for outcome in failed:
        print(f"FAILED {outcome.test}\n       {outcome.message[:200]}")
    counted = Counter(outcome.status for outcome in outcomes)
    if judged := counted["passed"] + counted["failed"] + counted["not lowered"]:
        print(f"{counted['passed']} of {judged} tests that reach a prediction passed: {counted['passed'] / judged:.2%}")
    else:
        print("no test reached a prediction")
    return 1 if failed or not judged else 0


if __name__ == "__main__":
    sys.exit(main())
