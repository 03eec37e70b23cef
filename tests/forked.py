"""Runs ``coreproof`` in processes forked from one that has imported it and the heavy libraries: milliseconds instead of seconds.

Each command is a process of its own with its own streams. What counts before a process starts (the seed of hashing, the encoding
of streams) is given to the one that is forked from. A forked process ends without the destructors of libraries, which wait for
threads that a fork does not copy; how a process starts and ends is therefore tested elsewhere, with real ones. Where there is no
fork, each command starts anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
FORKS = sys.platform == "linux"
"""Elsewhere a library's threads may not survive a fork."""

_PARENT = """
import atexit, importlib, json, os, pkgutil, runpy, signal, sys, traceback
sys.path = [place for place in sys.path if place]  # as the command is installed: the current folder is not searched
import coreproof
ours = [found.name for found in pkgutil.walk_packages(coreproof.__path__, "coreproof.")]
for name in json.loads(sys.argv[1]) + [name for name in ours if not name.endswith("__main__")]:
    try:
        if name == "coremltools":  # as conversion imports it, without the packages whose front ends nobody asks for
            importlib.import_module("coreproof.conversion.coremltools_import").import_coremltools()
        else:
            importlib.import_module(name)
    except ImportError:
        pass
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    given = json.loads(line)
    child = os.fork()
    if not child:
        answers.close()
        for place, (name, flags) in enumerate(
            ((os.devnull, os.O_RDONLY), (given["out"], os.O_WRONLY), (given["err"], os.O_WRONLY))
        ):
            if place in given["closed"]:  # as Python starts where the shell has closed it
                os.close(place)
                setattr(sys, ("stdin", "stdout", "stderr")[place], None)
                continue
            stream = os.open(name, flags)
            os.dup2(stream, place)
            if stream != place:
                os.close(stream)
        signal.alarm(given["seconds"])
        os.chdir(given["folder"])
        os.environ.update(given["environment"])
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.reconfigure(encoding=given["encoding"])
        sys.argv = ["coreproof" if given["program"] is None else "-c", *given["words"]]
        code = 1
        try:
            if given["program"] is None:
                runpy.run_module("coreproof", run_name="__main__", alter_sys=True)
            else:
                exec(given["program"], {"__name__": "__main__"})
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
atexit._run_exitfuncs()
os._exit(0)  # what libraries take down piece by piece goes with the process
"""

_ANEW = """
import runpy, sys
sys.path = [place for place in sys.path if place]
sys.argv[0] = "coreproof"
runpy.run_module("coreproof", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and the bytes that it printed."""

    code: int
    out: bytes
    err: bytes


class Commands:
    """What runs commands under one environment; see the module."""

    def __init__(self, environment: Mapping[str, str], parent: subprocess.Popen[str] | None) -> None:
        self._environment = environment
        self._parent = parent

    def run(
        self,
        *words: object,
        folder: Path,
        seconds: int = 300,
        program: str | None = None,
        closed: tuple[int, ...] = (),
        encoding: str = "utf-8",
        **environment: str,
    ) -> Ended:
        """Runs ``coreproof WORDS`` in ``folder``; after ``seconds`` it is ended by a signal, or a TimeoutExpired is raised.

        With ``program``, Python runs that in the command's place. The streams ``closed`` (0, 1, 2) are not there; only a fork
        can say so. The others have ``encoding``; ``environment`` is what this command alone is told.
        """
        given = [str(word) for word in words]
        if self._parent is None:
            done = subprocess.run(
                [sys.executable, "-c", program or _ANEW, *given],
                cwd=folder,
                env={**self._environment, "PYTHONIOENCODING": encoding, **environment},
                capture_output=True,
                check=False,
                timeout=seconds,
            )
            return Ended(done.returncode, done.stdout, done.stderr)
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
            asked = {
                "words": given,
                "folder": str(folder),
                "out": out.name,
                "err": err.name,
                "seconds": seconds,
                "program": program,
                "closed": closed,
                "encoding": encoding,
                "environment": environment,
            }
            print(json.dumps(asked), file=self._parent.stdin, flush=True)
            code = int(self._parent.stdout.readline())
            return Ended(code, out.read(), err.read())


@contextmanager
def commands(environment: Mapping[str, str], imported: tuple[str, ...]) -> Iterator[Commands]:
    """Commands under ``environment`` (added to this process's), with the libraries ``imported`` already there, where they are."""
    whole = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(SOURCE), os.environ.get("PYTHONPATH", ""))),
        **environment,
    }
    if not FORKS:
        yield Commands(whole, None)
        return
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, json.dumps(imported)],
        env=whole,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as parent:
        yield Commands(whole, parent)
        assert parent.stdin is not None
        parent.stdin.close()
