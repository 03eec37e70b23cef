"""A fault of coreproof itself: one screen that says so, where it is and how to report it; the traceback goes to a file."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import textwrap
import traceback
from pathlib import Path
from types import TracebackType

from coreproof.visible import visible

CODE = 3
DEBUG = "COREPROOF_DEBUG"
"""Where it is kept that tracebacks are wanted on the screen, so that child processes know it too."""
_WIDTH = 80
_LABEL = 11
_PACKAGE = Path(__file__).resolve().parent.parent


def wanted() -> bool:
    """Whether tracebacks are to appear on standard error: ``--debug``, or COREPROOF_DEBUG in the environment."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def screen(error: BaseException, arguments: list[str]) -> str:
    """What a user reads of a fault: at most 80 columns, and less than a screen of lines.

    ``arguments`` are the command line's, without the program. The traceback is written to a temporary file, whose path is
    named; with ``wanted()`` it stands in front of the screen instead.
    """
    from coreproof.version import __version__

    told = "".join(traceback.format_exception(error))
    kept = "(above)" if wanted() else _written(told, arguments) or "run again with --debug to see it"
    system = f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    files = [a for a in arguments if not a.startswith("-") and os.path.exists(a.partition("?")[0])]
    named = [_shortened(file, _WIDTH - _LABEL - 4) for file in files[:4]]
    parts = [
        ("version", system),
        ("verb", next((a for a in arguments if not a.startswith("-")), "none")),
        ("files", ", ".join([*named, *(["..."] if len(files) > 4 else [])])),
        ("place", place(error.__traceback__)),
        ("exception", _shortened(" ".join(visible(what, keep="\n").split()), 3 * (_WIDTH - _LABEL - 4))),
    ]
    shown = ["error: this is a fault of coreproof, not of your input"]
    for label, part in parts:
        if part:
            shown += _wrapped(label, visible(part))
    shown.append(f"  {'traceback':{_LABEL}}{visible(kept)}")
    report = (
        "Please report it: open an issue in coreproof's repository with these lines, the traceback and the smallest file "
        "that shows it. Where the file of a stranger causes more than this screen, report it in private: see SECURITY.md."
    )
    shown += textwrap.wrap(report, _WIDTH)
    # line by line: a carriage return inside of one could write over the others
    trace = "".join(visible(line, keep="\n\t") for line in told.splitlines(keepends=True))
    return (trace if wanted() else "") + "\n".join(shown)


def place(trace: TracebackType | None) -> str:
    """The innermost line of coreproof's own in a traceback, as file:line and function; "outside coreproof" without one."""
    found = "outside coreproof"
    for frame, line in traceback.walk_tb(trace):
        file = Path(frame.f_code.co_filename)
        # every trace passes through the command line's own frame
        if file.is_relative_to(_PACKAGE) and "cli/main.py" not in file.as_posix():
            found = f"coreproof/{file.relative_to(_PACKAGE).as_posix()}:{line}, in {frame.f_code.co_name}"
    return found


def _written(told: str, arguments: list[str]) -> str | None:
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="coreproof-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(f"coreproof {visible(shlex.join(arguments))}\n{sys.version}\n\n{told}")
        return file.name
    except OSError:  # no room even for this
        return None


def _wrapped(label: str, words: str) -> list[str]:
    return textwrap.wrap(
        words, _WIDTH, initial_indent=f"  {label:{_LABEL}}", subsequent_indent=" " * (_LABEL + 2), break_long_words=True
    )


def _shortened(text: str, width: int) -> str:
    text = visible(text)
    return text if len(text) <= width else "..." + text[3 - width :] if os.sep in text else text[: width - 3] + "..."
