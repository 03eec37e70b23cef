"""How a verb ended on a mutant, and what makes two failures the same."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import coreproof
from coreproof.errors import CoreproofError

PACKAGE = Path(coreproof.__file__).resolve().parent
End = Literal["fine", "refused", "failed", "died", "timeout", "memory", "escaped"]


@dataclass(frozen=True)
class Outcome:
    """``error`` and ``place`` (innermost, "model/graph.py:120") tell failures apart; ``trace`` is for people."""

    verb: str
    end: End
    error: str = ""
    place: str = ""
    message: str = ""
    trace: str = ""
    seconds: float = 0.0

    @property
    def fails(self) -> bool:
        """Whether coreproof is at fault."""
        return self.end not in ("fine", "refused")

    @property
    def key(self) -> str:
        """What two failures have in common that are the same."""
        return f"{self.error}@{self.place}"

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def of_exception(verb: str, error: BaseException, seconds: float) -> Outcome:
    """A CoreproofError is an answer, and so is a usage that the command line does not know; all else is a failure."""
    import click

    if isinstance(error, CoreproofError | click.ClickException):
        return Outcome(verb, "refused", type(error).__name__, message=str(error)[:300], seconds=seconds)
    if isinstance(error, SystemExit) and error.code in (None, 0, 1, 2):
        return Outcome(verb, "fine" if not error.code else "refused", seconds=seconds)
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    ours = [place for place in (_place(*frame) for frame in frames) if place]
    place = ours[-1] if ours else "outside"
    if isinstance(error, RecursionError) and ours:
        place = Counter(ours).most_common(1)[0][0]  # where it breaks off says nothing
    text = "".join(traceback.format_exception(error, limit=-30))
    return Outcome(verb, "failed", type(error).__name__, place, _plain(error), text[-6000:], seconds)


def of_dump(verb: str, end: End, error: str, dump: str, seconds: float) -> Outcome:
    """What ended from outside; ``dump`` is what faulthandler wrote, innermost first."""
    found = re.findall(r'File "([^"]+)", line (\d+)', dump)
    ours = [place for place in (_place(file, int(line)) for file, line in found) if place]
    # where a loop stands when time is up is chance: the file is enough
    place = (ours[0] if end == "died" else ours[0].rpartition(":")[0]) if ours else "outside"
    return Outcome(verb, end, error, place, trace=dump[-6000:], seconds=seconds)


def _place(file: str, line: int | None) -> str | None:
    path = Path(file)
    return f"{path.relative_to(PACKAGE).as_posix()}:{line}" if path.is_relative_to(PACKAGE) else None


def _plain(error: BaseException) -> str:
    try:
        return str(error)[:300].encode("utf-8", "backslashreplace").decode()
    except Exception:  # a foreign exception may not even print
        return "?"
