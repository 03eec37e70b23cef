"""What a text that stands in a file, as in a line-up, may name as a model: data below its folder, and no code."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl

from coreproof.errors import UnsafeModelError
from coreproof.model.files.paths import stored_name
from coreproof.model.named.kinds import named_kind

PICKLES = (".pt", ".pth", ".ts")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def why_unsafe(source: str | Path, folder: Path | None) -> str | None:
    """Why ``source``, written in a file that somebody made, is not loaded without trust; None if it is.

    Whoever types ``module:callable`` means it; a file that holds one would have it run by whoever opens the file. So what
    names Python code or a pickle is said here, and each name of a file that would leave ``folder``.
    """
    text = str(source)
    if (empty := why_nameless(text)) is not None:
        return empty
    kind = named_kind(text)
    if kind == "address":
        return "an address that its author chose"
    if kind is not None:
        named = weights_of(text)
        return next((f"{name!r}: {why}" for name in named if (why := why_outside(name)) is not None), None)
    path = Path(text) if folder is None else folder / text
    # as ``load`` decides: a colon names code, unless it is a drive's or of a file that is there
    if ":" in text and _DRIVE.match(text) is None and not _exists(path):
        return "Python code"
    if path.suffix.lower() in PICKLES or Path(text.partition("?")[0]).suffix.lower() in PICKLES:
        return "a pickle"
    return why_outside(text)


def why_nameless(text: str) -> str | None:
    """Why a text names nothing at all, which no trust changes."""
    if not text.strip():
        return "an empty name"
    return "a NUL character in a name" if "\0" in text else None


def why_outside(name: str) -> str | None:
    """Why a stored name of a file is not followed; None for one that stays below any folder."""
    try:
        stored_name(name, what="a file", where="")
    except UnsafeModelError as error:
        return f"not {error.expected}"
    return None


def weights_of(source: str) -> list[str]:
    """The files of weights that ``torchvision:NAME?weights=FILE`` and its like name, as ``load`` reads it."""
    given = parse_qsl(source.partition("?")[2], keep_blank_values=True)
    return [value for key, value in given if key == "weights" and is_file_of_weights(value)]


def is_file_of_weights(value: str) -> bool:
    """Whether ``weights=`` names a file, and not weights that torchvision publishes (IMAGENET1K_V1) or ``random``."""
    return any(sign in value for sign in "./\\\0")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
