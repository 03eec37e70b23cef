"""A child process with Apple's Core AI packages in it: bounded in time and memory, its end by a signal told as an error."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from coreproof.errors import CoreproofError, MissingDependencyError
from coreproof.model.budget import memory_budget
from coreproof.model.files.entries import Entry, Fail, parse_json
from coreproof.model.files.scratch import TemporaryFolder

_OF_ITS_OWN = 4 * 10**9
"""Bytes of address space that the packages take before they have done anything, and the threads that they start."""
_A_BYTE_OF_THE_MODEL = 12
"""How many bytes one of the model's becomes at most: its text, in hexadecimal, beside the array, and a copy of both."""
_SAID = 300


def has_packages() -> bool:
    """Whether Apple's package is there."""
    return find_spec("coreai") is not None


def require_packages() -> None:
    """Raises MissingDependencyError, with the line that installs it, where Apple's package is not there."""
    if not has_packages():
        raise MissingDependencyError(
            "Core AI models are read by Apple's package coreai-core, which is not installed",
            expected="Linux on x86-64 with glibc 2.34 or later, or macOS 26 on Apple silicon",
            fix="pip install 'coreproof[coreai]'",
        )


class Child:
    """One such process, started at the first question; it ends with ``close``, or with the object.

    ``fail`` makes the error of what goes wrong there from what was found. ``size`` is that of the model that it is to open,
    in bytes; ``folder`` is where files for it may lie.
    """

    def __init__(self, fail: Fail, size: int) -> None:
        require_packages()
        self._fail = fail
        self._memory = memory_budget() + _OF_ITS_OWN + _A_BYTE_OF_THE_MODEL * size
        self._process: subprocess.Popen[str] | None = None
        self._ends: Callable[[], object] | None = None
        self._place = TemporaryFolder()
        self.folder = Path(self._place.name)

    @property
    def alive(self) -> bool:
        """Whether a process is there, with what it was told before."""
        return self._process is not None and self._process.poll() is None

    def failing(self, fail: Fail) -> None:
        """From now on, errors are what this makes of what was found: one that has started may be asked for another thing."""
        self._fail = fail

    def ask(self, request: Mapping[str, object], seconds: float) -> Entry:
        """What it answers to a request within that time. Raises what ``fail`` makes."""
        process = self._process if self._process is not None and self.alive else self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(seconds, process.kill)
        late.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # it is gone
            line = ""
        finally:
            late.cancel()
        if not line:
            raise self._ended(process, seconds)
        answer = parse_json(line, self._fail)
        if (error := answer.get("error").value) is not None:
            raise self._fail(str(error)[:_SAID])
        return answer

    def _started(self) -> subprocess.Popen[str]:
        self._stop()
        # what this process would import, and no folder that happens to be the current one
        paths = os.pathsep.join(path for path in sys.path if path)
        # each of its threads would claim address space for a heap of its own
        environment = {**os.environ, "PYTHONPATH": paths, "MALLOC_ARENA_MAX": "2"}
        with (self.folder / "said").open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "coreproof.model.coreai.apple", str(self._memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                encoding="utf-8",
                env=environment,
            )
        self._ends = weakref.finalize(self, _end, self._process)
        return self._process

    def _ended(self, process: subprocess.Popen[str], seconds: float) -> CoreproofError:
        code = process.wait()
        if code == -signal.SIGTERM or (sys.platform != "win32" and code == -signal.SIGKILL):
            return self._fail(f"Apple's Core AI was not done within {seconds:g} seconds, or within its memory")
        said = (self.folder / "said").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = f"with signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"with status {code}"
        return self._fail(f"Apple's Core AI ended {how}{': ' + said[-1].strip()[:_SAID] if said else ''}")

    def _stop(self) -> None:
        if self._ends is not None:
            self._ends()
        self._process = None

    def close(self) -> None:
        """Ends the process and removes its folder."""
        self._stop()
        self._place.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was left to write has nowhere to go
                stream.close()
    process.wait()
