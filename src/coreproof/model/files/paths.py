"""Names of files that other files store, and where a writer may write: split, judged and refused in one place.

A model names its weights, a package its items, a store its photos. Whoever made the file chose these names, so they are
never joined to a folder as they stand: a name that is empty or absolute, climbs with "..", holds a drive or a NUL is refused,
and so is one that a link carries out of the folder.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Collection
from itertools import count
from pathlib import Path, PurePosixPath
from shlex import quote

from coreproof.errors import CoreproofError, UnreadableModelError, UnsafeModelError

_DRIVE = re.compile(r"[A-Za-z]:")
_FIX = "do not use this file unless you know who made it"


def stored_name(
    name: object, *, what: str, where: str | Path, error: type[CoreproofError] = UnsafeModelError, drives: bool = False
) -> str:
    """``name`` as a relative path with forward slashes, that stays below any folder it is joined to.

    ``what`` says what is named ("the weights of 'conv1'"), ``where`` is the file that names it. Backslashes separate too,
    because on Windows they do. ``drives``: what looks like a drive is a name like another where there are no drives, as a
    photo's, which its owner chose: ``a:b.jpg``. Raises ``error``.
    """
    if not isinstance(name, str):
        raise _refusal(what, where, "a text", f"{type(name).__name__}", error)
    # one rule on every system: a file that is safe here and unsafe on Windows is not safe
    parts = name.replace("\\", "/").split("/")
    if not name.strip() or not any(part not in ("", ".") for part in parts):
        raise _refusal(what, where, "the name of a file", "an empty name", error)
    wrong = (
        "a NUL character"
        if "\0" in name
        else "an absolute path"
        if parts[0] == ""
        else "a drive"
        if (os.name == "nt" and ":" in name) or (not drives and _DRIVE.match(name))
        else "'..'"
        if ".." in parts
        else None
    )
    if wrong is not None:
        raise _refusal(what, where, "a relative path that stays below the file's folder", f"{name!r} ({wrong})", error)
    return str(PurePosixPath(*[part for part in parts if part not in ("", ".")]))


def inside(
    root: str | Path,
    name: object,
    *,
    what: str,
    where: str | Path,
    error: type[CoreproofError] = UnsafeModelError,
    copied: Path | None = None,
) -> Path:
    """The path of a stored ``name`` below ``root``, links followed; what leads out of ``root`` raises ``error``.

    A reader calls it for what it opens, a writer for its destination, before it writes: a link that stands in the output
    folder is no way out of it either. ``copied`` is the folder that a reader would have to copy to have no links in it.
    """
    base = Path(root).resolve()
    path = base / stored_name(name, what=what, where=where, error=error)
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as failure:  # a circle of links; a name that is too long
        raise _refusal(what, where, "a path that can be followed", f"{name!r} ({failure})", error) from None
    if _is_too_long(resolved):
        found = f"{str(name)[:40]!r} ... of {len(str(name)):,} characters (too long)"
        raise _refusal(what, where, "the name of a file", found, error)
    if not resolved.is_relative_to(base):
        found = f"{name!r}, a link to another folder"
        raise _refusal(what, where, "a file below its own folder", found, error, _without_links(copied))
    return resolved


def _without_links(folder: Path | None) -> str:
    """A download cache keeps each file elsewhere and a link in its place: a copy that follows the links holds them all."""
    if folder is None or os.name == "nt":
        return _FIX
    return f"if you know who made the links, as in a download cache, open a copy without them: cp -RL {quote(str(folder))} COPY"


def _is_too_long(path: Path) -> bool:
    """Whoever looks for such a file hears it from the system, which does not say who named it."""
    try:
        os.lstat(path)
    except OSError as failure:
        return failure.errno == errno.ENAMETOOLONG
    return False


_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST_NAME = 120
"""Bytes; the suffix and what is put behind a name that is taken must fit into 255 as well."""


def file_name(name: str, taken: Collection[str] = ()) -> str:
    """``name``, whoever chose it, as the name of a file on any system: never a path, and none of those ``taken``."""
    plain = _NOT_IN_NAMES.sub("_", name).strip(" .")
    # most file systems count a name's bytes; a letter that is cut in two is dropped
    plain = plain.encode()[:_LONGEST_NAME].decode("utf-8", "ignore").rstrip(" .") or "unnamed"
    # names of devices on Windows, with any suffix
    if _RESERVED.match(plain):
        plain = f"_{plain}"
    # file systems of macOS and Windows do not tell case apart
    known = {other.lower() for other in taken}
    numbered = (f"{plain}_{number}" for number in count(2))
    return plain if plain.lower() not in known else next(n for n in numbered if n.lower() not in known)


def regular_file(
    path: str | Path, *, what: str = "the file", error: type[CoreproofError] = UnreadableModelError
) -> Path:
    """``path``, if an ordinary file stands there; a pipe, a device, a socket or a folder is refused, not waited for."""
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as failure:  # ValueError: a NUL in the name
        found = getattr(failure, "strerror", None) or str(failure)
        raise error(f"{what} cannot be read", where=str(path), found=found, fix="check the path") from None
    if not stat.S_ISREG(mode):
        raise error(f"{what} is not an ordinary file", where=str(path), expected="a file", found=_kind(mode))
    return path


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((word for test, word in kinds if test(mode)), "something else")


def _refusal(
    what: str, where: str | Path, expected: str, found: str, error: type[CoreproofError], fix: str = _FIX
) -> CoreproofError:
    return error(f"{what}: this name is not followed", where=str(where), expected=expected, found=found, fix=fix)


def meant(path: Path, suitable: Callable[[Path], bool]) -> str | None:
    """Where nothing stands at a path: what stands there under a name like that, as a question; None where nothing does."""
    from difflib import get_close_matches

    if not path.parent.is_dir():
        return None
    near = get_close_matches(path.name, sorted(each.name for each in path.parent.iterdir() if suitable(each)), 1)
    return f"did you mean {path.with_name(near[0])}?" if near else None
