"""Photos from folders and from object stores: what is listed, what is noticed, what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coreproof.comparison.compare import compare
from coreproof.comparison.source import FolderPhotos, Listed, ListedPhotos, RemotePhotos, photo_source
from coreproof.errors import MissingDependencyError, PhotoError
from coreproof.feeding.photos import list_photos
from tests.build import classifier

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")


@pytest.fixture
def bucket(photos: Path) -> Iterator[str]:
    """The folder of photos in an object store that lives in memory, some of it in folders with awkward names."""
    address = f"memory://bucket-{uuid.uuid4().hex}/my photos"
    store, root = fsspec.core.url_to_fs(address)
    for k, file in enumerate(sorted(photos.iterdir())):
        below = ("", "of März/", "a/b/")[k % 3] if file.suffix == ".png" else ""
        store.pipe_file(f"{root}/{below}{file.name}", file.read_bytes())
    store.pipe_file(f"{root}/.hidden/p99.png", b"")
    store.pipe_file(f"{root}/.p98.png", b"")
    yield address
    store.rm(root, recursive=True)


def test_a_folder_and_its_listing_are_the_same_photos(photos: Path) -> None:
    (photos / "below").mkdir()
    (photos / "p00.png").rename(photos / "below" / "Ünï cödé.PNG")
    (photos / ".hidden").mkdir()
    (photos / "p01.png").rename(photos / ".hidden" / "p01.png")
    listed = {listed.photo for listed in FolderPhotos(photos).listed()}
    assert (
        listed == set(list_photos(photos).names) == {each.photo for each in ListedPhotos(list_photos(photos)).listed()}
    )
    assert "below/Ünï cödé.PNG" in listed
    assert len(listed) == 12


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_folder_that_cannot_be_listed_is_said(photos: Path) -> None:
    (photos / "closed").mkdir(mode=0)
    with pytest.raises(PhotoError, match="cannot be listed"):
        list(FolderPhotos(photos).listed())


def test_an_object_store_is_compared_like_a_folder(bucket: str, tmp_path: Path) -> None:
    source = RemotePhotos(bucket)
    names = sorted(listed.photo for listed in source.listed())
    assert len(names) == 13
    assert {name.rsplit("/", 1)[0] for name in names if "/" in name} == {"of März", "a/b"}
    comparison = compare({"a": classifier(0)}, bucket, tmp_path / "store")
    assert comparison.count == 12
    assert list(comparison.skipped) == ["broken.jpg"]
    again: list[tuple[str, int, int]] = []
    compare({"a": classifier(0)}, bucket, tmp_path / "store", progress=lambda *said: again.append(said))
    assert not [said for said in again if said[0] == "photos"]


def test_labels_beside_remote_photos_are_the_truth(bucket: str) -> None:
    store, root = fsspec.core.url_to_fs(bucket)
    photo = next(listed.photo for listed in RemotePhotos(bucket).listed() if listed.photo.endswith("p03.png"))
    store.pipe_file(f"{root}/labels.csv", f"file,class_index\n{photo},4\n".encode())
    comparison = compare({"a": classifier(0)}, bucket)
    assert comparison.truth == {photo: 4}
    store.pipe_file(f"{root}/labels.csv", b"picture,kind\n")
    with pytest.raises(PhotoError, match="other columns"):
        compare({"a": classifier(0)}, bucket)


def test_an_object_that_was_written_anew_is_noticed(bucket: str, photos: Path, tmp_path: Path) -> None:
    first = compare({"a": classifier(0)}, bucket, tmp_path / "store")
    store, root = fsspec.core.url_to_fs(bucket)
    names = sorted(listed.photo for listed in RemotePhotos(bucket).listed() if listed.photo.endswith(".png"))
    store.pipe_file(f"{root}/{names[0]}", store.cat_file(f"{root}/{names[1]}"))
    changed = compare({"a": classifier(0)}, bucket, tmp_path / "store")
    assert changed.predictions("a", names[0]) == first.predictions("a", names[1])


def test_an_object_store_that_tells_no_versions_is_read(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, root = fsspec.core.url_to_fs(bucket)
    names = sorted(listed.photo for listed in RemotePhotos(bucket).listed() if listed.photo.endswith(".png"))
    content = store.cat_file(f"{root}/{names[1]}")
    monkeypatch.setattr(RemotePhotos, "listed", lambda _: (Listed(name, 0, "") for name in names))  # as of plain HTTP
    first = compare({"a": classifier(0)}, bucket, tmp_path / "store")
    store.pipe_file(f"{root}/{names[0]}", content)
    again: list[tuple[str, int, int]] = []
    changed = compare({"a": classifier(0)}, bucket, tmp_path / "store", progress=lambda *said: again.append(said))
    assert changed.predictions("a", names[0]) == first.predictions("a", names[1])
    assert next(said for said in again if said[0] == "photos") == ("photos", 11, 12)


def test_a_photo_that_cannot_be_looked_at_is_skipped(photos: Path) -> None:
    listed = list_photos(photos)
    (photos / "loop.png").symlink_to("loop.png")
    for source in (FolderPhotos(photos), ListedPhotos(replace(listed, files=(*listed.files, photos / "loop.png")))):
        comparison = compare({"a": classifier(0)}, source)
        assert comparison.count == 12
        assert comparison.skipped["loop.png"] == os.strerror(errno.ELOOP)


def test_an_object_that_vanishes_is_skipped_by_name(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, root = fsspec.core.url_to_fs(bucket)
    gone = next(listed.photo for listed in RemotePhotos(bucket).listed() if listed.photo.endswith("p05.png"))
    read = RemotePhotos.read

    def reading(self: RemotePhotos, photo: str) -> bytes:
        if photo == gone and store.exists(f"{root}/{gone}"):
            store.rm_file(f"{root}/{gone}")
        return read(self, photo)

    monkeypatch.setattr(RemotePhotos, "read", reading)
    comparison = compare({"a": classifier(0)}, bucket)
    assert comparison.count == 11
    assert comparison.skipped[gone] == "there is no such picture"


def test_addresses_that_lead_nowhere() -> None:
    with pytest.raises(PhotoError, match=r"cannot be listed|no photos"):
        compare({"a": classifier(0)}, "memory://nothing-here")
    with pytest.raises(MissingDependencyError, match="not installed"):
        RemotePhotos("nonsense://somewhere")


def test_an_object_store_whose_package_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingDependencyError, match=r"coreproof\[remote\]"):
        RemotePhotos("gs://bucket/photos")


def test_what_a_person_means_by_photos(photos: Path) -> None:
    assert isinstance(photo_source(str(photos)), FolderPhotos)
    assert isinstance(photo_source(list_photos(photos)), ListedPhotos)
    assert isinstance(photo_source("memory://a"), RemotePhotos)
    with pytest.raises(PhotoError, match="no such folder"):
        photo_source(photos / "absent")


@pytest.mark.skipif(os.name == "nt", reason="here a colon is no part of a name")
def test_a_photo_whose_name_looks_like_a_drive_is_compared(photos: Path) -> None:
    (photos / "c:").mkdir()
    for name in ("a:b.png", "c:/d.png"):
        shutil.copy(next(photos.glob("*.png")), photos / name)
    for source in (FolderPhotos(photos), RemotePhotos(f"file://{photos}")):
        named = [each.photo for each in source.listed() if ":" in each.photo]
        assert sorted(named) == ["a:b.png", "c:/d.png"]
        assert all(source.read(name).startswith(b"\x89PNG") for name in named)


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/secret.png", "..", "", "a\0b"])
def test_no_name_leads_out_of_the_photos(tmp_path: Path, name: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    asked = str(tmp_path / "secret.png") if name == "/secret.png" else name
    for source in (FolderPhotos(tmp_path / "photos"), RemotePhotos(f"file://{tmp_path / 'photos'}")):
        with pytest.raises(PhotoError, match="name is not followed"):
            source.read(asked)
