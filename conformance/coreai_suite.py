"""A pytest plugin: each of Apple's own tests of coreai-torch runs twice, with Apple's interpreter and with coreproof's lowering.

Each test makes a module, converts it with coreai-torch, saves it, runs it and compares with PyTorch. First it runs as it is. Then
it runs again from the same seed, and what it saved is read and lowered by coreproof and run by ONNX Runtime; the comparison stays
the test's own, and is what pytest reports. What both engines handed out is compared besides.
`conformance.coreai_torch` starts it, and begins anew where the process ended; see there.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from coreai.authoring import AIModelAsset, AIProgram
from coreai.runtime import NDArray

import coreproof as cp
from conformance.coreai_torch import apart
from conformance.seeded import SEED, sow
from coreproof.errors import UnreadableModelError
from coreproof.model.coreai import apple
from coreproof.model.coreai.arrays import mapped, of_pairs, pairs
from coreproof.model.coreai.model import CoreAIModel
from coreproof.model.coreai.program import operations
from coreproof.model.coreai.read import program_of
from coreproof.model.files.entries import parse_json
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.model.formats.coreai import short
from coreproof.model.torch.operator_list import operators_read_once

RECORD = "COREAI_TORCH_RECORD"
"""The file that each test adds its lines to."""
COMMIT = "COREAI_TORCH_COMMIT"
"""What is noted of each test as the commit that it ran at."""
SECONDS = "COREAI_TORCH_SECONDS"
"""After how many seconds no further test begins."""

Executable = Callable[..., AbstractAsyncContextManager[Any]]
_APPLES: Executable = AIModelAsset.executable


def _refused(found: str) -> UnreadableModelError:
    return UnreadableModelError("the test's model is not read", found=found)


def load(path: Path) -> CoreAIModel:
    """What ``cp.load`` makes of a model, without a process of its own for each of thousands."""
    with TemporaryFolder() as scratch:
        request = json.dumps({"path": str(path), "folder": scratch})
        apple.read(parse_json(request, _refused))
        document = parse_json((Path(scratch) / "graph.json").read_bytes(), _refused)
        constants = np.array(mapped(Path(scratch) / "constants"))
    return CoreAIModel(program_of(document, constants, _refused), name=path.stem, path=path)


@dataclass
class _Seen:
    """What one test showed of itself: the operations of its programs, and what each engine handed out, call by call."""

    operations: set[str] = field(default_factory=set)
    handed: dict[str, list[dict[str, np.ndarray[Any, Any]]]] = field(default_factory=lambda: defaultdict(list))

    def keep(self, engine: str, found: Mapping[str, Any], state: Mapping[str, Any] | None) -> None:
        """Takes note of what a call handed out and left in its states."""
        both = {**found, **{f"state {name}": value for name, value in (state or {}).items()}}
        self.handed[engine].append({name: np.array(value.numpy()) for name, value in both.items()})


class _Lowered:
    """Stands for what `load_function` gives: called with arrays of Apple's runtime, it answers with such."""

    def __init__(self, model: CoreAIModel) -> None:
        self._session = cp.session(model)
        signature = model.signature
        self._complex = {f.name for f in signature.outputs if f.dtype == "complex64"}
        states = {f.name: SimpleNamespace(shape=f.shape, dtype=np.dtype(f.dtype)) for f in signature.states}
        self.desc = SimpleNamespace(
            name=model.function.name,
            input_names=[f.name for f in signature.inputs],
            output_names=[f.name for f in signature.outputs],
            state_names=list(states),
            state_descriptor=lambda name: states[name],
        )

    async def __call__(
        self, inputs: Mapping[str, Any] | None = None, state: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        # complex numbers are pairs along a last axis, as those of PyTorch and ONNX
        given = {name: np.asarray(value.numpy()) for name, value in (inputs or {}).items()}
        fed = {name: pairs(array) if array.dtype.kind == "c" else array for name, array in given.items()}
        kept = {name: np.array(value.numpy()) for name, value in (state or {}).items()}
        found = self._session.run(fed, state=kept if kept else None)
        if state is not None:
            # what `numpy()` gives is a copy: the test reads the states out of the mapping that it gave
            state.update({name: NDArray(np.array(array, order="C")) for name, array in kept.items()})
        made = {name: np.asarray(value) for name, value in found.items()}
        return {n: NDArray(of_pairs(a, np.dtype("c8")) if n in self._complex else a) for n, a in made.items()}


class _Watched:
    """A function of either engine whose answers are kept."""

    def __init__(self, function: Any, engine: str, seen: _Seen) -> None:
        self._function, self._engine, self._seen = function, engine, seen
        self.desc = function.desc

    async def __call__(self, *given: Any, **named: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self._function(*given, **named)
        self._seen.keep(self._engine, found, named.get("state", given[1] if len(given) > 1 else None))
        return found


def _executables(seen: _Seen) -> dict[str, Executable]:
    """What stands for `AIModelAsset.executable` with either engine."""

    @asynccontextmanager
    async def apples(asset: Any, *given: Any, **named: Any) -> AsyncIterator[Any]:
        async with _APPLES(asset, *given, **named) as model:
            yield SimpleNamespace(
                function_names=model.function_names,
                load_function=lambda name: _Watched(model.load_function(name), "apple", seen),
            )

    @asynccontextmanager
    async def lowered(asset: Any, *given: Any, **named: Any) -> AsyncIterator[Any]:
        model = load(Path(asset.path))
        seen.operations |= {
            short(operation.kind) for function in model.program.functions for operation in operations(function.block)
        }
        names = model.functions or (model.function.name,)

        def load_function(name: str) -> _Watched:
            return _Watched(_Lowered(model.at_function(name) if model.functions else model), "coreproof", seen)

        yield SimpleNamespace(function_names=list(names), load_function=load_function)

    return {"apple": apples, "coreproof": lowered}


class _Converted:
    """What the suite's helper made of a module in the first run, once more in the second: so both read the same program."""

    def __init__(self) -> None:
        self._made: list[Any] = []
        self._given = 0

    def patched(self) -> Any:
        """While this is entered the helper answers from here."""
        utils: Any = importlib.import_module("tests.utils")  # the suite's own; pytest runs in its folder

        convert = utils._export_and_convert

        def remembered(model: Any, *given: Any, **named: Any) -> Any:
            if self._given == len(self._made):
                self._made.append(convert(model, *given, **named))
            model.eval()  # as the helper does
            self._given += 1
            return self._made[self._given - 1]

        self._given = 0
        return mock.patch.object(utils, "_export_and_convert", remembered)


def _apart(seen: _Seen) -> dict[str, float | str]:
    """What differs between both engines, by call and output."""
    found: dict[str, float | str] = {}
    for number, (ours, theirs) in enumerate(zip(seen.handed["coreproof"], seen.handed["apple"], strict=False)):
        if set(ours) != set(theirs):
            found[f"{number}"] = f"outputs {sorted(ours)} and {sorted(theirs)}"
        for name in ours.keys() & theirs.keys():
            if difference := apart(ours[name], theirs[name]):
                found[f"{number} {name}"] = difference
    return found


def _told(raised: BaseException) -> str:
    return f"{type(raised).__name__}: {' '.join(str(raised).split())[:400]}"


class _Record:
    """The lines of one test, written as they come: the one that ended the process is the last one begun."""

    def __init__(self) -> None:
        self._path = Path(os.environ[RECORD])

    def add(self, **line: object) -> None:
        """Puts a line behind the others."""
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """What stands there."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.is_file() else []


_STARTED = time.monotonic()
_EXPORTS = ExitStack()
_BEGUN: set[str] = set()
"""The tests whose run with Apple's interpreter ended a process before this one."""


def pytest_configure() -> None:
    """PyTorch reads its lists of operators once, not for each of thousands of exports: more than half of the time.

    The suite is older than the packages: it calls `optimize` on a program, which is made optimised now and has no such method.
    """
    if not hasattr(AIProgram, "optimize"):
        AIProgram.optimize = lambda self: None
    _EXPORTS.enter_context(operators_read_once())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One test of each function first, the others behind, both in a drawn order; what has ended is left out."""
    ended = {line["test"] for line in _Record().read() if "outcome" in line}
    _BEGUN.update(line["test"] for line in _Record().read() if line.get("at") == "apple")
    drawn = random.Random(SEED)
    drawn.shuffle(items)
    first: dict[str, str] = {}
    for item in items:
        first.setdefault(item.nodeid.partition("[")[0], item.nodeid)
    leading = set(first.values())
    items.sort(key=lambda item: item.nodeid not in leading)
    items[:] = [item for item in items if item.nodeid not in ended]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Runs the test with Apple's interpreter, notes how that ended, and runs it again with coreproof's lowering."""
    record, seen, converted = _Record(), _Seen(), _Converted()
    test = pyfuncitem.nodeid
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    outcome = {"apple": "ends the process" if test in _BEGUN else "", "coreproof": ""}
    raised: BaseException | None = None
    try:
        for engine, executable in _executables(seen).items():
            if outcome[engine]:
                continue
            record.add(test=test, at=engine, apple=outcome["apple"])
            sow()
            given = _copied(arguments) if engine == "apple" else arguments
            try:
                with converted.patched(), mock.patch.object(AIModelAsset, "executable", executable):
                    pyfuncitem.obj(**given)
                outcome[engine], raised = "passed", None
            except (Exception, pytest.fail.Exception) as error:
                outcome[engine], raised = f"failed: {_told(error)}", error
            except pytest.skip.Exception as error:
                outcome[engine], raised = f"skipped: {error}", error
                break
    finally:
        record.add(
            test=test,
            outcome=outcome,
            ran={engine: len(calls) for engine, calls in seen.handed.items()},
            apart=_apart(seen),
            commit=os.environ.get(COMMIT, ""),
            operations=sorted(seen.operations),
        )
    if raised is not None:
        raise raised
    return True


def _copied(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments for the first run: a test may write into them."""
    try:
        return copy.deepcopy(arguments)
    except (TypeError, RuntimeError, ValueError):
        return arguments


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What did not come to its call: skipped by a mark, or a fixture that failed."""
    if report.when == "setup" and report.outcome != "passed":
        told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)[-300:]
        _Record().add(test=report.nodeid, outcome={"apple": f"{report.outcome}: {told}", "coreproof": ""}, ran={})


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Ends the run when its time is over."""
    if time.monotonic() - _STARTED > float(os.environ.get(SECONDS, "1e9")):
        pytest.exit(f"the time is over after {nodeid}", returncode=0)
