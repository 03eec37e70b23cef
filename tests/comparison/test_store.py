"""The store: whole files or none, damage that is seen, and a disk that is full."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from coreproof.comparison.store import Member, Shard, Store, TemporaryStore
from coreproof.errors import StoreError

MEMBERS = [Member(f"p{k}.png", k, f"v{k}", f"c{k}") for k in range(4)]


def shard(unread: tuple[int, ...] = ()) -> Shard:
    values = np.random.default_rng(1).random((4, 300)).astype(np.float32)
    return Shard(tuple(m.photo for m in MEMBERS), (None, "no picture", None, None), values, unread)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_written_is_read(store: Store) -> None:
    store.write_slice("s", MEMBERS)
    store.write_shard("m", "s", shard((1, 3)))
    store.write_model("m", {"engine": "ünïcode"})
    assert store.read_slice("s") == MEMBERS
    found = store.read_shard("m", "s")
    assert (found.photos, found.skipped) == (shard().photos, shard().skipped)
    np.testing.assert_array_equal(found.probabilities, shard().probabilities)
    assert (store.unread("m", "s"), store.unread("m", "other")) == ([1, 3], None)
    assert store.read_model("m") == {"engine": "ünïcode"}


def test_what_another_run_says_of_a_new_slice_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other, has_slice = Store(store.folder), Store.has_slice

    def meanwhile(self: Store, key: str) -> bool:
        found = has_slice(self, key)
        if self is store:
            other.write_slice("s", MEMBERS)
            other.write_shard("m", "s", shard())
        return found

    monkeypatch.setattr(Store, "has_slice", meanwhile)
    store.write_slice("s", MEMBERS)
    assert store.has_shard("m", "s")


def test_what_is_said_of_other_files_is_forgotten(store: Store) -> None:
    store.write_slice("s", MEMBERS)
    store.write_shard("m", "s", shard())
    store.write_slice("s", [replace(member, version="copied") for member in MEMBERS])
    assert store.has_shard("m", "s")
    store.write_slice("s", [replace(member, content="other") for member in MEMBERS])
    assert not store.has_shard("m", "s")


def test_the_same_is_written_as_the_same_bytes(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    for one in (store, other):
        one.write_slice("s", MEMBERS)
        one.write_shard("m", "s", shard())
    assert store.shard_path("m", "s").read_bytes() == other.shard_path("m", "s").read_bytes()
    assert store.slice_files()[0].read_bytes() == other.slice_files()[0].read_bytes()


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def overwritten(content: bytes) -> bytes:
    return b"something else"


@pytest.mark.parametrize("damage", [cut, emptied, overwritten])
def test_a_shard_that_is_cut_off_is_not_there(store: Store, damage: Callable[[bytes], bytes]) -> None:
    store.write_shard("m", "s", shard())
    path = store.shard_path("m", "s")
    path.write_bytes(damage(path.read_bytes()))
    assert not store.has_shard("m", "s")
    with pytest.raises(StoreError, match="cannot be read") as caught:
        store.read_shard("m", "s")
    assert str(path) in str(caught.value)
    assert "delete it and run again" in str(caught.value)


def test_every_changed_byte_of_a_shard_is_seen(store: Store) -> None:
    store.write_shard("m", "s", shard())
    path = store.shard_path("m", "s")
    content = path.read_bytes()
    about = pq.read_metadata(path).row_group(0)
    unseen = []
    for column in (about.column(k) for k in range(about.num_columns)):
        first = column.dictionary_page_offset or column.data_page_offset
        for at in range(first, first + column.total_compressed_size, 37):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])
            try:
                found = store.read_shard("m", "s")
                same = found.photos == shard().photos and found.skipped == shard().skipped
                if not (same and np.array_equal(found.probabilities, shard().probabilities)):
                    unseen.append(at)
            except StoreError:
                continue
    assert unseen == []


def test_a_damaged_model_document_is_not_there(store: Store) -> None:
    assert store.read_model("m") is None
    store.write_model("m", {"a": 1})
    for content in (b"", b"{", b"[]", b"\xff\xfe"):
        (store.folder / "models" / "m.json").write_bytes(content)
        assert store.read_model("m") is None


def test_damaged_timings_do_not_count(store: Store) -> None:
    store.write_timing("m", 2.0, 4)
    for number, content in enumerate((b"", b"{}", b"[1]", b'{"seconds": "x", "photos": 1}', b"\xff")):
        (store.folder / "timings" / "m" / f"{number}.json").write_bytes(content)
    assert store.seconds_per_photo("m") == 0.5


def test_what_is_said_of_a_slice_goes_when_nobody_knows_what_it_was_made_of(store: Store) -> None:
    store.write_slice("s", MEMBERS)
    store.write_slice("t", MEMBERS)
    for key in ("s", "t"):
        store.write_shard("m", key, shard())
        part = store.folder / "agreement" / "lineup" / f"{key}-0.parquet"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"part")
    (store.folder / "slices" / "s.parquet").unlink()
    store.write_slice("s", MEMBERS)
    assert (store.has_shard("m", "s"), store.has_shard("m", "t")) == (False, True)
    assert [path.name for path in (store.folder / "agreement" / "lineup").iterdir()] == ["t-0.parquet"]


def test_a_shard_that_is_made_again_takes_what_was_made_of_it_along(store: Store) -> None:
    store.write_slice("s", MEMBERS)
    store.write_shard("m", "s", shard((2,)))
    part = store.folder / "agreement" / "lineup" / "s-0.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"part")
    store.write_shard("m", "s", shard())
    assert not part.exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="no folder"):
        Store(tmp_path / "file")
    below = Store(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        below.write_slice("s", MEMBERS)
    assert "Not a directory" in str(caught.value)


def test_a_folder_of_something_else_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"a photo")
    with pytest.raises(StoreError, match="holds something else") as caught:
        Store(tmp_path)
    assert "cat.jpg" in str(caught.value)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"")
    mine = Store(tmp_path / "empty")
    mine.write_slice("s", MEMBERS)
    (mine.folder / "README.md").write_text("whose it is")
    assert Store(mine.folder).read_slice("s") == MEMBERS


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EROFS, "cannot be written")],
)
def test_a_disk_that_refuses_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    store.write_shard("m", "s", shard())
    before = store.shard_path("m", "s").read_bytes()
    for target in ("pyarrow.parquet.write_table", "os.replace"):
        with monkeypatch.context() as patched:
            patched.setattr(target, refusing(number))
            with pytest.raises(StoreError, match=said) as caught:
                store.write_shard("m", "s", shard((1,)))
        assert ("make room and run again" in str(caught.value)) == (number != errno.EROFS)
        assert store.shard_path("m", "s").read_bytes() == before
        assert list((store.folder / ".writing").iterdir()) == []


def test_leftovers_of_the_dead_go_and_of_the_living_stay(store: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    scratch = store.folder / ".writing"
    (scratch / f"{socket.gethostname()}-{dead.pid}-folder").mkdir(parents=True)
    (scratch / f"{socket.gethostname()}-{dead.pid}-folder" / "plan.parquet").write_text("x")
    names = {
        "dead": f"{socket.gethostname()}-{dead.pid}-file",
        "living": f"{socket.gethostname()}-{os.getpid()}-file",
        "living for days": f"{socket.gethostname()}-{os.getpid()}-old",
        "elsewhere": "another-host-1-file",
        "elsewhere, days ago": "another-host-2-old",
        "not ours": "README",
    }
    for name in names.values():
        (scratch / name).write_text("x")
    for name in ("living for days", "elsewhere, days ago"):
        os.utime(scratch / names[name], (1, 1))
    Store(store.folder)
    left = {path.name for path in scratch.iterdir()}
    assert left == {names[k] for k in ("living", "living for days", "elsewhere", "not ours")}


def test_a_temporary_store_goes_with_its_holder() -> None:
    store: TemporaryStore | None = TemporaryStore()
    assert store is not None
    folder = store.folder
    assert folder.is_dir()
    del store
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_place_of_a_file_is_damage_and_not_waited_for(store: Store) -> None:
    store.folder.mkdir(exist_ok=True)
    os.mkfifo(store.folder / "pipe.parquet")
    (store.folder / "folder.parquet").mkdir()
    damaged = [store.is_damaged(store.folder / f"{name}.parquet") for name in ("pipe", "folder", "gone")]
    assert damaged == [True, True, False]


@pytest.mark.parametrize(
    "name", ["slices", "models", "timings", "agreement", ".writing", "m", "agreement/l", "timings/m"]
)
def test_a_folder_of_the_store_that_is_a_link_elsewhere_is_refused_and_nothing_there_is_touched(
    store: Store, name: str
) -> None:
    store.write_slice("s", MEMBERS)
    elsewhere = store.folder.parent / "elsewhere"
    elsewhere.mkdir()
    for theirs in ("backup-1999999-of mine", "s.parquet"):
        (elsewhere / theirs).write_text("mine")
        os.utime(elsewhere / theirs, (0, 0))
    link = store.folder / name
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        link.rename(store.folder.parent / "moved")
    link.symlink_to(elsewhere)
    with pytest.raises(StoreError, match="a link to another folder"):
        Store(store.folder)
    assert sorted(path.name for path in elsewhere.iterdir()) == ["backup-1999999-of mine", "s.parquet"]


def test_a_file_of_the_store_that_is_a_link_elsewhere_is_not_read(store: Store) -> None:
    store.write_slice("s", MEMBERS)
    moved = store.folder.parent / "moved.parquet"
    (store.folder / "slices" / "s.parquet").rename(moved)
    (store.folder / "slices" / "s.parquet").symlink_to(moved)
    with pytest.raises(StoreError, match="a link to another folder"):
        Store(store.folder).read_slice("s")


def test_a_store_may_itself_be_reached_through_a_link(store: Store, tmp_path: Path) -> None:
    store.write_slice("s", MEMBERS)
    (tmp_path / "alias").symlink_to(store.folder)
    again = Store(tmp_path / "alias")
    again.write_shard("m", "s", shard())
    assert again.read_slice("s") == MEMBERS
    assert store.has_shard("m", "s")
