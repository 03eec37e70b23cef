"""Running code that a user wrote: what it raises becomes one clear error that shows the user's own line."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from coreproof.errors import CoreproofError, InputError, MissingDependencyError, UnreadableModelError

_OURS = str(Path(__file__).resolve().parents[2])
_PYTHON = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_ENGINES = ("torch", "torchvision", "onnxscript", "onnx_ir", "onnx", "onnxruntime", "sympy", "numpy")
"""Packages whose lines are never the user's."""


@contextmanager
def user_code(
    problem: str,
    *,
    where: str,
    error: type[CoreproofError] = InputError,
    expected: object = None,
    given: str = "",
    fix: str | None = None,
) -> Iterator[None]:
    """Runs what a user wrote. What it raises, and its attempt to end the process, becomes ``error`` with the user's line.

    ``where`` names the code where no line of it is known, ``given`` what it was called with. Ctrl-C and our own errors pass.
    ``os._exit`` is caught too; what ends a process from native code (abort, a signal) cannot be.
    """
    try:
        with _exits_raised():
            yield
    # the user's own wish, and an error that is told well already
    except (KeyboardInterrupt, CoreproofError):
        raise
    except SystemExit as raised:
        raise error(
            f"{problem}: it ended the process",
            where=users_line(raised) or where,
            expected=expected,
            found=f"exit code {raised.code}",
            fix="take the exit out of what coreproof calls: let it return the model",
        ) from raised
    except BaseException as raised:
        found = said_by(raised) + (f" (given {given})" if given else "")
        raise error(problem, where=users_line(raised) or where, expected=expected, found=found, fix=fix) from raised


@contextmanager
def made_by(library: str, where: str) -> Iterator[None]:
    """What a library raises as it makes a network and fills it: a name without weights, tensors that do not fit."""
    try:
        yield
    except CoreproofError:
        raise
    except ImportError as error:
        raise MissingDependencyError(
            f"this network of {library} needs a package that is not installed", where=where, found=said_by(error)
        ) from error
    except Exception as error:  # what its own code raises, for each network otherwise
        raise UnreadableModelError(f"{library} cannot make this network", where=where, found=said_by(error)) from error


_exit = os._exit
_lock = threading.Lock()
_within = [0]
"""How many threads are in a user's code: the last that leaves it puts os._exit back."""


@contextmanager
def _exits_raised() -> Iterator[None]:
    """os._exit raises SystemExit meanwhile; in a child that was forked it ends the child, as it should."""
    process = os.getpid()

    def ended(code: int = 0) -> NoReturn:
        if os.getpid() != process:
            _exit(code)
        raise SystemExit(code)

    with _lock:
        _within[0] += 1
        if _within[0] == 1:
            # multiprocessing and some test runners end by it; in a model's code it would end coreproof without a word
            os._exit = ended  # type: ignore[assignment]
    try:
        yield
    finally:
        with _lock:
            _within[0] -= 1
            if not _within[0]:
                os._exit = _exit


def said_by(error: BaseException) -> str:
    """An error's kind and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def users_line(error: BaseException) -> str | None:
    """``net.py:12, in forward: x = x.view(3, 5)``: the user's innermost line on the way to ``error`` or to its causes.

    None where there is none, as in a file that holds only data.
    """
    chain = list(causes(error))
    for each in reversed(chain):
        if (
            isinstance(each, SyntaxError)
            and each.filename
            and each.lineno
            and not _is_known(each.filename, strict=True)
        ):
            return _line(each.filename, each.lineno, None, (each.text or "").strip())
    for strict in (True, False):  # code of an installed package is the user's only where nothing else is
        for each in reversed(chain):
            frames = [f for f in _frames(each.__traceback__) if not _is_known(f[0], strict=strict)]
            if frames:
                return _line(*frames[-1])
    return None


def is_users_file(name: str) -> bool:
    """Whether a file of Python code is neither ours, Python's, nor of an installed package."""
    return not _is_known(name, strict=True)


def is_foreign(name: str) -> bool:
    """Whether a file is ours, Python's or an engine's: its lines are never the user's."""
    return _is_known(name, strict=False)


def users_place() -> str | None:
    """The user's innermost line that is running now, as ``users_line`` shows it; None where no line of a user's runs."""
    frame = sys._getframe(1)
    running = [(f.f_code.co_filename, n, f.f_code.co_name, f.f_globals) for f, n in traceback.walk_stack(frame)]
    for strict in (True, False):
        for name, line, function, known in running:
            if not _is_known(name, strict=strict):
                return _line(name, line, function, linecache.getline(name, line, known).strip())
    return None


def line_of(name: str, line: int) -> str | None:
    """A line of a file, as ``users_line`` shows it; None for a file that is not the user's."""
    return None if _is_known(name, strict=False) else _line(name, line, None, linecache.getline(name, line).strip())


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from, outermost first."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        # as Python's own traceback goes on: ``from`` first, ``from None`` ends it
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int, str, str]]:
    for frame, line in traceback.walk_tb(trace):
        name = frame.f_code.co_filename
        yield name, line, frame.f_code.co_name, linecache.getline(name, line, frame.f_globals).strip()


def _is_known(name: str, *, strict: bool) -> bool:
    """Whether a file is ours, Python's or an engine's; ``strict``: or of any installed package."""
    if name.startswith(("<", _OURS + os.sep)):
        return True
    parts = Path(name).parts
    installed = next((i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages")), None)
    if installed is not None:
        return strict or (len(parts) > installed + 1 and parts[installed + 1] in _ENGINES)
    return any(place is not None and name.startswith(place + os.sep) for place in _PYTHON)


def _line(name: str, line: int, function: str | None, code: str) -> str:
    place = Path(name)
    try:
        # as it would be typed here
        shown = place.resolve().relative_to(Path.cwd())
    except (OSError, ValueError):
        shown = place
    inside = f", in {function}" if function and not function.startswith("<") else ""
    return f"{shown}:{line}{inside}" + (f": {code}" if code else "")


@contextmanager
def importable_from_here() -> Iterator[None]:
    """Lets Python import from the current folder, which the installed command does not."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    yield


def kind_of(thing: object) -> str:
    """How a user would call an object: its type, or what it holds."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return "nothing" if thing is None else f"a {type(thing).__module__}.{type(thing).__name__}".replace("builtins.", "")
