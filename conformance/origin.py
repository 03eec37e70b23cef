"""Where a recorded result comes from: the command that was typed, the commit that it ran on, the day."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path


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
