"""Files appear whole or not at all, and what cannot be written is called by the name that the user gave it."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from coreproof.model.atomic import replacing


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
