"""The worker: a warm process that forks once a mutant, watches time and memory, and says how each verb ended.

    python -m conformance.fuzz.worker FOLDER

reads tasks from standard input and writes outcomes to standard output, one JSON object a line. Everything is imported and has
been run once before the first fork, so that a mutant costs what it costs and nothing else. Needs a system with fork and /proc.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

SECONDS = 20.0
"""Processor time that a verb may take; the clock on the wall is allowed three times that, as others use the machine too."""
IDLE = 5.0
"""Seconds that a verb may sleep at a stretch: it waits for what never comes, as from a pipe."""
BYTES = 3 << 30
"""What may be resident at any time."""
ADDRESSES = 8 << 30
"""What may be asked for beyond what the warm process has: ends what the watch is too slow for."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Serves until standard input ends."""
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    warnings.simplefilter("ignore")
    worker = Worker(folder)
    worker.warm()
    print(json.dumps({"ready": True, "threads": len(os.listdir("/proc/self/task"))}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.carry_out(**json.loads(line))), file=answers, flush=True)


class Worker:
    """``folder`` holds the healthy files in ``seeds``; the worker writes into a folder of its own beside them."""

    def __init__(self, folder: Path) -> None:
        from conformance.fuzz.seeds import read_seeds

        self.seeds = folder / "seeds"
        self.cases = read_seeds(self.seeds)
        self.room = folder / f"worker-{os.getpid()}"
        self._aside = contextlib.ExitStack()

    def warm(self) -> None:
        """Runs every verb once on a healthy file of each kind, then leaves what is in memory to all children."""
        import torch

        from conformance.fuzz.kinds import KINDS
        from coreproof.model.collector import only_what_is_new

        torch.set_num_threads(1)
        for kind in KINDS.values():
            for case in self.cases[kind.name][:1]:
                scene = self._scene(kind.name, case, case.files)
                for verb in kind.verbs:
                    if verb.name not in ("app", "prove"):
                        with contextlib.suppress(Exception, SystemExit):
                            verb.call(scene)
                self._clear()
        gc.collect()
        self._aside.enter_context(only_what_is_new())  # for good, and known to each verification in a child

    def _scene(self, kind: str, case: Any, files: Any) -> Any:
        from conformance.fuzz.files import write
        from conformance.fuzz.verbs import Scene

        self._clear()
        for part in ("mutant", "out", "here"):
            (self.room / part).mkdir(parents=True)
        write(files, self.room / "mutant")
        return Scene(kind, case, self.room / "mutant", self.seeds / kind / case.name, self.seeds, self.room / "out")

    def _clear(self) -> None:
        for name in os.listdir(self.room) if self.room.is_dir() else ():
            if name != "dump.txt":
                shutil.rmtree(self.room / name, ignore_errors=True)

    def carry_out(self, seed: int, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The outcomes of mutants: all in one child as long as nothing fails; what fails is tried again in a child of its own."""
        answers: list[dict[str, Any]] = []
        while left := tasks[len(answers) :]:
            found = self._child(seed, [(task, self._verbs(seed, task)) for task in left])
            for answer, task in zip(found, left, strict=False):
                whole = len(answer["outcomes"]) == len(self._verbs(seed, task))
                fails = any(outcome["end"] not in ("fine", "refused") for outcome in answer["outcomes"])
                answers.append(self._alone(seed, task, answer) if fails or not whole else answer)
        self._clear()
        return answers

    def _alone(self, seed: int, task: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        """One mutant, verb after verb, in a new child after each that is taken down."""
        answer: dict[str, Any] = {**before, "outcomes": []}
        left = self._verbs(seed, task)
        while (
            left and sum(o["end"] in ("timeout", "memory") for o in answer["outcomes"]) < 2
        ):  # the third says nothing new
            (found,) = self._child(seed, [(task, left)])
            answer["outcomes"] += found["outcomes"]
            left = left[len(found["outcomes"]) :]
        if all(outcome["end"] in ("fine", "refused") for outcome in answer["outcomes"]):
            return {**before, "what": f"{before['what']} (only after other mutants)"}
        return answer

    def _verbs(self, seed: int, task: dict[str, Any]) -> list[Any]:
        from conformance.fuzz.kinds import KINDS

        wanted = task.get("verbs") or drawn(seed, task["kind"], task["number"])
        return [verb for verb in KINDS[task["kind"]].verbs if verb.name in wanted]

    def _child(self, seed: int, tasks: Sequence[tuple[dict[str, Any], Sequence[Any]]]) -> list[dict[str, Any]]:
        """Carries out tasks in a child until all are done or one takes it down; the last answer then ends with that verb."""
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(receiver)
                os.setpgid(0, 0)
                self._live(seed, tasks, os.fdopen(sender, "w", encoding="utf-8"))
            finally:
                os._exit(9)
        os.close(sender)
        answers: list[dict[str, Any]] = []
        with os.fdopen(receiver, encoding="utf-8", errors="replace") as lines:
            watch = _Watch(child)
            for line in _watched(lines, watch):
                if "start" in line:
                    watch.begin(line["start"])
                elif "what" in line:
                    task = tasks[len(answers)][0]
                    answers.append(
                        {"kind": task["kind"], "number": task["number"], "what": line["what"], "outcomes": []}
                    )
                else:
                    answers[-1]["outcomes"].append(line)
            _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        if status or watch.broken is not None:
            self._took_down(tasks, answers, watch, status)
        return answers

    def _took_down(self, tasks: Any, answers: list[dict[str, Any]], watch: _Watch, status: int) -> None:
        if not answers or (
            len(answers[-1]["outcomes"]) == len(tasks[len(answers) - 1][1]) and len(answers) < len(tasks)
        ):
            raise RuntimeError(f"mutant {tasks[len(answers)][0]} could not be made: {self._dump()}")
        _, verbs = tasks[len(answers) - 1]
        done = len(answers[-1]["outcomes"])
        if done < len(verbs):
            answers[-1]["outcomes"].append(self._ended(watch, verbs[done].name, status))

    def _dump(self) -> str:
        dump = self.room / "dump.txt"
        return dump.read_text(encoding="utf-8", errors="replace") if dump.is_file() else ""

    def _ended(self, watch: _Watch, verb: str, status: int) -> dict[str, Any]:
        from conformance.fuzz.outcome import of_dump

        text = self._dump()
        if watch.broken is not None:
            return of_dump(verb, watch.broken, watch.broken, text, watch.seconds).to_json()
        killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        name = signal.Signals(killed).name if killed else f"exit code {os.waitstatus_to_exitcode(status)}"
        return of_dump(verb, "died", name, text, watch.seconds).to_json()

    # in the child

    def _live(self, seed: int, tasks: Sequence[tuple[dict[str, Any], Sequence[Any]]], answers: Any) -> None:
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        sys.stdout, sys.stderr = (open(os.devnull, "w", encoding="utf-8") for _ in range(2))  # noqa: SIM115
        self.room.mkdir(parents=True, exist_ok=True)
        dump = open(self.room / "dump.txt", "w", encoding="utf-8")  # noqa: SIM115 - open as long as the child lives
        faulthandler.enable(dump)
        faulthandler.register(signal.SIGUSR2, dump)
        here = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        resource.setrlimit(resource.RLIMIT_AS, (here + ADDRESSES, here + ADDRESSES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for task, verbs in tasks:
            try:
                scene, what = self._made(seed, **task)
            except BaseException:
                traceback.print_exc(file=dump)
                dump.flush()
                raise
            _say(answers, {"what": what})
            before = self._standing()
            for verb in verbs:
                _say(answers, {"start": verb.name})
                outcome = self._outcome(verb, scene)
                if outcome["end"] != "failed" and (changed := self._standing()) != before:
                    lost = sorted({*changed} ^ {*before})
                    outcome |= {
                        "end": "escaped",
                        "error": "wrote outside",
                        "message": f"{lost[:3]}",
                        "place": "outside",
                    }
                    before = changed
                _say(answers, outcome)
        os._exit(0)

    def _made(
        self,
        seed: int,
        kind: str,
        number: int,
        files: str | None = None,
        case: str = "",
        main: str | None = None,
        verbs: Any = None,
    ) -> tuple[Any, str]:
        """The mutant on disk and what was done to it.

        ``files``: a folder with a mutant that was made elsewhere, as if from ``case``; ``main``: what the verbs are given.
        """
        from conformance.fuzz.damage import mutant
        from conformance.fuzz.files import read

        cases = self.cases[kind]
        if files is None:
            made, damaged, what = mutant(seed, kind, number, cases)
        else:
            made, what = next(c for c in cases if c.name == case), f"{case}: given"
            made = made if main is None else replace(made, main=main, healthy=made.main)
            damaged = dict(read(Path(files)))
        os.chdir("/")
        scene = self._scene(kind, made, damaged)
        os.chdir(self.room / "here")
        return scene, what

    def _outcome(self, verb: Any, scene: Any) -> dict[str, Any]:
        from conformance.fuzz.outcome import Outcome, of_exception

        shutil.rmtree(scene.out, ignore_errors=True)
        scene.out.mkdir()
        began = time.perf_counter()
        try:
            verb.call(scene)
        except BaseException as error:
            return of_exception(verb.name, error, round(time.perf_counter() - began, 3)).to_json()
        return Outcome(verb.name, "fine", seconds=round(time.perf_counter() - began, 3)).to_json()

    def _standing(self) -> tuple[tuple[str, int, int], ...]:
        """What lies where no verb may write: the mutant itself, the working folder, and around them."""
        found = []
        for folder, folders, names in os.walk(self.room):
            if folder == str(self.room):
                folders.remove("out")
            for name in (*folders, *names):
                about = os.lstat(os.path.join(folder, name))
                if name != "dump.txt":
                    found.append(
                        (os.path.relpath(os.path.join(folder, name), self.room), about.st_size, about.st_mtime_ns)
                    )
        return tuple(sorted(found))


class _Watch:
    """Time and memory of a child since its current verb began."""

    def __init__(self, child: int) -> None:
        self.child = child
        self.verb = ""
        self.broken: Any = None
        self.begin("making the mutant")

    def begin(self, verb: str) -> None:
        self.verb = verb
        self.wall = self.moved = time.perf_counter()
        self.used = self.seen = self._processor()[0]

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self.wall, 3)

    def _processor(self) -> tuple[float, str]:
        """Seconds used, and the state: S sleeps, R runs or waits for a processor."""
        try:
            fields = Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0, "Z"
        return (int(fields[11]) + int(fields[12])) / _TICKS, fields[0]

    def look(self) -> bool:
        """Whether a bound is broken."""
        try:
            resident = int(Path(f"/proc/{self.child}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return False
        used, state = self._processor()
        now = time.perf_counter()
        if used != self.seen or state != "S":
            self.seen, self.moved = used, now
        if resident > BYTES:
            self.broken = "memory"
        elif used - self.used > SECONDS or now - self.wall > 3 * SECONDS or now - self.moved > IDLE:
            self.broken = "timeout"
        return self.broken is not None


def _watched(lines: Any, watch: _Watch) -> Iterator[dict[str, Any]]:
    """What the child says, line by line, until it ends or breaks a bound; then it is ended."""
    pending = ""
    while True:
        ready, _, _ = select.select([lines.fileno()], [], [], 0.03)
        if ready:
            data = os.read(lines.fileno(), 1 << 16)
            if not data:
                return
            pending += data.decode("utf-8", "replace")
            *whole, pending = pending.split("\n")
            yield from map(json.loads, whole)
        elif watch.look():
            with contextlib.suppress(ProcessLookupError):
                os.kill(watch.child, signal.SIGUSR2)  # says where it stands
                time.sleep(0.2)
                os.killpg(watch.child, signal.SIGKILL)
            return


def _say(answers: Any, line: dict[str, Any]) -> None:
    answers.write(json.dumps(line) + "\n")
    answers.flush()


def drawn(seed: int, kind: str, number: int) -> list[str]:
    """The verbs that a mutant goes through: all quick ones, of the slow ones some."""
    from conformance.fuzz.kinds import KINDS

    rng = Random(f"{seed}/{kind}/{number}/verbs")
    return [verb.name for verb in KINDS[kind].verbs if rng.randrange(verb.one_in) == 0]


if __name__ == "__main__":
    main()
