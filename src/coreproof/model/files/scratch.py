"""Folders of a run's own that do not outlive it: locked while it lives, cleared by a later run where it was killed.

A run that is killed cannot tidy up. So each scratch folder holds a lock file, and the lock goes with the process, however
that ends. Whoever makes the next scratch folder in the same place removes those whose lock nobody holds, and no others:
where the file system has no locks, or the folder is of somebody else, it stays.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

LOCK = ".lock"
TEMPORARY = "coreproof-"
"""How the folders in the system's temporary folder begin."""
_RANDOM = re.compile(r"[a-z0-9_]{8}")
"""What tempfile.mkdtemp puts behind a prefix."""
_TRIES = 100


class Scratch:
    """A new folder below ``parent`` whose name begins with ``prefix``; ``close`` removes it and lets the lock go.

    Raises OSError where it cannot be made.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        for _ in range(_TRIES):
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            lock = Lock(self.path / LOCK)
            # contested: a sweep of another run took the folder for an old one before it was locked
            if lock.held or not lock.contested:
                break
        self._ends = weakref.finalize(self, _close, self.path, lock, os.getpid())

    def close(self) -> None:
        """Removes the folder and all in it; calling it again does nothing."""
        self._ends()


def _close(path: Path, lock: Lock, process: int) -> None:
    if os.getpid() != process:  # a forked child ends: the folder is its parent's
        return
    if sys.platform == "win32":  # an open file cannot be removed there
        lock.release()
    shutil.rmtree(path, ignore_errors=True)
    lock.release()


def sweep(parent: Path, prefix: str, recover: Callable[[Path], None] | None = None) -> None:
    """Removes the scratch folders in ``parent`` that a killed run left; ``recover`` may first finish what it had begun.

    Nothing is raised: what cannot be removed is left.
    """
    left: list[str] = []
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        left = sorted(e.name for e in entries if e.name.startswith(prefix) and _RANDOM.fullmatch(e.name[len(prefix) :]))
    for name in left:
        with contextlib.suppress(OSError):
            _clear(parent / name, recover)


def _clear(path: Path, recover: Callable[[Path], None] | None) -> None:
    if not _is_own_folder(path):
        return
    # an empty folder is that of a run that was killed before it could lock
    held = os.listdir(path)
    if held and LOCK not in held:  # none of ours
        return
    lock = Lock(path / LOCK)
    try:
        if lock.held:
            if recover is not None:
                recover(path)
            if sys.platform == "win32":
                lock.release()
            shutil.rmtree(path, ignore_errors=True)
    finally:
        lock.release()


def _is_own_folder(path: Path) -> bool:
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and (sys.platform == "win32" or status.st_uid == os.getuid())


class Lock:
    """A lock on a file, made where it is not there. ``held``: it is ours; ``contested``: somebody else has it, or took the file.

    Neither is true where the file system knows no locks.
    """

    def __init__(self, path: Path) -> None:
        self.held = False
        self.contested = False
        self._file: int | None = None
        try:
            # no link is followed: it could lead to a file of somebody else
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        except OSError:
            self.contested = True
            return
        try:
            _lock(self._file)
            self.held = os.path.samestat(
                os.fstat(self._file), os.lstat(path)
            )  # and not that of a folder that just went
            self.contested = not self.held
        except (BlockingIOError, PermissionError, FileNotFoundError):
            self.contested = True
        except OSError:
            pass
        if not self.held:
            self.release()

    def release(self) -> None:
        """Lets it go; calling it again does nothing."""
        if self._file is not None:
            os.close(self._file)
        self._file = None


def _lock(file: int) -> None:
    """Takes the lock or raises BlockingIOError (PermissionError on Windows) at once; it goes when the file is closed."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class TemporaryFolder:
    """A folder for what lasts as long as somebody holds this object; ``name`` is its path. All of a process share one lock."""

    def __init__(self) -> None:
        with _guard:
            root = _process_root()
            _open.add("")  # or a folder that is collected right now would take the root along
            self.name = tempfile.mkdtemp(prefix="", dir=root.path)
            _open.add(self.name)
            _open.discard("")
        self._ends = weakref.finalize(self, _remove, self.name, os.getpid())

    def cleanup(self) -> None:
        """Removes the folder and all in it; calling it again does nothing."""
        self._ends()

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()


_guard = threading.RLock()
_root: tuple[int, str, Scratch] | None = None
_open: set[str] = set()
_swept: set[str] = set()


def _process_root() -> Scratch:
    """The one folder in the system's temporary folder that holds all others of this process."""
    global _root
    place = tempfile.gettempdir()
    if _root is None or _root[:2] != (os.getpid(), place) or not _root[2].path.is_dir():
        sweep_temporary()
        _root = (os.getpid(), place, Scratch(Path(place), TEMPORARY))
        _open.clear()
    return _root[2]


def sweep_temporary() -> None:
    """Removes what killed runs left in the system's temporary folder; looks there once a process."""
    place = tempfile.gettempdir()
    if place not in _swept:
        _swept.add(place)
        sweep(Path(place), TEMPORARY)


def _remove(name: str, process: int) -> None:
    if os.getpid() != process:
        return
    shutil.rmtree(name, ignore_errors=True)
    with _guard:
        _open.discard(name)
        if not _open and _root is not None and Path(name).parent == _root[2].path:
            _root[2].close()
