"""Outputs appear whole or not at all: written beside their place under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """Gives a path to write a file or folder to; on success it takes ``target``'s place, on failure it vanishes.

    A run that is killed leaves the old ``target`` whole; what it had written stays under a name that starts with
    a dot and the target's name, and is never mistaken for it. An OSError of writing names ``target``, not that name.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.parent / f".{target.name}."
    try:
        scratch = Path(tempfile.mkdtemp(prefix=beside.name, dir=target.parent))
    except OSError as error:
        raise _naming(target, error) from None
    try:
        fresh = scratch / target.name
        yield fresh
        if target.is_dir() and not target.is_symlink():
            old = scratch / "replaced"
            os.rename(target, old)
            try:
                os.rename(fresh, target)
            except OSError:
                os.rename(old, target)
                raise
        else:
            os.replace(fresh, target)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(beside)):
            raise _naming(target, error) from None
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _naming(target: Path, error: OSError) -> OSError:
    """The error as one of ``target``: a full disk names no file at all."""
    return OSError(error.errno, error.strerror or str(error), str(target))
