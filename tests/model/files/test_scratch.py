"""Temporary folders go with whoever holds them, and with the next run where their own was killed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from coreproof.model.files import scratch
from coreproof.model.files.scratch import Scratch, TemporaryFolder, sweep


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, for this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed_child(place: Path) -> None:
    code = """
import os, signal
from pathlib import Path
from coreproof.model.files.scratch import TemporaryFolder
held = TemporaryFolder()
Path(held.name, "weights").write_text("half")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(place)}, check=False)


def test_a_folder_goes_with_its_holder_and_the_last_takes_the_common_one_along(place: Path) -> None:
    first, second = TemporaryFolder(), TemporaryFolder()
    assert Path(first.name).parent == Path(second.name).parent
    del first
    gc.collect()
    assert Path(second.name).is_dir()
    second.cleanup()
    second.cleanup()
    assert not list(place.iterdir())


def test_what_a_killed_run_left_goes_with_the_next_run(place: Path) -> None:
    killed_child(place)
    assert len(list(place.rglob("weights"))) == 1
    with TemporaryFolder() as name:
        assert [p.name for p in place.iterdir()] == [Path(name).parent.name]


def test_what_a_living_run_holds_stays(place: Path) -> None:
    code = "from coreproof.model.files.scratch import TemporaryFolder as T; held = T(); print(held.name, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        with TemporaryFolder():
            assert folder.is_dir()
        child.communicate("\n")
    assert not list(place.iterdir())


def test_without_locks_nothing_is_cleared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(file: int) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(scratch, "_lock", unknown)
    living = Scratch(place, "x-")
    sweep(place, "x-")
    assert living.path.is_dir()
    living.close()
    assert not list(place.iterdir())


def test_an_empty_one_of_a_run_killed_before_its_lock_goes(place: Path) -> None:
    (place / "x-abcdefgh").mkdir()
    (place / "x-abcdefghi").mkdir()
    (place / "x-ABCDEFGH").mkdir()
    sweep(place, "x-")
    assert sorted(p.name for p in place.iterdir()) == ["x-ABCDEFGH", "x-abcdefghi"]


def test_one_whose_folder_was_swept_while_it_was_made_gets_another(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp
    swept: list[str] = []

    def made_and_swept(prefix: str, dir: Path) -> str:
        name = make(prefix=prefix, dir=dir)
        if len(swept) < 3:
            swept.append(name)
            sweep(place, "x-")
        return name

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_swept)
    living = Scratch(place, "x-")
    assert living.path.is_dir()
    assert not any(Path(name).exists() for name in swept)
    living.close()
