"""The plan of a comparison: which photos there are, which slices of the store hold them, and which slices are new.

What a slice is made of never changes. A photo counts where a slice holds it as its file is now; what was added or edited since
goes into new slices, so nothing that was predicted is predicted again. The work is done by DuckDB on disk: memory does not
grow with the number of photos.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import weakref
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from coreproof.comparison.schema import SLICE
from coreproof.comparison.source import FolderPhotos, PhotoSource, content_digest
from coreproof.comparison.store import Member, Store
from coreproof.errors import PhotoError, StoreError
from coreproof.feeding.photos import Truth, no_photos

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

SLICES = ((1_000, 16), (20_000, 64))
"""Up to so many photos, so many are a slice: what a killed run loses at most of each worker's work."""
LARGEST_SLICE = 256

_BATCH = 50_000
_FILES = 256
_PART = 100_000
"""Photos that are joined at a time."""
_MEMORY = "128MB"
_SAYS_ALIVE = 600


Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Planned:
    """A photo in its slice. ``live``: it is there as the slice holds it. ``truth``: its class, -1 where not known.

    ``share`` is its part of the picture that it is a crop of: one of seven crops is a seventh, a photo of its own 1.
    """

    member: Member
    live: bool
    truth: int
    share: float = 1.0


@dataclass(frozen=True)
class Slice:
    """Photos that are predicted and stored together. ``known``: the store has what it is made of."""

    key: str
    known: bool
    photos: tuple[Planned, ...]


class Plan:
    """Every slice of a comparison in order, read from a file as it is walked; the file lasts as long as the plan.

    ``photos`` counts those that are there.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self._said = time.monotonic()
        self._ends = weakref.finalize(self, shutil.rmtree, path.parent, ignore_errors=True)
        # counted batch by batch: the plan may be larger than memory
        with pq.ParquetFile(path) as file:
            self.photos = sum(batch.column("live").true_count for batch in file.iter_batches(columns=["live"]))

    def close(self) -> None:
        """Deletes the plan's file."""
        self._ends()

    def slices(self) -> Iterator[Slice]:
        """The slices, those with the first photos first."""
        for (key, known), rows in groupby(self._rows(), key=lambda row: (row["slice"], row["known"])):
            self._say_alive()
            members = ((r, Member(r["photo"], r["size"], r["version"], r["content"])) for r in rows)
            yield Slice(key, known, tuple(Planned(m, r["live"], r["truth"], r["share"]) for r, m in members))

    def _say_alive(self) -> None:
        """However long a run takes, no other one takes its plan for abandoned."""
        if time.monotonic() - self._said > _SAYS_ALIVE:
            self._said = time.monotonic()
            with suppress(OSError):
                os.utime(self.path.parent)

    def _rows(self) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=4096):
                    yield from batch.to_pylist()
        except FileNotFoundError:
            # the plan lies two folders below the store
            folder = self.path.parent.parent.parent
            raise StoreError(
                "the store was deleted while the comparison ran", where=str(folder), fix="run again"
            ) from None


def make_plan(
    source: PhotoSource, store: Store, truth: Iterable[tuple[str, Truth]] = (), size: int | None = None
) -> Plan:
    """Lists the photos and finds each its place.

    ``truth`` tells photos' classes; ``size`` is the photos a slice, None chooses by their number. Raises PhotoError where
    there are no photos, StoreError.
    """
    with _database(store) as connection:
        total = _list(connection, source)
        if not total:
            raise no_photos(source.where, source.folder if isinstance(source, FolderPhotos) else None)
        _know(connection, store, truth)
        _recognise(connection, source, store)
        _cut(connection, size or next((photos for most, photos in SLICES if total <= most), LARGEST_SLICE))
        return _written(connection, store.scratch_folder())


def _written(connection: duckdb.DuckDBPyConnection, folder: Path) -> Plan:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number, flag = pa.string(), pa.int32(), pa.bool_()
    schema = pa.schema(
        {"slice": text, "row": number, "photo": text, "size": pa.int64(), "version": text, "content": text}
        | {"known": flag, "live": flag, "truth": number, "share": pa.float64()}
    )
    path = folder / "plan.parquet"
    try:
        connection.execute("INSERT INTO used SELECT DISTINCT slice FROM live")
        for statement in (*_parts(connection, _PLACED), *_parts(connection, _SHARED)):
            connection.execute(statement)
        result = connection.execute(_PLAN)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while rows := result.fetchmany(_BATCH):
                columns = zip(schema, zip(*rows, strict=True), strict=True)
                writer.write_table(pa.Table.from_arrays([pa.array(c, f.type) for f, c in columns], schema=schema))
        return Plan(path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


_TABLES = """
CREATE TABLE listed (photo VARCHAR, size BIGINT, version VARCHAR);
CREATE TABLE truth (line BIGINT, photo VARCHAR, class INTEGER, picture VARCHAR);
CREATE TABLE member (slice VARCHAR, row INTEGER, photo VARCHAR, size BIGINT, version VARCHAR, content VARCHAR);
CREATE TABLE live (photo VARCHAR, slice VARCHAR, row INTEGER);
CREATE TABLE doubtful (photo VARCHAR, slice VARCHAR, row INTEGER, content VARCHAR, now VARCHAR);
CREATE TABLE recognised (slice VARCHAR, row INTEGER, now VARCHAR);
CREATE TABLE stale (slice VARCHAR);
CREATE TABLE rest (photo VARCHAR, size BIGINT, version VARCHAR);
CREATE TABLE fresh (slice VARCHAR, row INTEGER, photo VARCHAR, size BIGINT, version VARCHAR);
CREATE TABLE used (slice VARCHAR);
CREATE TABLE placed (
    slice VARCHAR, row INTEGER, photo VARCHAR, size BIGINT, version VARCHAR, content VARCHAR,
    known BOOLEAN, live BOOLEAN, truth INTEGER, picture VARCHAR
);
CREATE TABLE shared (
    slice VARCHAR, row INTEGER, photo VARCHAR, size BIGINT, version VARCHAR, content VARCHAR,
    known BOOLEAN, live BOOLEAN, truth INTEGER, share DOUBLE
);
"""
# Each of these joins one part of the photos: DuckDB gives up where a join of all of them does not fit its memory.
# A photo may stand in two slices: edited, and then put back. The first one that holds it as it is now counts.
_PART_OF = "(SELECT * FROM {table} WHERE hash(photo) % {{parts}} = {{part}}) AS {table}"
_MEMBER, _LISTED, _LIVING, _TOLD, _FRESH = (
    _PART_OF.format(table=table) for table in ("member", "listed", "live", "truth", "fresh")
)
_LIVE = f"""
INSERT INTO live SELECT photo, min(slice), arg_min(row, slice)
FROM {_MEMBER} JOIN {_LISTED} USING (photo, size, version) WHERE content IS NOT NULL AND version <> '' GROUP BY photo
"""
_DOUBTFUL = f"""
INSERT INTO doubtful SELECT photo, slice, row, content, listed.version FROM {_MEMBER} JOIN {_LISTED} USING (photo, size)
ANTI JOIN {_LIVING} USING (photo) ORDER BY photo, slice
"""
_REFRESHED = """
SELECT slice, photo, size, coalesce(now, version), content
FROM (SELECT * FROM member WHERE hash(slice) % {parts} = {part} AND slice IN (SELECT slice FROM stale))
LEFT JOIN (SELECT * FROM recognised WHERE hash(slice) % {parts} = {part}) USING (slice, row) ORDER BY slice, row
"""
_REST = f"INSERT INTO rest SELECT photo, size, version FROM {_LISTED} ANTI JOIN {_LIVING} USING (photo)"
_PLACED = f"""
INSERT INTO placed
WITH known_truth AS (
    SELECT photo, arg_max(class, line) AS class, arg_max(picture, line) AS picture FROM {_TOLD} GROUP BY photo
), every AS (
    SELECT slice, row, photo, size, version, content, true AS known FROM {_MEMBER}
    WHERE slice IN (SELECT slice FROM used)
    UNION ALL SELECT slice, row, photo, size, version, NULL, false FROM {_FRESH}
)
SELECT slice, row, photo, size, version, content, known, live.photo IS NOT NULL OR NOT known, coalesce(class, -1),
    picture
FROM every LEFT JOIN {_LIVING} USING (photo, slice, row) LEFT JOIN known_truth USING (photo)
"""
_SHARED = """
INSERT INTO shared
WITH these AS (SELECT * FROM placed WHERE hash(coalesce(picture, photo)) % {parts} = {part}),
crops AS (SELECT picture, count(*) AS photos FROM these WHERE live AND picture IS NOT NULL GROUP BY picture)
SELECT slice, row, photo, size, version, content, known, live, truth, 1.0 / coalesce(photos, 1)
FROM these LEFT JOIN crops USING (picture)
"""
_PLAN = """
SELECT shared.* FROM shared JOIN (SELECT slice, min(photo) AS first FROM shared WHERE live GROUP BY slice) USING (slice)
ORDER BY first, slice, row
"""


@contextmanager
def _database(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of this plan's own, which spills to disk instead of growing."""
    import duckdb

    folder = store.scratch_folder()
    try:
        with duckdb.connect() as connection:  # a file of its own would not do where a path holds a question mark
            connection.execute(
                f"SET memory_limit = '{_MEMORY}'; SET threads = 2; SET temp_directory = '{quoted(folder)}'"
            )
            # nothing in a store is a name to be opened, nor an extension to be loaded
            connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
            connection.execute("SET enable_external_access = false; SET lock_configuration = true")
            connection.execute(_TABLES)
            yield connection
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise store.failure(folder, error) from None
    except duckdb.Error as error:  # numbers beyond their columns, as a foreign store may hold
        raise store.unreadable(store.folder, error) from None
    except RuntimeError as error:  # what DuckDB makes of Ctrl-C
        raise (KeyboardInterrupt if str(error) == "Query interrupted" else error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _list(connection: duckdb.DuckDBPyConnection, source: PhotoSource) -> int:
    """Puts the photos into a table; how many there are."""
    total = 0
    for batch in _groups(source.listed(), _BATCH):
        _insert(connection, "listed", [vars(listed) for listed in batch])
        total += len(batch)
    return total


def _know(connection: duckdb.DuckDBPyConnection, store: Store, truth: Iterable[tuple[str, Truth]]) -> None:
    import pyarrow as pa

    told = pa.schema({"line": pa.int64(), "photo": pa.string(), "class": pa.int64(), "picture": pa.string()})
    for batch in _groups(enumerate(truth), _BATCH):
        lines = [
            {"line": n, "photo": photo, "class": known.index, "picture": known.picture or None}
            for n, (photo, known) in batch
        ]
        _insert_table(connection, "truth", pa.Table.from_pylist(lines, schema=told))
    for files in _groups(store.slice_files(), _FILES):
        tables = [table for path in files if (table := _slice_table(store, path)) is not None]
        if tables:
            _insert_table(connection, "member", pa.concat_tables(tables))


def _slice_table(store: Store, path: Path) -> pa.Table | None:
    """What a slice is made of; None for one whose file is damaged, which is forgotten, and made again."""
    import pyarrow as pa

    try:
        table = store.read_table(path, SLICE)
    except StoreError:
        if not store.is_damaged(path):
            raise
        store.forget_slice(path.stem)
        return None
    rows = table.column("row").to_pylist()
    if rows != list(range(len(rows))) or set(table.column("slice").to_pylist()) - {path.stem}:
        raise store.unreadable(path, "its rows are not those of this slice, in order")
    try:
        types = {name: pa.int64() if column == "whole" else pa.string() for name, column in SLICE.items()}
        return table.cast(pa.schema(types))  # whole numbers and texts of any width, which DuckDB takes as one
    except pa.lib.ArrowException as error:
        raise store.unreadable(path, error) from None


def _parts(connection: duckdb.DuckDBPyConnection, statement: str) -> Iterator[str]:
    """A statement for one part of the photos after the other."""
    largest = connection.execute(
        "SELECT greatest((SELECT count(*) FROM listed), (SELECT count(*) FROM member), (SELECT count(*) FROM truth))"
    ).fetchone()[0]
    # rounded up
    parts = -(-largest // _PART)
    return (statement.format(parts=parts, part=part) for part in range(parts))


def _recognise(connection: duckdb.DuckDBPyConnection, source: PhotoSource, store: Store) -> None:
    """Finds listed photos in the store: by their version, else, as after a copy of the folder, by what is in the file."""
    for statement in (*_parts(connection, _LIVE), *_parts(connection, _DOUBTFUL)):
        connection.execute(statement)
    doubtful = connection.cursor().execute("SELECT * FROM doubtful")  # apart, or the inserts below would end it
    digest: tuple[str, str | None] = ("", None)
    settled = ""
    while rows := doubtful.fetchmany(_BATCH):
        same = []
        for photo, slice_key, row, content, now in rows:
            if photo == settled:
                continue
            if digest[0] != photo:
                digest = (photo, _digest(source, photo))
            if digest[1] == content:
                settled = photo
                same.append(
                    {"photo": photo, "slice": slice_key, "row": row, "now": now, "readable": content is not None}
                )
        if same:
            _insert(connection, "live", same, "photo, slice, row")
            # the version is noted, so that the file need not be read again next time
            _insert(connection, "recognised", same, "slice, row, now")
            _insert(connection, "stale", [{"slice": row["slice"]} for row in same if row["readable"]], "DISTINCT slice")
    _refresh(connection, store)


def _refresh(connection: duckdb.DuckDBPyConnection, store: Store) -> None:
    """Keeps the versions under which photos are listed now, so that the next run need not read them."""
    for statement in _parts(connection, _REFRESHED):
        rows = connection.cursor().execute(statement)
        for key, members in groupby(_fetched(rows), key=lambda row: row[0]):
            store.write_slice(key, [Member(*member[1:]) for member in members])


def _fetched(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := result.fetchmany(_BATCH):
        yield from rows


def is_back(source: PhotoSource, photo: Planned) -> bool:
    """Whether a photo can be read, and is what its slice holds."""
    content = photo.member.content
    return photo.live and content is not None and _digest(source, photo.member.photo) == content


def _digest(source: PhotoSource, photo: str) -> str | None:
    """None for a photo that cannot be read, which is how a slice holds one that could not be read then."""
    try:
        return content_digest(source.read(photo))
    except PhotoError:
        return None


def _cut(connection: duckdb.DuckDBPyConnection, size: int) -> None:
    """Puts the photos that no slice holds into new ones, by name."""
    known = {key for (key,) in connection.execute("SELECT DISTINCT slice FROM member").fetchall()}
    for statement in _parts(connection, _REST):
        connection.execute(statement)
    rest = connection.cursor().execute("SELECT photo, size, version FROM rest ORDER BY photo")
    rows: list[dict[str, object]] = []
    while photos := rest.fetchmany(size):
        key = _new_key(known, [(photo, length) for photo, length, _ in photos])
        rows += [
            {"slice": key, "row": row, "photo": photo, "size": length, "version": version}
            for row, (photo, length, version) in enumerate(photos)
        ]
        if len(rows) >= _BATCH:
            _insert(connection, "fresh", rows)
            rows.clear()
    if rows:
        _insert(connection, "fresh", rows)


def _new_key(known: Container[str], photos: list[tuple[str, int]]) -> str:
    """A slice's name comes from what it holds, so that a run that is done again, or another one meanwhile, writes the same."""
    keys = (hashlib.blake2b(repr((n, photos)).encode(), digest_size=12).hexdigest() for n in count())
    return next(key for key in keys if key not in known)


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]], columns: str = "*"
) -> None:
    import pyarrow as pa

    if rows:
        _insert_table(connection, table, pa.Table.from_pylist(rows), columns)


def _insert_table(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table, columns: str = "*") -> None:
    connection.register("batch", rows)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT {columns} FROM batch")
    connection.unregister("batch")


def _groups(things: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
    """What ``itertools.batched`` does, from Python 3.12 on."""
    iterator = iter(things)
    while group := list(islice(iterator, size)):
        yield group


def quoted(value: object) -> str:
    """A text as it stands between the quotes of SQL."""
    return str(value).replace("'", "''")
