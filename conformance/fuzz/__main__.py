"""The fuzzer's command line; see the package."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conformance.fuzz.damage import mutant
from conformance.fuzz.files import write
from conformance.fuzz.kinds import KINDS
from conformance.fuzz.run import Record, run, save, servers

_SAVES = 15.0
"""Seconds between two records on disk."""


def main() -> int:
    """Exit code 0: no failure; 1: some."""
    options = _options()
    if options.number is not None:
        return _one(options)
    kinds = sorted(options.kind or KINDS, key=list(KINDS).index)
    record = Record(options.seed, kinds)
    if options.json is not None and options.json.is_file() and not options.again:
        import json

        record.resume(json.loads(options.json.read_text(encoding="utf-8")))
    if options.retry:
        with servers(1) as free:
            record.retry(free.get())
    if options.collect is not None:
        from conformance.fuzz.found import collect

        with servers(1) as free:
            large = collect(record, free.get(), options.collect)
        print(f"{len(record.failures) - len(large)} kept in {options.collect}; too large: {', '.join(large) or 'none'}")
        return 0
    told = [time.perf_counter()]

    def keep() -> None:
        if options.json is not None:
            save(record, options.json, command=_command(), commit=_commit(), date=datetime.now(UTC).date().isoformat())
        if options.report is not None:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            options.report.write_text(_report(record), encoding="utf-8")

    def tell(record: Record) -> None:
        if time.perf_counter() - told[0] > _SAVES:
            told[0] = time.perf_counter()
            keep()
            print(_line(record), flush=True)

    count = options.count if options.minutes is None else 10**9 if options.count is None else options.count
    run(record, count or 2000, options.jobs, options.minutes and options.minutes * 60, tell)
    keep()
    print(_report(record) if record.failures else _line(record))
    return 1 if record.failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, help="mutants of the whole run (default 2000)")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="workers at once")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; may be repeated")
    parser.add_argument("--json", type=Path, help="the record; a run goes on where the record ends")
    parser.add_argument("--again", action="store_true", help="start anew, whatever the record holds")
    parser.add_argument(
        "--retry", action="store_true", help="first forget the failures that the record holds and that are repaired"
    )
    parser.add_argument(
        "--collect", type=Path, help="write the first mutant of each failure of the record there, and stop"
    )
    parser.add_argument("--report", type=Path, help="write the distinct failures (.md) while it runs")
    parser.add_argument("--number", type=int, help="one mutant of one kind")
    parser.add_argument("--verb", action="append", help="with --number: only this verb; may be repeated")
    parser.add_argument("--keep", type=Path, help="with --number: write the mutant there")
    parser.add_argument(
        "--small", action="store_true", help="with --number and --keep: as small as the first failure allows"
    )
    return parser.parse_args()


def _one(options: argparse.Namespace) -> int:
    """That very mutant: written where it is wanted, and how it ends."""
    if not options.kind or len(options.kind) != 1:
        sys.exit("a mutant has one kind: --kind KIND --number N")
    (kind,) = options.kind
    verbs = options.verb or [verb.name for verb in KINDS[kind].verbs]
    if unknown := set(verbs) - {verb.name for verb in KINDS[kind].verbs}:
        sys.exit(f"{kind} has no verb {', '.join(sorted(unknown))}: {', '.join(v.name for v in KINDS[kind].verbs)}")
    case, files, what = mutant(options.seed, kind, options.number, KINDS[kind].cases)
    print(f"{kind} {options.number}: {what}")
    failed = False
    with servers(1) as free:
        server = free.get()
        (answer,) = server.ask(options.seed, [{"kind": kind, "number": options.number, "verbs": verbs}])
        for outcome in answer["outcomes"]:
            fails = outcome["end"] not in ("fine", "refused")
            failed |= fails
            print(
                f"{outcome['verb']:10} {outcome['end']:8} {outcome['seconds']:7.3f}s  {outcome['error']} {outcome['place']}"
            )
            text = outcome["trace"] if fails else outcome["message"]
            print("".join(f"    {line}\n" for line in text.splitlines()), end="")
        if options.small:
            from conformance.fuzz.smaller import smaller

            files = smaller(server, options.seed, kind, options.number, case, files, answer["outcomes"])
    if options.keep is not None:
        write(files, options.keep)
        print(f"written: {options.keep / case.main}")
    return 1 if failed else 0


def _line(record: Record) -> str:
    ends: dict[str, int] = {}
    for counted in record.ends.values():
        for end, number in counted.items():
            ends[end] = ends.get(end, 0) + number
    shown = ", ".join(f"{number} {end}" for end, number in sorted(ends.items()))
    speed = record.next / record.seconds if record.seconds else 0
    return f"{record.next} mutants ({speed:.1f}/s): {shown}; {len(record.failures)} distinct failures"


def _report(record: Record) -> str:
    lines = [
        f"# {_line(record)}",
        "",
        f"`python -m conformance.fuzz --seed {record.seed} --kind KIND --number N --verb VERB`",
        "",
    ]
    for failure in record.to_json()["failures"]:
        verbs = ", ".join(f"{verb} {count}x" for verb, count in failure["verbs"].items())
        where = f"`--kind {failure['kind']} --number {failure['number']} --verb {failure['verb']}`"
        message = " ".join(failure["message"].split())[:160]
        lines.append(f"- **{failure['key']}** {failure['count']}x ({verbs}) {where}")
        lines.append(f"  {message} | {' '.join(failure['what'].split())[:200]}")
    return "\n".join(lines) + "\n"


def _command() -> str:
    return " ".join(["python", "-m", "conformance.fuzz", *sys.argv[1:]])


def _commit() -> Any:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return done.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
