"""The records of what judges found: the command that was typed, the commit, the day, and how all that is written."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from coreproof.model.files.atomic import replacing


def origin(module: str) -> dict[str, str]:
    """What stands at the head of a record; ``module`` is what ``python -m`` was given."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    return {
        "command": " ".join(["python -m", module, *arguments]),
        "commit": done.stdout.strip(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def write_record(path: Path, record: object) -> None:
    """Puts a record in the place of the one before, whole or not at all: runs of hours are ended at any moment."""
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
