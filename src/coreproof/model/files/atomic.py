"""Outputs appear whole or not at all: written beside their place in a hidden folder, then put there in one step.

A folder changes places with the old one at once where the system can do that. Several outputs that belong together, and
folders where it cannot, take a moment; so what is to be done is written down first, and when the run is killed in that
moment, the next one into the same folder finishes it. It also removes what killed runs left (see ``scratch``).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coreproof.errors import UnsafeModelError
from coreproof.model.files.exchange import exchange
from coreproof.model.files.outputs import Kind, check_output
from coreproof.model.files.paths import inside, stored_name
from coreproof.model.files.scratch import Scratch, sweep, sweep_temporary

HIDDEN = ".coreproof-"
"""How the hidden folders begin in which outputs are written."""
_FRESH, _OLD, _JOURNAL = "new", "old", "journal.json"
_LARGEST_JOURNAL = 1 << 22
_IN_USE = frozenset((5, 32, 1224))
"""What Windows answers when a file that is open or mapped into memory should be replaced."""


@contextmanager
def replacing(
    target: str | Path, kind: Kind | None = None, *, replace: bool = False, inputs: Iterable[Path | None] = ()
) -> Iterator[Path]:
    """Gives a path to write a file or folder to; on success it takes ``target``'s place, on failure it vanishes.

    ``kind``: what may be replaced; anything else only where ``replace`` allows it, else OutputExistsError. ``inputs``: what
    is read meanwhile; no folder of something else that holds it is replaced.

    A run that is killed leaves ``target`` as it was or as it should become. An OSError of writing names ``target``, not
    the hidden place. Where ``target`` is a link, the link is replaced, and what it leads to stays.
    """
    target = Path(target)
    # "." and "/" have no name beside which a hidden folder could be written under the final name
    if target.name in ("", ".."):
        target = target.resolve()
    if kind is not None:
        inputs = tuple(inputs)
        check_output(target, kind, replace=replace, inputs=inputs)
    with _staged(target.parent, target) as stage:
        fresh = stage / target.name
        yield fresh
        if kind is not None:  # it may have taken hours
            check_output(target, kind, replace=replace, inputs=inputs)
        _commit(stage.parent, [target.name])


@contextmanager
def replacing_together(folder: str | Path, whole: Collection[str] = ()) -> Iterator[Path]:
    """Gives an empty folder; on success all that was written there takes its place in ``folder``, all or nothing.

    ``whole`` names the folders that are outputs themselves, as packages are; it is looked at in the end. Other folders are
    only ways to files: what else stands in theirs stays. Raises UnsafeModelError where a link in ``folder`` would lead the
    outputs elsewhere.
    """
    folder = Path(folder)
    with _staged(folder, folder) as stage:
        yield stage
        _commit(stage.parent, sorted(_outputs(stage, "", whole)))


def _outputs(stage: Path, way: str, whole: Collection[str]) -> Iterator[str]:
    for entry in (stage / way).iterdir():
        name = f"{way}{entry.name}"
        if _is_folder(entry) and name not in whole:
            yield from _outputs(stage, f"{name}/", whole)
        else:
            yield name


@contextmanager
def _staged(folder: Path, target: Path) -> Iterator[Path]:
    """An empty folder in a hidden and locked one in ``folder``, which is made where it is not there."""
    made = _make_folders(folder)
    try:
        sweep_temporary()
        place = folder.resolve()
        sweep(place, HIDDEN, _finish)
        try:
            scratch = Scratch(place, HIDDEN)
        except OSError as error:
            raise _named(target, error) from None
        stage = scratch.path / _FRESH
        try:
            stage.mkdir()
            yield stage
        except OSError as error:
            written = scratch.path if error.filename is None else Path(os.fsdecode(str(error.filename)))
            if written.is_relative_to(stage) and target == folder:
                raise _named(folder / written.relative_to(stage), error) from None
            if written.is_relative_to(scratch.path):
                raise _named(target, error) from None
            raise
        finally:
            scratch.close()
    except BaseException:
        # the innermost first; one in which something stands by now stays
        for parent in reversed(made):
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def _make_folders(folder: Path) -> list[Path]:
    """Makes ``folder`` and those above it; returns those that were not there, the uppermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing[::-1]


def _named(target: Path, error: OSError) -> OSError:
    """The error as one of ``target``: a full disk names no file at all."""
    said = error.strerror or str(error)
    if getattr(error, "winerror", None) in _IN_USE:
        said += " (it is open in another program, or it is the model that this run reads: write to another name)"
    return OSError(error.errno, said, str(target))


# putting in place


def _commit(scratch: Path, names: Sequence[str]) -> None:
    """Puts what was written in place; where one step does not do it, the steps are written down, and undone when one fails."""
    if not names:
        return
    folder = scratch.parent
    steps = [_Step.in_scratch(scratch, number, name) for number, name in enumerate(names)]
    replaces = any(step.old is not None for step in steps)
    for step in steps:
        if step.new is None:
            raise FileNotFoundError(errno.ENOENT, "nothing was written", str(step.fresh))
        # where nothing stood, a loss of power costs this run's work at most; syncing all of it, half a second
        if replaces:
            _sync(step.fresh)
        step.target.parent.mkdir(parents=True, exist_ok=True)
    # one rename is whole or not at all: no journal is needed
    if len(steps) == 1 and steps[0].at_once():
        if replaces:
            _sync_file(steps[0].target.parent)
        return
    journal = scratch / _JOURNAL
    # from here on a killed run is finished by the next one: the journal is removed last
    _write_journal(journal, steps)
    try:
        for step in steps:
            step.do()
    except BaseException:
        # the other way round, so that each finds what it left
        for step in reversed(steps):
            step.undo()
        journal.unlink()
        raise
    for place in {step.target.parent for step in steps} | {folder}:
        _sync_file(place)
    journal.unlink()


@dataclass(frozen=True)
class _Step:
    """One output and the place that it takes. ``new`` and ``old`` are the file numbers of what is to stand there, and stood."""

    name: str
    fresh: Path
    target: Path
    aside: Path
    new: list[int] | None
    old: list[int] | None

    @classmethod
    def in_scratch(cls, scratch: Path, number: int, name: str) -> _Step:
        """Raises UnsafeModelError where a link that stands in the folder would lead the output out of it."""
        folder, fresh = scratch.parent, scratch / _FRESH / name
        way, last = os.path.split(name)
        target = (inside(folder, way, what=f"the output {name!r}", where=folder) if way else folder) / last
        return cls(name, fresh, target, scratch / _OLD / str(number), _identity(fresh), _identity(target))

    def at_once(self) -> bool:
        """Puts it in place in a single step, if there is one."""
        if not (_is_folder(self.fresh) or _is_folder(self.target)):
            os.replace(self.fresh, self.target)
            return True
        if self.old is not None:
            return exchange(self.fresh, self.target)
        os.rename(self.fresh, self.target)
        return True

    def do(self) -> None:
        """Puts it in place and keeps the old one; goes on where it was left."""
        if self.old is not None and _identity(self.target) == self.old:
            if exchange(self.fresh, self.target):
                return
            self.aside.parent.mkdir(exist_ok=True)
            os.rename(self.target, self.aside)
        os.rename(self.fresh, self.target)

    def undo(self) -> None:
        """Puts the old one back, as far as this step had come."""
        if _identity(self.target) == self.new:
            if self.old is not None and _identity(self.fresh) == self.old:
                exchange(self.fresh, self.target)
                return
            os.rename(self.target, self.fresh)
        if _identity(self.aside) == self.old is not None:
            os.rename(self.aside, self.target)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


# what a killed run had begun


def _write_journal(journal: Path, steps: Sequence[_Step]) -> None:
    """What is to take which place, told by file numbers: nothing else that stands there later is touched."""
    entries = [{"name": step.name, "new": step.new, "old": step.old} for step in steps]
    draft = journal.with_name("draft")
    draft.write_text(json.dumps({"version": 1, "outputs": entries}), encoding="utf-8")
    _sync_file(draft)
    # renamed into place, so that no reader meets half a journal
    os.replace(draft, journal)
    _sync_file(journal.parent)


def _finish(scratch: Path) -> None:
    """Does what is left of a killed run's steps; what does not stand as that run left it stays as it is."""
    for number, entry in enumerate(_read_journal(scratch / _JOURNAL)):
        with contextlib.suppress(KeyError, TypeError, UnsafeModelError, OSError):
            step = _Step.in_scratch(scratch, number, stored_name(entry["name"], what="an output", where=scratch))
            # what stands there is what that run saw, or it had been put aside already
            kept = step.old == entry["old"] or (step.old is None and _identity(step.aside) == entry["old"])
            if kept and step.new is not None and step.new == entry["new"]:
                step.do()


def _read_journal(path: Path) -> list[Mapping[str, object]]:
    try:
        if path.stat().st_size > _LARGEST_JOURNAL:
            return []
        outputs = json.loads(path.read_text(encoding="utf-8"))["outputs"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [entry if isinstance(entry, dict) else {} for entry in outputs] if isinstance(outputs, list) else []


def _identity(path: Path) -> list[int] | None:
    """The file system's own number of what stands at a path; None where nothing does."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return [status.st_dev, status.st_ino]


# a loss of power


def _sync(path: Path) -> None:
    """Hands a file, or a folder with all in it, to the disk, before anything points to it."""
    if not _is_folder(path):
        if not path.is_symlink():
            _sync_file(path)
        return
    for parent, _, names in os.walk(path):
        for name in names:
            _sync_file(Path(parent, name))
        _sync_file(Path(parent))


def _sync_file(path: Path) -> None:
    """As far as the system and the file system do that: no run fails for it."""
    if os.name == "nt":  # only what is open for writing can be synced there, and no folder
        return
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            os.fsync(file)
        finally:
            os.close(file)
