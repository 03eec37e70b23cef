"""Packages in archives: what people send around is read, and what a stranger hides in one does no harm."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import coreproof as cp
from coreproof.errors import CoreproofError, TooLargeError, UnreadableModelError, UnsafeModelError
from tests.build import layer, network, onnx_net

X = {"x": np.arange(64, dtype=np.float32).reshape(1, 64)}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    net = onnx_net([("MatMul", "x w", "y", {})], {"x": [1, 64]}, {"y": [1, 64]}, w=weight)
    return cp.convert(net, "mlprogram").save(tmp_path / "net.mlpackage")


def _zipped(package: Path, out: Path, inside: str = "net.mlpackage/", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(out, "w", method) as archive:
        for file in sorted(package.rglob("*")):
            if file.is_file():
                archive.write(file, inside + file.relative_to(package).as_posix())
        archive.writestr("__MACOSX/._net.mlpackage", b"forked")
        archive.writestr(f"{inside}.DS_Store", b"store")
    return out


@pytest.mark.parametrize("inside", ["net.mlpackage/", "", "a/b/net.mlpackage/"])
def test_a_zipped_package_is_the_package(package: Path, tmp_path: Path, inside: str) -> None:
    path = _zipped(package, tmp_path / "net.mlpackage.zip", inside)
    model = cp.load(path)
    with cp.session(package) as wanted, cp.session(model) as got:
        np.testing.assert_array_equal(got.run(X)["y"], wanted.run(X)["y"])
    assert model.path == path
    again = model.save(tmp_path / "again.mlpackage")
    assert not cp.diff(package, again)


def test_a_single_file_is_read_too(tmp_path: Path) -> None:
    stored = network([layer("softmax", "x", "y")], {"x": (3,)}, {"y": (3,)}).save(tmp_path / "net.mlmodel")
    with zipfile.ZipFile(tmp_path / "net.mlmodel.zip", "w") as archive:
        archive.write(stored, "net.mlmodel")
    assert cp.load(tmp_path / "net.mlmodel.zip").is_network


def test_the_unpacked_folder_goes_with_the_model(package: Path, tmp_path: Path) -> None:
    model = cp.load(_zipped(package, tmp_path / "net.mlpackage.zip"))
    folder = model.folder  # type: ignore[attr-defined]
    assert folder.exists()
    del model
    import gc

    gc.collect()
    assert not folder.exists()


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("net.mlpackage/Data/com.apple.CoreML/weights/more.bin")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def _pipe(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("net.mlpackage/pipe")
    info.external_attr = (stat.S_IFIFO | 0o777) << 16
    archive.writestr(info, b"")


@pytest.mark.parametrize(
    ("add", "told"),
    [
        (lambda a: a.writestr("../outside.txt", b"x"), r"'\.\./outside.txt' \('\.\.'\)"),
        (lambda a: a.writestr("net.mlpackage/../../x", b"x"), r"\('\.\.'\)"),
        (lambda a: a.writestr("/absolute.txt", b"x"), "an absolute path"),
        (lambda a: a.writestr("C:/drive.txt", b"x"), "a drive"),
        (lambda a: a.writestr("net.mlpackage\\..\\..\\x", b"x"), r"\('\.\.'\)"),
        (lambda a: a.writestr("net.mlpackage/manifest.JSON", b"{}"), "twice in it"),
        (_link, "is a link"),
        (_pipe, "is a device or a pipe"),
    ],
)
def test_what_leads_out_of_an_archive_is_refused_and_not_written(
    package: Path, tmp_path: Path, add: Callable[[zipfile.ZipFile], None], told: str
) -> None:
    (tmp_path / "deep").mkdir()
    path = _zipped(package, tmp_path / "deep" / "net.mlpackage.zip")
    with zipfile.ZipFile(path, "a") as archive:
        add(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnsafeModelError, match=told):
        cp.load(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_encrypted_member_is_refused(package: Path, tmp_path: Path) -> None:
    data = bytearray(_zipped(package, tmp_path / "net.mlpackage.zip").read_bytes())
    # the flag stands in each entry of the directory, 8 bytes behind its signature
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(UnsafeModelError, match="encrypted"):
        cp.load(tmp_path / "locked.zip")


def test_a_bomb_is_refused_before_it_is_unpacked(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _zipped(package, tmp_path / "bomb.mlpackage.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net.mlpackage/Data/com.apple.CoreML/weights/zeros.bin", bytes(20_000_000))
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "5MB")
    with pytest.raises(TooLargeError, match="the unpacked model would take"):
        cp.load(path)


def test_more_files_than_a_model_has_are_refused(package: Path, tmp_path: Path) -> None:
    path = _zipped(package, tmp_path / "many.zip", method=zipfile.ZIP_STORED)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(10_001):
            archive.writestr(f"net.mlpackage/{number}", b"")
    with pytest.raises(UnsafeModelError, match="more files than a model has"):
        cp.load(path)


def test_a_member_of_another_size_than_it_says_is_damaged(package: Path, tmp_path: Path) -> None:
    data = bytearray(_zipped(package, tmp_path / "net.mlpackage.zip", method=zipfile.ZIP_STORED).read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24] ^= 1  # the lowest byte of the size that the directory says
    (tmp_path / "wrong.zip").write_bytes(data)
    with pytest.raises(UnreadableModelError, match="the archive is damaged"):
        cp.load(tmp_path / "wrong.zip")


@pytest.mark.parametrize(
    "names",
    [[], ["readme.txt"], ["a.mlmodel", "b.mlmodel"], ["a/Manifest.json", "b/Manifest.json"]],
)
def test_an_archive_of_no_model_or_of_several_is_told(tmp_path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    with pytest.raises(UnreadableModelError, match="does not hold one Core ML model"):
        cp.load(tmp_path / "other.zip")


def test_an_archive_cut_short_anywhere_is_told(package: Path, tmp_path: Path) -> None:
    data = _zipped(package, tmp_path / "net.mlpackage.zip").read_bytes()
    for end in (0, 1, 30, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.zip").write_bytes(data[:end])
        with pytest.raises(UnreadableModelError):
            cp.load(tmp_path / "cut.zip")


def test_bytes_that_were_changed_anywhere_raise_nothing_but_our_errors(package: Path, tmp_path: Path) -> None:
    data = _zipped(package, tmp_path / "net.mlpackage.zip").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            changed[place] ^= int(rng.integers(1, 256))
        (tmp_path / "changed.zip").write_bytes(changed)
        try:
            cp.load(tmp_path / "changed.zip")
        except CoreproofError:
            continue


def test_a_compiled_model_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    folder = tmp_path / "net.mlmodelc"
    folder.mkdir()
    (folder / "model.mil").write_text("program(1.0)")
    with pytest.raises(UnreadableModelError, match=r"compiled Core ML model[\s\S]*the .mlpackage or .mlmodel"):
        cp.load(folder)
