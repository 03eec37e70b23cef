"""Files appear whole or not at all, and what cannot be written is called by the name that the user gave it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from coreproof.errors import UnsafeModelError
from coreproof.model.files import atomic
from coreproof.model.files.atomic import replacing, replacing_together


def test_a_full_disk_names_what_was_to_be_written(tmp_path: Path) -> None:
    target = tmp_path / "out.mlmodel"
    target.write_text("old")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as raised, replacing(target):
        raise full
    assert raised.value.filename == str(target)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mlmodel"]
    assert target.read_text() == "old"


def test_a_folder_of_somebody_else_is_not_called_by_a_passing_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str, dir: Path, **_: Any) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir / f"{prefix}x9"))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError) as raised, replacing(tmp_path / "out.onnx"):
        pass
    assert raised.value.filename == str(tmp_path / "out.onnx")


def test_another_file_that_failed_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "out.onnx"):
        (tmp_path / "source.onnx").read_bytes()
    assert raised.value.filename == str(tmp_path / "source.onnx")


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    target = folder_of(tmp_path / "out.mlpackage", "old")
    with replacing(target) as fresh:
        folder_of(fresh, "new")
    assert content(tmp_path) == {"out.mlpackage/a": "new", "out.mlpackage/b": "new"}


def test_a_folder_and_a_file_take_each_others_place(tmp_path: Path) -> None:
    target = folder_of(tmp_path / "out", "old")
    with replacing(target) as fresh:
        fresh.write_text("new")
    assert content(tmp_path) == {"out": "new"}
    with replacing(target) as fresh:
        folder_of(fresh, "newer")
    assert content(tmp_path) == {"out/a": "newer", "out/b": "newer"}


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    folder_of(tmp_path / "elsewhere", "old")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with replacing(tmp_path / "out") as fresh:
        folder_of(fresh, "new")
    assert not (tmp_path / "out").is_symlink()
    assert content(tmp_path) == {"elsewhere/a": "old", "elsewhere/b": "old", "out/a": "new", "out/b": "new"}


def test_several_outputs_take_their_places_together(tmp_path: Path) -> None:
    old_set(tmp_path)
    write_new_set(tmp_path)
    assert content(tmp_path) == NEW


def test_of_several_outputs_none_is_put_in_place_when_one_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    old = old_set(tmp_path)
    for call in range(1, 20):
        with monkeypatch.context() as patched:
            failing = Interrupted(call, OSError(errno.EACCES, os.strerror(errno.EACCES), "x"))
            failing.patch(patched)
            if failing_write(tmp_path):
                assert call > 4, "every step was interrupted once"
                break
        assert content(tmp_path) == old, f"interrupted at call {call}"
    assert content(tmp_path) == NEW


@pytest.mark.sweep(1)
@pytest.mark.parametrize("single", [False, True])
def test_a_run_killed_at_any_step_leaves_the_old_outputs_or_the_next_run_finishes(
    tmp_path: Path, single: bool, swap: bool
) -> None:
    for call in range(1, 20):
        folder = tmp_path / str(call)
        folder.mkdir()
        old = old_set(folder)
        new = {**old, "p.mlpackage/a": "new", "p.mlpackage/b": "new"} if single else NEW
        code = die_at(folder, call, single=single, swap=swap)
        with replacing(folder / "another.txt") as fresh:
            fresh.write_text("next run")
        left = content(folder)
        assert left.pop("another.txt") == "next run"
        assert left in (old, new), f"killed at call {call}"
        assert code in (0, -9)
        if code == 0:
            assert call > (1 if single else 4)
            assert left == new
            return
    pytest.fail("never came to its end")


def test_what_changed_since_the_kill_is_not_touched(tmp_path: Path) -> None:
    old_set(tmp_path)
    assert die_at(tmp_path, 3, single=False, swap=True) == -9
    for name in ("page.html", "proof.json", "more/x.json"):
        (tmp_path / "mine").write_text(f"my own {name}")
        os.replace(tmp_path / "mine", tmp_path / name)
    with replacing(tmp_path / "another.txt") as fresh:
        fresh.write_text("next run")
    left = content(tmp_path)
    assert {name: left[name] for name in left if left[name].startswith("my own")} == {
        name: f"my own {name}" for name in ("page.html", "proof.json", "more/x.json")
    }


def test_leftovers_go_unless_a_living_run_holds_them(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as living:
        living.write_text("half")
        assert die_at(folder_of(tmp_path / "killed", "old"), 1, single=False, swap=True) == -9
        hidden = next((tmp_path / "killed").glob(".coreproof-*"))
        os.rename(hidden, tmp_path / hidden.name)
        with replacing(tmp_path / "b") as fresh:
            fresh.write_text("b")
        assert not (tmp_path / hidden.name).exists()
        assert living.read_text() == "half"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "killed"]


def test_a_folder_that_only_looks_like_a_leftover_stays(tmp_path: Path) -> None:
    for name in (".coreproof-mine", ".coreproof-abcdefgh"):
        folder_of(tmp_path / name, "mine")
    elsewhere = folder_of(tmp_path / "elsewhere", "mine")
    (elsewhere / ".lock").write_text("")
    (tmp_path / ".coreproof-12345678").symlink_to(elsewhere)
    with replacing(tmp_path / "out") as fresh:
        fresh.write_text("new")
    assert len(content(tmp_path)) == 8


def test_a_journal_of_a_stranger_moves_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    for number, name in enumerate(("../victim", str(victim), "way/victim", "a\0b", "", 7)):
        left = out / f".coreproof-0000000{number}"
        (left / "new").mkdir(parents=True)
        (left / "new" / "victim").write_text("evil")
        (left / ".lock").write_text("")
        inode = (left / "new" / "victim").stat()
        entry = {"name": name, "new": [inode.st_dev, inode.st_ino], "old": [victim.stat().st_dev, victim.stat().st_ino]}
        (left / "journal.json").write_text(json.dumps({"outputs": [entry, 3, None]}))
    (out / "way").symlink_to(tmp_path)
    (out / ".coreproof-99999999").mkdir()
    (out / ".coreproof-99999999" / ".lock").write_text("")
    (out / ".coreproof-99999999" / "journal.json").write_text("[" * 100_000)
    with replacing(out / "good") as fresh:
        fresh.write_text("good")
    assert victim.read_text() == "mine"
    assert sorted(p.name for p in out.iterdir()) == ["good", "way"]


def test_outputs_do_not_follow_a_link_out_of_their_folder(tmp_path: Path) -> None:
    elsewhere = folder_of(tmp_path / "elsewhere", "mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "models").symlink_to(elsewhere)
    stack = ExitStack()
    stage = stack.enter_context(replacing_together(tmp_path / "out"))
    (stage / "models").mkdir()
    (stage / "models" / "a").write_text("new")
    (stage / "page.html").write_text("new")
    with pytest.raises(UnsafeModelError, match="link to another folder"):
        stack.close()
    assert content(elsewhere) == {"a": "mine", "b": "mine"}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["models"]


def test_folders_made_for_an_output_that_failed_go_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "a" / "b" / "out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "out"):
        pass
    assert raised.value.filename == str(tmp_path / "out")
    assert content(tmp_path) == {"out": "old"}


def test_names_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [".hidden", "ä ö", "x" * 250] + ([] if os.name == "nt" else ["a\\b", "C:x", "line\nbreak"])
    for name in names:
        with replacing(name) as fresh:
            fresh.write_text("x")
    assert sorted(content(tmp_path)) == sorted(names)


# what the tests above are made of

NEW = dict.fromkeys(("p.mlpackage/a", "p.mlpackage/b", "page.html", "proof.json", "more/x.json", "fresh.json"), "new")


@pytest.fixture(params=[True, False], ids=["with exchange", "without"])
def swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether two paths can change places at once; on some file systems they cannot."""
    if not request.param:
        monkeypatch.setattr(atomic, "exchange", lambda first, second: False)
    return bool(request.param)


def folder_of(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    for name in ("a", "b"):
        (path / name).write_text(text)
    return path


def old_set(folder: Path) -> dict[str, str]:
    folder_of(folder / "p.mlpackage", "old")
    (folder / "more").mkdir()
    for name in ("page.html", "proof.json", "more/x.json"):
        (folder / name).write_text("old")
    return content(folder)


def write_new_set(folder: Path) -> None:
    with replacing_together(folder, ["p.mlpackage"]) as stage:
        folder_of(stage / "p.mlpackage", "new")
        (stage / "more").mkdir()
        for name in ("page.html", "proof.json", "more/x.json", "fresh.json"):
            (stage / name).write_text("new")


def failing_write(folder: Path) -> bool:
    try:
        write_new_set(folder)
    except OSError:
        return False
    return True


class Interrupted:
    """Lets the n-th call that moves something fail, or calls what it is given."""

    def __init__(self, call: int, what: BaseException | Callable[[], None]) -> None:
        self.left, self.what = call, what

    def patch(self, patched: Any) -> None:
        for module, name in ((os, "rename"), (os, "replace"), (atomic, "exchange")):
            patched.setattr(module, name, self._counting(getattr(module, name)))

    def _counting(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if isinstance(self.what, BaseException):
                    raise self.what
                self.what()
            return do(*arguments)

        return counted


def die_at(folder: Path, call: int, *, single: bool, swap: bool) -> int:
    """A child that writes the new set, or its package alone, and is killed before its n-th move; its exit code."""
    code = f"""
import os, signal
from pathlib import Path
from tests.model.files import test_atomic as t
if not {swap}:
    t.atomic.exchange = lambda first, second: False
class Patched:
    setattr = staticmethod(setattr)
t.Interrupted({call}, lambda: os.kill(os.getpid(), signal.SIGKILL)).patch(Patched)
folder = Path({str(folder)!r})
if {single}:
    with t.replacing(folder / "p.mlpackage") as fresh:
        t.folder_of(fresh, "new")
else:
    t.write_new_set(folder)
"""
    return subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode


def content(folder: Path) -> dict[str, str]:
    """Every file by its name in the folder, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}
