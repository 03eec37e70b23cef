"""The store: Parquet files that appear whole or not at all, so that any number of runs go on where one was killed.

    slices/<slice>.parquet             which photos a slice is made of, and what their files held
    <model's key>/<slice>.parquet      what one model says about one slice
    models/<model's key>.json          what is known of a model once it has seen a photo
    agreement/<line-up>/<...>.parquet  what all models together say about one slice
    timings/<model's key>/<...>.json   how long that took: the only files that differ from run to run
    store.json                         the version of all that

A model's key changes with its file, how it is made and fed, and what runs it: nothing stale is ever read.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coreproof.comparison.schema import SHARD, SLICE, Column, affordable, checked
from coreproof.errors import StoreError
from coreproof.model.files.entries import Entry, read_json
from coreproof.model.files.paths import inside, regular_file
from coreproof.model.files.scratch import TemporaryFolder
from coreproof.visible import in_json

if TYPE_CHECKING:
    import pyarrow as pa

_ABANDONED = 24 * 3600
"""Seconds after which what another machine left half written is taken for abandoned."""
VERSION = 1
_ABOUT = "store.json"
_OWN = frozenset((_ABOUT, "slices", "models", "agreement", "timings", ".writing"))
"""What a store's folder holds as soon as there is anything in it."""
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_UNREAD = b"unread"
_NO_ROOM = os.strerror(errno.ENOSPC)


@dataclass(frozen=True)
class Shard:
    """What one model says about one slice of photos.

    ``probabilities`` is [photos, classes] float32 in the model's own class order; the row of a photo that was not seen is
    zero, and ``skipped`` says why (None for photos that were seen). ``unread`` are the rows whose files could not be read as
    the slice holds them: they are tried again when they can.
    """

    photos: tuple[str, ...]
    skipped: tuple[str | None, ...]
    probabilities: npt.NDArray[np.float32]
    unread: tuple[int, ...] = ()


@dataclass(frozen=True)
class Member:
    """A photo of a slice. ``content`` is the digest of its file, None where the file could not be read."""

    photo: str
    size: int
    version: str
    content: str | None = None


class Store:
    """A folder of shards."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._scratch = self.folder / ".writing"
        self._elsewhere: list[TemporaryFolder] = []
        if self.folder.exists() and not self.folder.is_dir():
            raise StoreError("the store is no folder", where=str(self.folder), fix="give a folder that is its own")
        self._require_own()
        self._require_known()
        self._tidy()

    # slices

    def slice_files(self) -> list[Path]:
        """The files that say what each slice is made of."""
        return sorted((self.folder / "slices").glob("*.parquet"))

    def has_slice(self, key: str) -> bool:
        """Whether it is known what this slice is made of."""
        return self._slice(key).is_file()

    def write_slice(self, key: str, members: Sequence[Member]) -> None:
        """Keeps what a slice is made of. What is said of one that was not known, or held other files, is forgotten."""
        import pyarrow as pa

        left = self._said_of(key)  # before the look for the slice: what another run says from now on stays
        if not self._holds(key, members):
            self._delete(left)
        self.write_table(
            self._slice(key),
            pa.table(
                {
                    "slice": pa.array([key] * len(members), pa.string()),
                    "row": pa.array(range(len(members)), pa.int32()),
                    "photo": pa.array([m.photo for m in members], pa.string()),
                    "size": pa.array([m.size for m in members], pa.int64()),
                    "version": pa.array([m.version for m in members], pa.string()),
                    "content": pa.array([m.content for m in members], pa.string()),
                }
            ),
        )

    def read_slice(self, key: str) -> list[Member]:
        """What a slice is made of. Raises StoreError."""
        rows = self.read_table(self._slice(key), SLICE).to_pylist()
        return [Member(row["photo"], row["size"], row["version"], row["content"]) for row in rows]

    def _holds(self, key: str, members: Sequence[Member]) -> bool:
        return self.has_slice(key) and [m.content for m in self.read_slice(key)] == [m.content for m in members]

    def forget_slice(self, key: str) -> None:
        """Deletes what is said of a slice, and last what it is made of. Raises StoreError."""
        self._delete([*self._said_of(key), self._slice(key)])

    def _said_of(self, key: str) -> list[Path]:
        shards = [path for path in self.folder.glob(f"*/{key}.parquet") if path != self._slice(key)]
        # statistics first: a run that is killed between leaves shards without them, which is made good
        return [*(self._agreement(key) if shards else ()), *shards]

    def _slice(self, key: str) -> Path:
        return self.folder / "slices" / f"{key}.parquet"

    def _agreement(self, key: str) -> list[Path]:
        return list(self.folder.glob(f"agreement/*/{key}-*.parquet"))

    def _delete(self, paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise self.failure(path, error) from None

    # shards

    def shard_path(self, model_key: str, slice_key: str) -> Path:
        """Where a shard stands, whether it is there or not."""
        return self.folder / model_key / f"{slice_key}.parquet"

    def has_shard(self, model_key: str, slice_key: str) -> bool:
        """Whether a shard is there and whole; a damaged one is made again."""
        return self.unread(model_key, slice_key) is not None

    def unread(self, model_key: str, slice_key: str) -> list[int] | None:
        """The rows of a shard whose files could not be read when they were wanted; None where there is no whole shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.shard_path(model_key, slice_key)
        try:
            about = pq.read_metadata(path) if path.is_file() else None
            if about is None or not about.num_rows:
                return None
            rows = [int(row) for row in (about.metadata or {}).get(_UNREAD, b"").split()]
            return rows if all(0 <= row < about.num_rows for row in rows) else None
        except (pa.lib.ArrowException, OSError, ValueError):
            return None

    def read_shard(self, model_key: str, slice_key: str) -> Shard:
        """A shard. Raises StoreError for one that vanished or is damaged."""
        path = self.shard_path(model_key, slice_key)
        table = self.read_table(path, SHARD)
        if table.column("probabilities").null_count:
            raise self.unreadable(path, "column 'probabilities' lacks values")
        return Shard(
            tuple(table.column("photo").to_pylist()),
            tuple(table.column("skipped").to_pylist()),
            matrix(table.column("probabilities")),
        )

    def write_shard(self, model_key: str, slice_key: str, shard: Shard) -> None:
        """Writes a shard in one step; a reader sees the old one or the new one. What was made of an old one is forgotten."""
        import pyarrow as pa

        # the statistics of a slice rest on every shard of it
        if self.shard_path(model_key, slice_key).exists():
            self._delete(self._agreement(slice_key))
        table = pa.table(
            {
                "slice": pa.array([slice_key] * len(shard.photos), pa.string()),
                "photo": pa.array(shard.photos, pa.string()),
                "skipped": pa.array(shard.skipped, pa.string()),
                "probabilities": rows_of(shard.probabilities),
            }
        )
        if shard.unread:
            # in the metadata, so that who looks whether a shard is whole need not read it
            table = table.replace_schema_metadata({_UNREAD: " ".join(map(str, shard.unread))})
        self.write_table(self.shard_path(model_key, slice_key), table)

    # what is known of models

    def read_model(self, model_key: str) -> dict[str, object] | None:
        """What was kept about a model, None where nothing is or it is damaged."""
        with suppress(StoreError):
            document = self._json(self.folder / "models" / f"{model_key}.json")
            return {key: entry.value for key, entry in document.table().items()}
        return None

    def _json(self, path: Path) -> Entry:
        return read_json(self._within(path), lambda found: self.unreadable(path, found))

    def write_model(self, model_key: str, about: Mapping[str, object]) -> None:
        """Keeps what is known of a model once it has seen a photo."""
        text = in_json(json.dumps(about, ensure_ascii=False, indent=1, sort_keys=True))
        with self.writing(self.folder / "models" / f"{model_key}.json") as fresh:
            fresh.write_text(text, encoding="utf-8")

    def write_timing(self, model_key: str, seconds: float, photos: int) -> None:
        """Keeps how long a model took for so many photos in one run."""
        with self.writing(self.folder / "timings" / model_key / f"{uuid.uuid4().hex}.json") as fresh:
            fresh.write_text(json.dumps({"seconds": seconds, "photos": photos}))

    def seconds_per_photo(self, model_key: str) -> float | None:
        """How long a model took for a photo over all runs, None where that was not measured."""
        seconds, photos = 0.0, 0
        for path in (self.folder / "timings" / model_key).glob("*.json"):
            with suppress(StoreError):
                timing = self._json(path)
                took, seen = timing["seconds"].number(), timing["photos"].whole(0, 2**40)
                seconds, photos = seconds + max(took, 0.0), photos + seen
        return seconds / photos if photos else None

    # any table

    def read_table(self, path: Path, columns: Mapping[str, Column]) -> pa.Table:
        """The ``columns`` of a Parquet file of the store. Raises StoreError for one that vanished, is damaged, or has others."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            regular_file(self._within(path), error=StoreError)
            # read_table would take key=value folders above the store for columns
            file = pq.ParquetFile(path, page_checksum_verification=True)
            affordable(file, path)
            table = file.read()
        except (pa.lib.ArrowException, OSError) as error:
            raise self.unreadable(path, error) from None
        except StoreError as error:
            raise self.unreadable(path, error.found) from None
        return checked(table, columns, lambda found: self.unreadable(path, found))

    def unreadable(self, path: Path, found: object) -> StoreError:
        """What a person is told of a file that vanished or is damaged."""
        return StoreError(
            "a file of the store cannot be read",
            where=str(path),
            found=str(found),
            fix="delete it and run again; only what is missing is made again",
        )

    def is_damaged(self, path: Path) -> bool:
        """Whether a Parquet file is there and not what was written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            content = regular_file(self._within(path), error=StoreError).read_bytes()
        except OSError:
            return False
        except StoreError:  # gone, or a pipe or a folder in its place
            return os.path.lexists(path)
        try:
            file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
            affordable(file, path)
            file.read()
        except (pa.lib.ArrowException, OSError):
            return True
        return False

    def write_table(self, path: Path, table: pa.Table) -> None:
        """Writes a Parquet file in one step. Raises StoreError, as for a full disk."""
        import pyarrow.parquet as pq

        with self.writing(path) as fresh:
            # checksums, so that a bit that fell over on the disk is seen, and enters no statistic
            pq.write_table(table, fresh, compression="zstd", write_page_checksum=True)

    @contextmanager
    def writing(self, target: Path) -> Iterator[Path]:
        """A path to write to, which takes ``target``'s place when all is written. Raises StoreError."""
        fresh = self._fresh()
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            self._say_version()
            target.parent.mkdir(parents=True, exist_ok=True)
            yield fresh
            os.replace(
                fresh, target
            )  # atomic within a file system, which is why the scratch folder stands in the store
        except OSError as error:
            raise self.failure(target, error) from None
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _fresh(self) -> Path:
        """A name that no other process takes; ``_tidy`` reads from it whose it is."""
        return self._scratch / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}"

    def scratch_folder(self) -> Path:
        """A folder of this process's own in the store, for what may be large and is not kept."""
        folder = self._fresh()
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            if error.errno in _FORBIDDEN and self.slice_files():  # where all is known, a store is only read
                self._elsewhere.append(TemporaryFolder())
                return Path(self._elsewhere[-1].name)
            raise self.failure(self.folder, error) from None
        return folder

    def failure(self, target: Path, error: Exception) -> StoreError:
        """What a person is told when writing failed."""
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _NO_ROOM in str(error)
        return StoreError(
            "the disk is full" if full else "the store cannot be written",
            where=str(target),
            found=getattr(error, "strerror", None) or str(error),
            fix="make room and run again: what was written is kept, the run goes on behind it"
            if full
            else "copy the store to where you may write, or give another folder: --store FOLDER",
        )

    def _require_own(self) -> None:
        """Refuses a folder of something else, such as the photos: what is deleted later would be the user's.

        And one that leads out of itself through a link: what is written and cleared there is not its own.
        """
        try:
            top = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
            deeper = [each for name in ("agreement", "timings") for each in self.folder.glob(f"{name}/*")]
        except OSError as error:
            raise StoreError("the store cannot be read", where=str(self.folder), found=error.strerror) from None
        held = [path.name for path in top]
        others = [name for name in held if not name.startswith(".")]
        if others and not _OWN.intersection(held):
            raise StoreError(
                "the folder of the store holds something else",
                where=str(self.folder),
                found=", ".join([*others[:3], "..."] if len(others) > 3 else others),
                fix="give a folder that is its own, or a new one",
            )
        for path in (*top, *deeper):
            if path.is_symlink():
                self._within(path)

    def _within(self, path: Path) -> Path:
        name = path.relative_to(self.folder).as_posix()
        return inside(self.folder, name, what="a file of the store", where=self.folder, error=StoreError)

    def _require_known(self) -> None:
        """Refuses a store of a newer coreproof. One that says no version is of the first."""
        about = self.folder / _ABOUT
        try:
            said = self._json(about) if about.exists() else None
        except StoreError:  # damaged: made again, as every file of a store
            with suppress(OSError):
                about.unlink()
                self._scratch.mkdir(exist_ok=True)
                self._say_version()
            return
        version = 1 if said is None else said["version"].whole(1)
        if version > VERSION:
            fix = "update coreproof, or give another folder: --store FOLDER"
            raise StoreError.of_newer("store", about, f"version {VERSION}", version, fix)

    def _say_version(self) -> None:
        about = self.folder / _ABOUT
        if not about.exists():
            fresh = self._fresh()
            fresh.write_text(json.dumps({"format": "coreproof store", "version": VERSION}), encoding="utf-8")
            os.replace(fresh, about)

    def _tidy(self) -> None:
        """Clears what killed runs left half written: those of this machine that are gone, and very old ones."""
        for left in self._scratch.glob("*-*-*"):
            host, process, _ = left.name.rsplit("-", 2)
            with suppress(OSError, ValueError):
                # of another machine's process nothing can be asked but how old its file is
                here = host == socket.gethostname()
                old = time.time() - left.stat().st_mtime > _ABANDONED
                if not _alive(int(process)) if here else old:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


class TemporaryStore(Store):
    """A store that lasts as long as somebody holds it."""

    def __init__(self) -> None:
        self._held = TemporaryFolder()
        super().__init__(self._held.name)


def _alive(process: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(process, 0)  # the signal 0 only asks whether there is such a process
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def rows_of(values: np.ndarray) -> pa.FixedSizeListArray:
    """A matrix as a column of lists of one length."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:], dtype=np.int64)))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length as a matrix."""
    whole = column.combine_chunks()
    values = np.asarray(whole.flatten().to_numpy(zero_copy_only=False))
    return values.reshape(len(whole), whole.type.list_size)
