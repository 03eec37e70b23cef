"""``coreproof shrink``: the smallest part of a model that still shows a fault, for a bug report."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coreproof.cli.options import Replace, StoredArgument, Trust
from coreproof.cli.progress import progress
from coreproof.cli.say import say, say_json
from coreproof.errors import InputError
from coreproof.model.files.entries import Entry, read_json
from coreproof.model.files.scratch import TemporaryFolder

if TYPE_CHECKING:
    from coreproof.doctor.divergence import Divergence
    from coreproof.editing.submodels.submodel import Submodel
    from coreproof.model.base import Model
    from coreproof.reduction.shrink import Search

_SHOWN = 12
"""Layers that are listed."""


def command(
    model: StoredArgument,
    test: Annotated[
        str | None,
        typer.Option(
            "--while",
            help="A shell command that succeeds (exit code 0) WHILE THE FAULT IS THERE. {} is the candidate's path; without "
            "{} it comes last. COREPROOF_MODEL holds it too.",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The source: the fault is that the model computes something else.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the smallest part is written.", show_default="MODEL.small")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds after which a command counts as failed.", min=0.1)] = 120,
    only_cut: Annotated[
        bool, typer.Option("--only-cut", help="Never skip a layer between others: every value stays what it was.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
    overwrite: Replace = False,
    trust: Trust = False,
) -> None:
    """Cut a model down to the smallest part that still shows a fault, for a bug report.

    The fault is one that a command sees (--while), a difference from the source (--against), or, without both, the
    first thing that keeps the model from running. What is smallest so far always stands at OUT; a search that was
    interrupted goes on where it was. Exit 0 when a smaller part was found, 1 when nothing can be left out.

      coreproof shrink net.onnx --while "coreproof show {} | grep -q HardSwish"
      coreproof shrink net.mlpackage --while "! python run_it.py {}"
    """
    from coreproof.editing.submodels.open import submodel_builder
    from coreproof.model.files.outputs import ARRAYS, check_output, model_kind
    from coreproof.model.files.paths import file_name
    from coreproof.model.load import load
    from coreproof.reduction.shrink import Search

    if not math.isfinite(timeout):
        raise InputError("--timeout takes seconds", expected="a finite number", found=str(timeout))
    if test is not None and against is not None:
        raise InputError(
            "a fault is seen by a command or by a source, not by both", fix="leave --while or --against out"
        )
    whole = load(model, trust=trust)
    # a package may hold a NeuralNetwork: what was read so is written so
    known = whole.path.suffix if whole.path is not None else ""
    suffix = known if known in (".onnx", ".mlmodel", ".mlpackage") else whole.suffix
    target = out or Path(f"{file_name(whole.name)}.small{suffix}")
    check_output(target, model_kind(target), replace=overwrite, inputs=(model, against))
    if against is not None:
        check_output(_values(target), ARRAYS, replace=overwrite)
    with contextlib.ExitStack() as stack, progress() as report:
        # another test, model or way is another search
        log = _Log(target, f"{test or against or 'inspection'}\n{_digest(whole)}\n{only_cut}", overwrite)
        search = Search(
            submodel_builder(whole), lambda _: True, report=report, tried=log.tried, keep=log.keep, known_faulty=True
        )
        stack.callback(log.store)
        said = stack.enter_context(_fault(search, whole, test, against, suffix, timeout, trust, log, overwrite))
        search.skip = search.skip and not only_cut
        search.submodel = log.plan(search.submodel)
        small = search.run()
        extra = said(small)
    written = small.save(target, replace=overwrite)
    log.close()
    if as_json:
        say_json(_document(search, written, extra))
    else:
        say(*_lines(search, written, extra, test))
    raise typer.Exit(0 if len(search.selection.layers) < len(search.builder.layers) else 1)


Evidence = Callable[["Model"], dict[str, str]]


@contextlib.contextmanager
def _fault(
    search: Search,
    whole: Model,
    test: str | None,
    against: str | None,
    suffix: str,
    timeout: float,
    trust: bool,
    log: _Log,
    overwrite: bool,
) -> Iterator[Evidence]:
    """Gives the search its test, and how the fault is told of the part that is left."""
    from coreproof.doctor.divergence import Divergence, clashing, fatal_problem
    from coreproof.model.load import load

    if test is not None:
        with TemporaryFolder() as scratch:
            runner = CommandTest(test, Path(scratch) / f"candidate{suffix}", timeout)
            # a command that does not see the fault at all would find every part too small
            runner.check(whole)
            search.still_faulty = runner
            yield lambda small: {"command": test}
        return
    problem = fatal_problem(whole)
    if problem is not None:
        search.problem, clash = problem, clashing(search.builder, problem)
        search.feedable = lambda name: name not in clash
        yield lambda small: {"fault": str(problem)}
        return
    if against is None:
        raise InputError(
            "inspection finds nothing that keeps the model from running",
            where=whole.name,
            fix="say what is wrong with it: --while COMMAND, or --against SOURCE",
        )
    with Divergence(whole, load(against, trust=trust)) as divergence:
        search.still_faulty = divergence.still_faulty
        search.feedable, search.observable = divergence.feedable, divergence.observable
        search.starts = divergence.starts(search.builder)
        # values are held against the source's: no layer may be left out between them
        search.skip = search.resize = False
        yield lambda small: _evidence(divergence, small, log.target, overwrite)


def _values(target: Path) -> Path:
    return target.with_name(f"{target.stem}.npz")


def _evidence(divergence: Divergence, small: Model, target: Path, overwrite: bool) -> dict[str, str]:
    """Writes what the part is fed and what the source has at its outputs."""
    import numpy as np

    from coreproof.model.files.atomic import replacing
    from coreproof.model.files.outputs import ARRAYS

    path = _values(target)
    with replacing(path, ARRAYS, replace=overwrite) as fresh:
        write: Callable[..., None] = np.savez  # as it is typed, an array might be its option ``allow_pickle``
        write(fresh, **divergence.evidence(small))
    first = divergence.verification.first_divergence
    assert first is not None
    return {"fault": f"{first.candidate}: {first.judgement.problem}", "values": str(path)}


@dataclass(frozen=True)
class CommandTest:
    """A shell command as a test of a model: the fault is there while it succeeds."""

    command: str
    path: Path
    timeout: float

    def __call__(self, model: Model) -> bool:
        """Whether the command still sees the fault: it ends with 0."""
        return self._run(model)[0] == 0

    def check(self, whole: Model) -> None:
        """Raises InputError with what the command says when it does not see the fault in the whole model."""
        code, said = self._run(whole)
        if code != 0:
            raise InputError(
                "the command does not see the fault in the whole model",
                where=self.line,
                expected="exit code 0, which means: the fault is there",
                found=f"exit code {code}" + (f", having said: {said}" if said else ""),
                fix="a command that fails because of the fault is negated with a leading '! '",
            )

    @property
    def line(self) -> str:
        """The command with the candidate's path in it."""
        return _with_path(self.command, self.path)

    def _run(self, model: Model) -> tuple[int | str, str]:
        model.save(self.path)
        with subprocess.Popen(
            self.line,
            shell=True,
            # a command that asks something would wait for ever
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "COREPROOF_MODEL": str(self.path)},
            start_new_session=True,  # so that all that it starts can be ended with it
            text=True,
            errors="replace",
        ) as process:
            try:
                said, _ = process.communicate(timeout=self.timeout)
            except subprocess.TimeoutExpired:
                # a command that hangs does not see the fault: that part is not taken
                return f"none within {self.timeout:g} s", ""
            finally:
                if process.poll() is None:
                    _stop(process)
        return process.returncode, " ".join(said.split())[-300:]


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends a command with everything that it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _with_path(command: str, path: Path) -> str:
    quoted = subprocess.list2cmdline([str(path)]) if sys.platform == "win32" else shlex.quote(str(path))
    return command.replace("{}", quoted) if "{}" in command else f"{command} {quoted}"


def _plan(stored: Entry) -> dict[str, object]:
    from coreproof.editing.submodels.submodel import Submodel

    try:
        return Submodel.from_json(stored.table() and stored.value).to_json()
    except (KeyError, TypeError, ValueError) as error:
        raise stored.refuse("a plan", str(error)) from None


class _Log:
    """What a search found so far, beside its output: the best plan, and the answer to every plan that was tried."""

    def __init__(self, target: Path, task: str, overwrite: bool) -> None:
        self._overwrite = overwrite
        self.target = target
        self.path = target.with_name(f".{target.name}.shrink.json")
        self._task = blake2b(task.encode(), digest_size=12).hexdigest()
        self._best: dict[str, object] | None = None
        self.tried: dict[str, bool] = {}
        with contextlib.suppress(InputError):  # whatever else it holds, the search begins anew
            stored = read_json(self.path, InputError)
            if stored["task"].value == self._task:
                tried = {plan: answer.flag() for plan, answer in stored["tried"].table().items()}
                self._best, self.tried = stored["best"].optional(_plan), tried

    def plan(self, otherwise: Submodel) -> Submodel:
        """Where a search goes on."""
        from coreproof.editing.submodels.submodel import Submodel

        return otherwise if self._best is None else Submodel.from_json(self._best)

    def keep(self, model: Model, plan: Submodel) -> None:
        """Writes a better part to the output, and the plan beside it."""
        model.save(self.target, replace=self._overwrite)
        self._best = plan.to_json()
        self.store()

    def store(self) -> None:
        """Writes what is known, for the next search; nothing where nothing is."""
        if self._best is None and not self.tried:
            return
        from coreproof.model.files.atomic import replacing

        document = {"task": self._task, "best": self._best, "tried": self.tried}
        with replacing(self.path) as fresh:
            fresh.write_text(json.dumps(document), encoding="utf-8")

    def close(self) -> None:
        """The search is at its end; there is nothing to go on from."""
        self.path.unlink(missing_ok=True)


def _digest(model: Model) -> str:
    """Something that changes when the model's file does."""
    if model.path is None:
        return model.name
    files = sorted(p for p in model.path.rglob("*") if p.is_file()) if model.path.is_dir() else [model.path]
    return repr([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


def _document(search: Search, written: Path, extra: Mapping[str, object]) -> dict[str, object]:
    cut = search.selection
    return {
        "model": str(written),
        "layers": len(cut.layers),
        "of": len(search.builder.layers),
        "tests": search.tests,
        "inputs": list(cut.inputs),
        "outputs": list(cut.outputs),
        "left": [{"layer": s.name, "operator": s.operator, "reads": s.reads, "makes": s.makes} for s in cut.layers],
        **extra,
    }


def _lines(search: Search, written: Path, extra: Mapping[str, str], test: str | None) -> list[str]:
    """What is left, and how the fault is seen again."""
    layers, tests = search.selection.layers, "1 test" if search.tests == 1 else f"{search.tests} tests"
    lines = [f"{written}: {len(layers)} of {len(search.builder.layers)} layers, after {tests}"]
    lines += [f"  {s.name}  {s.operator}  {', '.join(s.reads)} -> {', '.join(s.makes)}" for s in layers[:_SHOWN]]
    if len(layers) > _SHOWN:
        lines.append(f"  and {len(layers) - _SHOWN} more: coreproof show {written}")
    if "fault" in extra:
        lines.append(f"fault: {extra['fault']}")
    if "values" in extra:
        lines.append(f"inputs, and what the source has at the outputs: {extra['values']}")
    return lines if test is None else [*lines, f"see it again: {_with_path(test, written)}"]
