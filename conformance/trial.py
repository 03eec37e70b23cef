"""One graph as a trial of the converter and of ``verify``: converted, run, and held against another engine's answer.

The numbers are judged twice: here, without coreproof's own tolerances, and by ``verify``, which has to say the same.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from multiprocessing import TimeoutError, get_context
from multiprocessing.pool import IMapIterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx

import coreproof as cp
from conformance.allowed import Feed, allowances, difference, leaves_range
from conformance.origin import write_record
from coreproof.errors import ConversionError, RunError, UnsupportedOperatorsError
from coreproof.model.base import Model

FORMATS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mlprogram-fp32": ("mlprogram", {"precision": "fp32"}),
    "mlprogram-fp16": ("mlprogram", {"precision": "fp16"}),
    "neuralnetwork": ("neuralnetwork", {}),
}
FAULTS = ("wrong", "false alarm", "missed", "does not run", "breaks")
"""What must not happen; "refused" is allowed, and counted."""

Allowed = Callable[[bool], dict[str, float] | None]
"""What each output may be off, asked with whether the format computes in float16."""
Task = TypeVar("Task")


def trial(
    folder: Path,
    source: Model,
    fed: Feed,
    exact: Feed,
    name: str,
    allowed: Allowed,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> tuple[str, str]:
    """How one conversion ended, in one word of many, and why.

    ``exact``: another engine's answer by the outputs' names; ``allowed``: what each output may be off, asked for the format;
    None where the format cannot hold the source's own values. ``shapes`` are asked for where lengths are free.
    """
    to, options = FORMATS[name]
    stored = folder / ("model.mlpackage" if to == "mlprogram" else "model.mlmodel")
    doubt = ""
    try:
        try:
            converted = cp.convert(source, to, shapes=shapes, **options)
        except ConversionError as error:
            if "does not answer as its source does" not in error.problem:
                raise
            # it was lowered, and what convert's check says is a verdict as verify's is: the numbers tell whether it is right
            doubt = first_line(error)
            converted = cp.convert(source, to, shapes=shapes, check=False, **options)
        converted.save(stored)
    except (ConversionError, UnsupportedOperatorsError) as error:
        return "refused", first_line(error)
    except Exception as error:
        return "breaks", first_line(error)
    loaded = cp.load(stored)
    try:
        with cp.session(loaded) as running:
            # a single number is fed as an array of one, the least a Core ML input can be
            values = map(np.atleast_1d, fed.values())
            answer = running.run(dict(zip((f.name for f in loaded.signature.inputs), values, strict=True)))
    except Exception as error:
        return "does not run", first_line(error)
    allowance = allowed(name.endswith("fp16"))
    try:
        verification: cp.Verification | None = cp.verify(source, loaded, fed)
    except RunError as error:
        if error.where != source.name:
            return "breaks", f"verify: {first_line(error)}"
        verification = None  # no engine of ours runs the source: the numbers are judged here alone
    except Exception as error:
        return "breaks", f"verify: {first_line(error)}"
    by_name = dict(zip(exact, answer.values(), strict=False)) if not exact.keys() <= answer.keys() else answer
    if allowance is None:
        return "beyond the format", "" if verification else "verify says so"
    off = {n: difference(v, by_name[n]) for n, v in exact.items()}
    wrong = {n: f"{off[n]:.3g} (allowed {allowance[n]:.3g})" for n in exact if not off[n] <= allowance[n]}
    if wrong:
        if verification and wrong.keys() <= _drowned(verification):
            return "beyond the format", f"verify says that rounding changes it: {wrong}"
        return ("wrong", f"{wrong}") if not verification else ("missed", f"{wrong}")
    if verification is None:
        return "right", "not verified: ONNX Runtime does not run the source"
    if doubt and name.endswith("fp16"):
        return "refused", doubt  # on what convert draws itself, which float16 may not hold
    if not verification or doubt:
        row = next((r for r in verification.rows if not r.agrees), None)
        return (
            "false alarm",
            doubt if row is None else f"{row.operator} {row.candidate} ({row.how}): {row.judgement.problem}",
        )
    return "right", ""


def _drowned(verification: cp.Verification) -> set[str]:
    """The outputs of which the verdict itself says that rounding makes others of them: what it ends with is no green one."""
    return {
        name
        for weakness in verification.weaknesses
        if weakness.fails and weakness.kind == "rounding"
        for name in weakness.values
    }


def onnx_trial(model: onnx.ModelProto, fed: Feed, exact: Feed, name: str) -> tuple[str, str]:
    """The trial of an ONNX graph."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        onnx.save(model, folder / "source.onnx")
        try:
            source = cp.load(folder / "source.onnx")
        except Exception as error:
            return "breaks", first_line(error)
        free = {
            f.name: fed[f.name].shape
            for f in source.signature.inputs
            if any(not isinstance(n, int) for n in f.shape or ())
        }
        ended = trial(folder, source, fed, exact, name, lambda half: allowances(model, fed, exact, half), free)
    if ended[0] == "false alarm" and name.endswith("fp16") and leaves_range(model, fed):
        # the outputs may be right by chance, as the sine of a number that has no digits left: the alarm is true
        return "beyond the format", "an inner value is beyond float16, and verify says so"
    return ended


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def quiet() -> None:
    """What libraries say while they work is of no use here."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def summary(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts by format, and the reasons of what was skipped and refused."""
    formats = [name for name in FORMATS if any(name in record for record in found)]
    counts = {name: dict(Counter(r[name][0] for r in found if name in r)) for name in formats}
    refused = Counter(r[name][1][:100] for name in formats for r in found if name in r and r[name][0] == "refused")
    return {
        "trials": len(found),
        "skipped": sum("skipped" in r for r in found),
        **counts,
        "refused": dict(refused.most_common(40)),
    }


def faults(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must not be, by format."""
    return {name: record[name] for name in FORMATS if name in record and record[name][0] in FAULTS}


_MEMORY = 14 << 30
"""Address space of a worker in bytes: what runs wild gets a MemoryError before the machine has nothing left."""
_SECONDS = 240
"""After so long it is said that a trial still works, and written down where."""
_STANDING = Path(__file__).parent.parent / "build" / "trials"
"""Where a worker's file says in which lines its trial stands, once that takes so long; no output that looks like a failure."""


def _bounded() -> None:
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, most))


def _watched(judge: Callable[[Task], dict[str, Any]], task: Task) -> dict[str, Any]:
    with open(_STANDING / f"{os.getpid()}.txt", "w", encoding="utf-8") as standing:
        faulthandler.dump_traceback_later(_SECONDS, repeat=True, file=standing)
        try:
            return judge(task)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _as_they_end(outcomes: IMapIterator[dict[str, Any]], tasks: int) -> Iterator[dict[str, Any]]:
    """The outcomes in the order of their tasks; a line on the console for one that is long in coming."""
    for number in range(1, tasks + 1):
        while True:
            try:
                outcome = outcomes.next(_SECONDS)
            except TimeoutError:
                print(
                    f"waiting for trial {number} of {tasks}; {_STANDING}/*.txt say where each worker stands", flush=True
                )
            else:
                yield outcome
                break


def carry_out(
    judge: Callable[[Task], dict[str, Any]],
    tasks: Sequence[Task],
    jobs: int,
    record: Path | None,
    command: str,
    begin_with: Sequence[str] = ("conformance.preloaded",),
) -> int:
    """Judges all tasks in worker processes, prints what must not be and a summary, and writes the record; 1 for any fault.

    The modules ``begin_with`` are imported once, and not by each of the workers, which end after some tasks.
    """
    found: list[dict[str, Any]] = []
    _STANDING.mkdir(parents=True, exist_ok=True)
    context = get_context("forkserver")
    context.set_forkserver_preload(list(begin_with))
    # a Pool waits for ever for a worker that the system kills, which the bound on its memory keeps from happening
    with context.Pool(jobs, initializer=_bounded, maxtasksperchild=40) as pool:
        for outcome in _as_they_end(pool.imap(partial(_watched, judge), tasks), len(tasks)):
            found.append(outcome)
            if bad := faults(outcome):
                print(next(iter(outcome.values())), json.dumps(bad), flush=True)
            if len(found) % 50 == 0:
                print(f"{len(found)} of {len(tasks)}", flush=True)
        # workers that end by themselves tidy up; of those that are ended, Python warns that something leaked
        pool.close()
        pool.join()
    counted = summary(found)
    print(json.dumps(counted, indent=2))
    if record is not None:
        write(record, command, counted, found)
    failed = sum(len(faults(outcome)) for outcome in found)
    tried = sum(name in outcome for outcome in found for name in FORMATS)
    print(f"{tried - failed} passed, {failed} failed, {counted['skipped']} skipped")
    return int(failed > 0)


def write(path: Path, command: str, counted: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> None:
    """The record of a run, with its command, commit and date."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    ).stdout.strip()
    whole = {
        "command": command,
        "commit": commit,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **counted,
        "records": list(found),
    }
    write_record(path, whole)
