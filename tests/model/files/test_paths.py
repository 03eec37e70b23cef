"""Stored names are refused where they lead elsewhere, and only there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coreproof.errors import CoreproofError, InputError, TooLargeError, UnreadableModelError, UnsafeModelError
from coreproof.model.budget import afford, memory_budget, set_memory_budget
from coreproof.model.files.paths import file_name, inside, regular_file, stored_name
from coreproof.model.load import load


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "an empty name"),
        (" ", "an empty name"),
        (".", "an empty name"),
        ("./", "an empty name"),
        ("/etc/passwd", "an absolute path"),
        ("\\\\server\\share", "an absolute path"),
        ("\\windows", "an absolute path"),
        ("../secret", "'..'"),
        ("a/../../b", "'..'"),
        ("a\\..\\b", "'..'"),
        ("C:/x", "a drive"),
        ("c:x", "a drive"),
        ("a\0b", "a NUL character"),
        (None, "NoneType"),
        (b"x", "bytes"),
        (["a"], "list"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_with_what_is_wrong(name: object, found: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelError) as refused:
        inside(tmp_path, name, what="the weights of 'w'", where="m.onnx")
    assert found in str(refused.value)
    assert "m.onnx" in str(refused.value)
    assert "the weights of 'w'" in str(refused.value)


@pytest.mark.parametrize("name", ["w.bin", "./w.bin", "a/b.c/w.bin", "a//w", "..w", "w..", "~w", "größe.bin", "a b"])
def test_ordinary_names_stay_below_their_folder(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name, what="x", where="m").is_relative_to(tmp_path.resolve())
    assert not stored_name(name, what="x", where="m").startswith("/")


@pytest.mark.skipif(os.name == "nt", reason="here a colon is no part of a name")
@pytest.mark.parametrize("name", ["a:b.jpg", "C:x.jpg", "a:/b.jpg"])
def test_what_looks_like_a_drive_is_the_name_of_a_photo_where_there_are_none(name: str) -> None:
    assert stored_name(name, what="a photo", where="photos", drives=True) == name
    with pytest.raises(UnsafeModelError, match="a drive"):
        stored_name(name, what="the weights", where="m.onnx")


def test_a_link_that_leaves_the_folder_is_refused_and_one_that_stays_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "real.bin").write_bytes(b"1")
    os.symlink(tmp_path / "elsewhere", folder / "out")
    os.symlink(folder / "real.bin", folder / "alias.bin")
    os.symlink(folder / "circle", folder / "circle")
    assert inside(folder, "alias.bin", what="x", where="m") == (folder / "real.bin").resolve()
    for name in ("out", "out/new.bin"):
        with pytest.raises(UnsafeModelError, match="link to another folder"):
            inside(folder, name, what="x", where="m")


@pytest.mark.parametrize("name", ["n" * 5000, "a/" * 3000 + "w.bin", f"a/{'n' * 300}/w.bin"])
def test_a_name_that_is_too_long_for_a_file_is_refused_by_what_it_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UnsafeModelError, match=r"(?s)the weights of 'w'.*too long"):
        inside(tmp_path, name, what="the weights of 'w'", where="m.onnx")


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, found in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path, "a folder"),
        (Path("/dev/zero"), "a device"),
        (tmp_path / "absent", "No such file"),
        ("a\0b", "null byte"),
    ):
        with pytest.raises(UnreadableModelError, match=found):
            regular_file(path)
    (tmp_path / "file").write_bytes(b"")
    assert regular_file(tmp_path / "file") == tmp_path / "file"


def test_the_budget_is_two_gigabytes_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COREPROOF_MEMORY_BUDGET", raising=False)
    assert memory_budget() == 2_000_000_000
    afford("the input 'x'", (500, 1_000_000), 4)
    with pytest.raises(
        TooLargeError, match=r"input 'x'.*\n.*m.onnx\n.*\n.*4,000,000,000 bytes for shape \[1000, 1000000\]"
    ):
        afford("the input 'x'", (1000, 1_000_000), 4, where="m.onnx")
    monkeypatch.setenv("COREPROOF_MEMORY_BUDGET", "1")
    set_memory_budget("5 GB")
    assert memory_budget() == 5_000_000_000
    afford("the input 'x'", (1000, 1_000_000), 4)
    with pytest.raises(TooLargeError):
        afford("wraps in 64 bits", (2**33, 2**33), 8)


@pytest.mark.parametrize("size", ["", "0", "-1", "many", "1e3", "5 PB", "nan"])
def test_a_budget_that_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(InputError, match="memory budget"):
        set_memory_budget(size)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("plain name-1.2", "plain name-1.2"),
        ("../../up", "_.._up"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("a/b\\c:d", "a_b_c_d"),
        ("\0\n", "__"),
        ("con", "_con"),
        ("LPT1.x", "_LPT1.x"),
        ("ä" * 100, "ä" * 60),
        ("\ud800", "_"),
        (".hidden.", "hidden"),
    ],
)
def test_any_name_becomes_that_of_a_file(name: str, file: str) -> None:
    assert file_name(name) == file
    assert file_name(name, [file, f"{file}_2"]) == f"{file}_3"
    assert file_name(name, [file.upper()]) == f"{file}_2"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("suffix", [".onnx", ".mlmodel", ".mlpackage", ".pt2", ".pt", ".pth", ".ts", ".npz"])
def test_a_model_of_any_kind_that_is_a_pipe_or_a_device_is_refused_at_once(
    tmp_path: Path, suffix: str, trust: bool
) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(CoreproofError):
            load(tmp_path / f"{name}{suffix}", trust=trust)
