"""The records of what judges found: the command that was typed, the commit, the day, and how all that is written."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from coreproof.model.files.atomic import replacing

_OF_A_PART = ("--only", "--again")
"""Options by which a run goes on with a record: the record is of all, and says of each row at which commit it was judged."""


def origin(module: str, *, whole: bool = False) -> dict[str, str]:
    """What stands at the head of a record; ``module`` is what ``python -m`` was given.

    ``whole``: of a record that runs add to, the command is that of all of it.
    """
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    if whole:
        arguments = _without_parts(arguments)
    return {
        "command": " ".join(["python -m", module, *arguments]),
        "commit": done.stdout.strip(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def _without_parts(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    within = False
    for argument in arguments:
        within = argument in _OF_A_PART or (within and not argument.startswith("--"))
        if not within:
            kept.append(argument)
    return kept


def write_record(path: Path, record: object) -> None:
    """Puts a record in the place of the one before, whole or not at all: runs of hours are ended at any moment."""
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
