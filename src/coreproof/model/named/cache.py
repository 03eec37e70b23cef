"""Where downloads are kept: one folder of the user, which an environment variable may move."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENVIRONMENT = "COREPROOF_CACHE"
"""Where the folder is named, if it is not to be the system's usual one."""


def cache_folder() -> Path:
    """COREPROOF_CACHE, else ``coreproof`` in the folder in which the system keeps what can be had again. It need not exist."""
    said = os.environ.get(ENVIRONMENT, "").strip()
    if said:
        return Path(said).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "coreproof"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "coreproof" / "Cache"
    general = os.environ.get("XDG_CACHE_HOME", "")
    # a relative one is to be ignored (XDG Base Directory Specification)
    return (Path(general) if Path(general).is_absolute() else Path.home() / ".cache") / "coreproof"
