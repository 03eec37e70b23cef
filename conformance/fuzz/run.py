"""A run: mutants by their schedule through one or several workers, failures collected by (exception, place), a record kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import Any

from conformance.fuzz.kinds import schedule
from conformance.fuzz.seeds import lay_seeds
from conformance.origin import write_record

_TOGETHER = 20
"""Mutants that share a child as long as none of them fails."""


class Server:
    """One worker process."""

    def __init__(self, folder: Path) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        # found from any folder: a test may run in a temporary one
        search = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "conformance.fuzz.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads, "PYTHONPATH": search, "PYTHONHASHSEED": "0", "NO_COLOR": "1"},
            text=True,
        )
        self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker of the fuzzer ended with {self.process.wait()}: see above")
        return json.loads(line)

    def ask(self, seed: int, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The outcomes of mutants: each task a kind and a number, and perhaps verbs, or a folder with the files."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"seed": seed, "tasks": tasks}) + "\n")
        self.process.stdin.flush()
        answers: list[dict[str, Any]] = self._read()
        return answers

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@contextmanager
def servers(count: int) -> Iterator[Queue[Server]]:
    """``count`` workers beside one folder of healthy files, which goes with them."""
    with tempfile.TemporaryDirectory(prefix="coreproof-fuzz-") as scratch:
        folder = Path(scratch)
        lay_seeds(folder / "seeds")
        with ThreadPoolExecutor(count) as starters:
            started = list(starters.map(lambda _: Server(folder), range(count)))
        free: Queue[Server] = Queue()
        for server in started:
            free.put(server)
        try:
            yield free
        finally:
            for server in started:
                server.close()


class Record:
    """What is known of a run so far, as JSON; it goes on where it stopped."""

    def __init__(self, seed: int, kinds: Sequence[str]) -> None:
        self.seed = seed
        self.kinds = list(kinds)
        self.next = 0
        self.seconds = 0.0
        self.mutants: Counter[str] = Counter()
        self.ends: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
        self.refusals: Counter[str] = Counter()
        self.failures: dict[str, dict[str, Any]] = {}
        self.repaired: list[dict[str, Any]] = []

    def count(self, answer: dict[str, Any]) -> None:
        """One mutant's outcomes."""
        kind = answer["kind"]
        self.next += 1
        self.mutants[kind] += 1
        for outcome in answer["outcomes"]:
            self.ends[kind][outcome["end"]] += 1
            if outcome["end"] == "refused":
                self.refusals[outcome["error"]] += 1
            elif outcome["end"] != "fine":
                self._fail(answer, outcome)

    def _fail(self, answer: dict[str, Any], outcome: dict[str, Any]) -> None:
        key = f"{outcome['error']}@{outcome['place']}"
        first = {name: answer[name] for name in ("kind", "number", "what")}
        first |= {name: outcome[name] for name in ("verb", "message", "trace")}
        known = self.failures.setdefault(key, {"count": 0, "verbs": {}, **first})
        known["count"] += 1
        known["verbs"][outcome["verb"]] = known["verbs"].get(outcome["verb"], 0) + 1

    def retry(self, server: Server) -> None:
        """Counts the failures whose first mutant fails no longer, or otherwise, as repaired: "ends" keeps how they ended."""
        for key, failure in list(self.failures.items()):
            task = {"kind": failure["kind"], "number": failure["number"], "verbs": [failure["verb"]]}
            (answer,) = server.ask(self.seed, [task])
            if key not in {f"{outcome['error']}@{outcome['place']}" for outcome in answer["outcomes"]}:
                del self.failures[key]
                told = {name: failure[name] for name in ("kind", "number", "verb", "count")}
                now = {outcome["verb"]: outcome["end"] for outcome in answer["outcomes"]}
                self.repaired.append({"key": key, **told, "ends now": now.get(failure["verb"])})

    def to_json(self, **about: Any) -> dict[str, Any]:
        """The record, failures by count."""
        ordered = sorted(self.failures.items(), key=lambda f: (-f[1]["count"], f[0]))
        return {
            **about,
            "seed": self.seed,
            "kinds": self.kinds,
            "mutants": self.next,
            "verbs tried": sum(sum(ends.values()) for ends in self.ends.values()),
            "seconds": round(self.seconds, 1),
            "mutants by kind": dict(sorted(self.mutants.items())),
            "ends": {kind: dict(sorted(ends.items())) for kind, ends in self.ends.items()},
            "refusals": dict(self.refusals.most_common()),
            "repaired": self.repaired,
            "failures": [{"key": key, **failure} for key, failure in ordered],
        }

    def resume(self, stored: dict[str, Any]) -> None:
        """Takes up a stored record of the same seed and kinds."""
        if stored.get("seed") != self.seed or stored.get("kinds") != self.kinds:
            raise SystemExit(
                "the record is of another run: its seed or its kinds differ; give another --json, or delete it"
            )
        self.next, self.seconds = stored["mutants"], stored["seconds"]
        self.mutants.update(stored["mutants by kind"])
        for kind, ends in stored["ends"].items():
            self.ends[kind].update(ends)
        self.refusals.update(stored["refusals"])
        self.repaired = list(stored.get("repaired", ()))
        self.failures = {failure.pop("key"): failure for failure in stored["failures"]}


def run(record: Record, count: int, jobs: int, deadline: float | None, tell: Any) -> None:
    """Carries out the mutants from where the record stands; ``tell`` hears of it after each. Counted in order."""
    due = iter(schedule(record.kinds, count, record.next))
    began, before = time.perf_counter(), record.seconds

    with servers(jobs) as free, ThreadPoolExecutor(jobs) as pool:

        def some(tasks: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
            server = free.get()
            try:
                return server.ask(record.seed, [{"kind": kind, "number": number} for kind, number in tasks])
            finally:
                free.put(server)

        waiting: list[Future[list[dict[str, Any]]]] = []
        while True:
            late = deadline is not None and time.perf_counter() - began > deadline
            while not late and len(waiting) < 2 * jobs and (tasks := list(islice(due, _TOGETHER))):
                waiting.append(pool.submit(some, tasks))
            if not waiting:
                break
            for answer in waiting.pop(0).result():
                record.count(answer)
            record.seconds = before + time.perf_counter() - began
            tell(record)


def save(record: Record, path: Path, **about: Any) -> None:
    """Writes the record in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, record.to_json(**about))
