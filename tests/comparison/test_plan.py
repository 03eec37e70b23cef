"""make_plan: every photo finds its place once, whatever happened to the folder and the store between two runs."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreproof.comparison import plan as plan_
from coreproof.comparison.plan import Plan, Slice, make_plan
from coreproof.comparison.source import FolderPhotos, ListedPhotos, content_digest, photo_source
from coreproof.comparison.store import Store
from coreproof.errors import PhotoError, StoreError
from coreproof.feeding.photos import Photos, Truth, truth_lines

SIZE = 3


def write(folder: Path, **contents: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.png").write_text(content)


def planned(folder: Path, store: Store, size: int = SIZE) -> list[Slice]:
    plan = make_plan(FolderPhotos(folder), store, size=size)
    slices = list(plan.slices())
    assert plan.photos == sum(photo.live for piece in slices for photo in piece.photos)
    plan.close()
    return slices


def keep(folder: Path, store: Store, slices: list[Slice]) -> None:
    """What a run keeps of slices: the digest of each file, None where it cannot be read."""
    source = FolderPhotos(folder)
    for piece in slices:
        members = []
        for photo in piece.photos:
            try:
                members.append(replace(photo.member, content=content_digest(source.read(photo.member.photo))))
            except PhotoError:
                members.append(photo.member)
        store.write_slice(piece.key, members)


def run(folder: Path, store: Store) -> None:
    keep(folder, store, [piece for piece in planned(folder, store) if not piece.known])


def fresh(slices: list[Slice]) -> list[str]:
    return [photo.member.photo for piece in slices if not piece.known for photo in piece.photos]


def live(slices: list[Slice]) -> list[str]:
    return [photo.member.photo for piece in slices for photo in piece.photos if photo.live]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    write(folder, **{name: name for name in "abcdefgh"})
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def names(letters: str) -> list[str]:
    return [f"{letter}.png" for letter in letters]


def test_a_fresh_plan_cuts_the_photos_by_name(folder: Path, store: Store) -> None:
    slices = planned(folder, store)
    assert [[p.member.photo for p in piece.photos] for piece in slices] == [names("abc"), names("def"), names("gh")]
    assert not any(piece.known for piece in slices)
    assert len({piece.key for piece in slices}) == 3
    assert list((store.folder / ".writing").iterdir()) == []


def test_the_same_photos_make_the_same_slices(folder: Path, store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    assert planned(folder, store) == planned(folder, other)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("finished", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_a_resumed_run_cuts_what_is_left_as_before(folder: Path, store: Store, finished: tuple[int, ...]) -> None:
    undisturbed = planned(folder, store)
    keep(folder, store, [undisturbed[k] for k in finished])
    resumed = planned(folder, store)
    assert [piece.key for piece in resumed] == [piece.key for piece in undisturbed]
    assert [piece.known for piece in resumed] == [k in finished for k in range(3)]


def test_only_an_added_photo_is_new(folder: Path, store: Store) -> None:
    run(folder, store)
    write(folder, bb="new")
    slices = planned(folder, store)
    assert fresh(slices) == ["bb.png"]
    assert sorted(live(slices)) == sorted([*names("abcdefgh"), "bb.png"])


def test_an_edited_photo_is_new_and_put_back_it_is_known(folder: Path, store: Store) -> None:
    run(folder, store)
    write(folder, b="edited")
    slices = planned(folder, store)
    assert fresh(slices) == ["b.png"]
    assert sorted(live(slices)) == names("abcdefgh")
    run(folder, store)
    write(folder, b="b")
    slices = planned(folder, store)
    assert fresh(slices) == []
    assert sorted(live(slices)) == names("abcdefgh")


def test_the_same_name_and_size_are_not_the_same_photo(folder: Path, store: Store) -> None:
    run(folder, store)
    write(folder, b="B")
    assert fresh(planned(folder, store)) == ["b.png"]


def test_an_edit_before_its_slice_was_kept_gets_a_name_of_its_own(folder: Path, store: Store) -> None:
    run(folder, store)
    write(folder, g="G", h="H")
    run(folder, store)
    keys = [piece.key for piece in planned(folder, store)]
    assert len(set(keys)) == 3  # g and h have left the third slice, and another of the same names and sizes holds them


def test_a_deleted_photo_does_not_count_and_comes_back_known(folder: Path, store: Store) -> None:
    run(folder, store)
    (folder / "b.png").rename(folder / "b.kept")
    assert sorted(live(planned(folder, store))) == names("acdefgh")
    (folder / "b.kept").rename(folder / "b.png")
    slices = planned(folder, store)
    assert (sorted(live(slices)), fresh(slices)) == (names("abcdefgh"), [])


def test_a_slice_without_any_of_its_photos_is_left_out(folder: Path, store: Store) -> None:
    run(folder, store)
    for name in names("abc"):
        (folder / name).unlink()
    assert [len(piece.photos) for piece in planned(folder, store)] == [3, 2]


def test_a_touched_photo_is_recognised_by_what_it_holds(folder: Path, store: Store) -> None:
    run(folder, store)
    os.utime(folder / "b.png", (1, 1))
    slices = planned(folder, store)
    assert (sorted(live(slices)), fresh(slices)) == (names("abcdefgh"), [])


class Counting(FolderPhotos):
    reads = 0

    def read(self, photo: str) -> bytes:
        self.reads += 1
        return super().read(photo)


def test_a_copied_folder_is_recognised_and_read_only_once(folder: Path, store: Store, tmp_path: Path) -> None:
    run(folder, store)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    for path in copy.iterdir():
        os.utime(path, (1, 1))
    source = Counting(copy)
    plan = make_plan(source, store, size=SIZE)
    assert (fresh(list(plan.slices())), plan.photos, source.reads) == ([], 8, 8)
    again = make_plan(source, store, size=SIZE)
    assert (fresh(list(again.slices())), again.photos, source.reads) == ([], 8, 8)


@pytest.mark.thorough
def test_two_folders_in_turn_on_one_store(folder: Path, store: Store, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, **{name: f"other {name}" for name in "abxyz"})
    run(folder, store)
    run(other, store)
    for one, letters in ((folder, "abcdefgh"), (other, "abxyz"), (folder, "abcdefgh")):
        slices = planned(one, store)
        assert (sorted(live(slices)), fresh(slices)) == (names(letters), [])


def test_a_photo_that_cannot_be_read_is_not_tried_again_until_it_can(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = FolderPhotos.read

    def refused(self: FolderPhotos, photo: str) -> bytes:
        if photo == "b.png":
            raise PhotoError("the picture cannot be read", where=photo, found="Permission denied")
        return read(self, photo)

    monkeypatch.setattr(FolderPhotos, "read", refused)
    run(folder, store)
    slices = planned(folder, store)
    assert (sorted(live(slices)), fresh(slices)) == (names("abcdefgh"), [])
    monkeypatch.setattr(FolderPhotos, "read", read)
    slices = planned(folder, store)
    assert (sorted(live(slices)), fresh(slices)) == (names("abcdefgh"), ["b.png"])
    (folder / "b.png").unlink()
    assert sorted(live(planned(folder, store))) == names("acdefgh")


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_name_that_is_no_text_is_a_photo_all_the_same(folder: Path, store: Store) -> None:
    (folder / os.fsdecode(b"caf\xe9.png")).write_text("latin")
    (folder / os.fsdecode(b"sub\xff")).mkdir()
    (folder / os.fsdecode(b"sub\xff") / "ü.png").write_text("below")
    run(folder, store)
    slices = planned(folder, store)
    assert fresh(slices) == []
    assert sorted(live(slices)) == sorted([*names("abcdefgh"), r"caf\xe9.png", r"sub\xff/ü.png"])
    source = FolderPhotos(folder)
    assert (source.read(r"caf\xe9.png"), source.read(r"sub\xff/ü.png")) == (b"latin", b"below")


def test_names_of_every_script_and_sign(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / 'it\'s a "folder" of ünïcode 日本'
    write(folder, **{name: name for name in ("日本 🙂", "it's", 'a "quote"', "a%20b", "e\u0301", "é", r"back\xslash")})
    run(folder, store)
    slices = planned(folder, store)
    assert (len(live(slices)), fresh(slices)) == (7, [])
    source = FolderPhotos(folder)
    assert all(source.read(name).decode() + ".png" == name for name in live(slices))


def test_hidden_folders_and_links(folder: Path, store: Store, tmp_path: Path) -> None:
    write(folder / ".hidden", x="x")
    write(folder / "below", y="y")
    write(tmp_path / "elsewhere", z="z")
    (folder / "linked.png").symlink_to(tmp_path / "elsewhere" / "z.png")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "circle").symlink_to(folder)
    (folder / "folder.png").mkdir()
    assert sorted(live(planned(folder, store))) == sorted([*names("abcdefgh"), "below/y.png", "linked.png"])


def test_a_photo_that_vanishes_while_its_folder_is_listed_is_not_listed(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "below", y="y")
    scandir = os.scandir

    class Vanishing:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry, self.name = entry, entry.name

        def is_dir(self, *, follow_symlinks: bool = True) -> bool:
            return self.entry.is_dir(follow_symlinks=follow_symlinks)

        def is_file(self) -> bool:
            found = self.entry.is_file()
            if self.name == "b.png":
                os.unlink(self.entry.path)
            return found

        def stat(self) -> os.stat_result:
            return os.stat(self.entry.path)

    class Scan:
        def __init__(self, path: Path) -> None:
            if path.name == "below":
                raise FileNotFoundError(2, "No such file or directory")
            self.entries = scandir(path)

        def __enter__(self) -> Scan:
            return self

        def __exit__(self, *_: object) -> None:
            self.entries.close()

        def __iter__(self) -> object:
            return (Vanishing(entry) for entry in self.entries)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", Scan)
        listed = [photo.photo for photo in FolderPhotos(folder).listed()]
    assert sorted(listed) == names("acdefgh")


def test_a_folder_that_may_not_be_listed_stops_the_run(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "locked", y="y")
    scandir = os.scandir

    def refused(path: Path | int) -> object:
        if isinstance(path, Path) and path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PhotoError, match="cannot be listed") as caught:
        planned(folder, store)
    assert "locked" in str(caught.value)
    assert list((store.folder / ".writing").iterdir()) == []


def test_listed_photos_that_vanished_are_left_to_be_skipped(folder: Path, store: Store) -> None:
    chosen = Photos(folder, tuple(folder / name for name in names("abc")))
    source = photo_source(chosen)
    assert isinstance(source, ListedPhotos)
    (folder / "b.png").unlink()
    plan = make_plan(source, store)
    assert [p.member.photo for piece in plan.slices() for p in piece.photos] == names("abc")


def test_a_class_index_beyond_measure_is_named(folder: Path, store: Store) -> None:
    (folder / "labels.csv").write_text("file,class_index\na.png,99999999999\n")
    with pytest.raises(PhotoError, match="line 2"):
        make_plan(FolderPhotos(folder), store, truth_lines(folder / "labels.csv"), SIZE)


def test_truth_of_a_labels_csv_with_doubles_and_strangers(folder: Path, store: Store) -> None:
    lines = ["file,class_index", "a.png,1", "b.png,2", "a.png,3", "stranger.png,4"]
    (folder / "labels.csv").write_text("\n".join(lines))
    plan = make_plan(FolderPhotos(folder), store, truth_lines(folder / "labels.csv"), SIZE)
    truth = {photo.member.photo: photo.truth for piece in plan.slices() for photo in piece.photos}
    assert (truth["a.png"], truth["b.png"], truth["c.png"], len(truth)) == (3, 2, -1, 8)


def test_truth_does_not_change_slices(folder: Path, store: Store) -> None:
    run(folder, store)
    plan = make_plan(FolderPhotos(folder), store, [("a.png", Truth(5))], SIZE)
    assert all(piece.known for piece in plan.slices())


def test_a_damaged_manifest_is_made_again(folder: Path, store: Store) -> None:
    run(folder, store)
    kept = {path.name: path.read_bytes() for path in store.slice_files()}
    for number, path in enumerate(store.slice_files()):
        path.write_bytes((b"", b"no parquet", kept[path.name][:-5])[number])
    slices = planned(folder, store)
    assert (sorted(live(slices)), sorted(fresh(slices))) == (names("abcdefgh"), names("abcdefgh"))
    keep(folder, store, slices)
    assert {path.name: path.read_bytes() for path in store.slice_files()} == kept


def test_photos_of_many_slices_are_in_order(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "many"
    write(folder, **{f"{k:03}": str(k) for k in range(0, 100, 2)})
    run(folder, store)
    write(folder, **{f"{k:03}": str(k) for k in range(1, 100, 2)})
    run(folder, store)
    slices = planned(folder, store)
    counted = Counter(photo.member.photo for piece in slices for photo in piece.photos)
    assert (len(counted), set(counted.values()), fresh(slices)) == (100, {1}, [])
    firsts = [piece.photos[0].member.photo for piece in slices]
    assert firsts == sorted(firsts)


def test_a_plan_goes_with_its_holder(folder: Path, store: Store) -> None:
    plan: Plan | None = make_plan(FolderPhotos(folder), store)
    assert len(list((store.folder / ".writing").iterdir())) == 1
    del plan
    assert list((store.folder / ".writing").iterdir()) == []


def test_no_photos(tmp_path: Path, store: Store) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PhotoError, match="no photos"):
        make_plan(FolderPhotos(tmp_path / "empty"), store)
    assert list((store.folder / ".writing").iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    def full(*_: object) -> None:
        raise duckdb.IOException("IO Error: Could not write file: No space left on device")

    monkeypatch.setattr(plan_, "_cut", full)
    with pytest.raises(StoreError, match="the disk is full") as caught:
        planned(folder, store)
    assert "make room and run again" in str(caught.value)
    assert list((store.folder / ".writing").iterdir()) == []


def test_an_interrupt_while_the_database_works_is_an_interrupt(
    folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise RuntimeError("Query interrupted")  # what DuckDB makes of SIGINT

    monkeypatch.setattr(plan_, "_cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        planned(folder, store)
    assert list((store.folder / ".writing").iterdir()) == []


@pytest.mark.thorough
def test_a_plan_of_many_parts_is_the_plan_of_one(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Store(tmp_path / "other")
    for step in range(4):
        if step == 1:
            write(folder, b="edited", bb="new")
        if step == 2:
            (folder / "c.png").unlink()
            os.utime(folder / "d.png", (1, 1))
        if step == 3:
            write(folder, b="b")
        with monkeypatch.context() as patched:
            patched.setattr(plan_, "_PART", 2)
            slices = planned(folder, other)
            run(folder, other)
        assert planned(folder, store) == slices
        run(folder, store)
    assert [p.read_bytes() for p in store.slice_files()] == [p.read_bytes() for p in other.slice_files()]


def test_slices_that_another_run_writes_meanwhile_are_the_same(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise = plan_._recognise

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(plan_, "_recognise", recognise)
        run(folder, Store(store.folder))
        recognise(*arguments)

    monkeypatch.setattr(plan_, "_recognise", meanwhile)
    slices = planned(folder, store)
    assert not any(piece.known for piece in slices)
    keep(folder, store, slices)
    assert {path.stem for path in store.slice_files()} == {piece.key for piece in slices}
