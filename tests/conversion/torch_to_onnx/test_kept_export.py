"""An export is kept for the next run with the same weights and code, and read as a stranger's file."""

from __future__ import annotations

import importlib
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import coreproof as cp
from coreproof.comparison.lineup import Lineup, LineupEntry
from coreproof.comparison.variants import ModelFactory
from coreproof.conversion.torch_to_onnx.kept_export import FOLDER, export_digest, is_kept
from coreproof.model.load import load

torch = pytest.importorskip("torch", reason="needs the torch extra")

NET = """
import functools
import torch
import coreproof as cp

FACTOR = 1.0

class Settings:
    def __init__(self):
        self.size = {"heads": [1, 2]}

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.fc = torch.nn.Linear(144, 5)
        self.settings = Settings()
        self.how = functools.partial(torch.clamp, min=0.0)
        self.register_buffer("offset", torch.zeros(1), persistent=False)

    def forward(self, x):
        import helper
        return helper.twice(self.fc(self.how(self.conv(x) + self.offset).flatten(1))) * FACTOR

def model():
    fed = cp.Feeding(size=(8, 8), scale=0.01)
    return cp.Source(Net(), (torch.zeros(1, 3, 8, 8),), feeding=fed)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "keptnet.py").write_text(NET)
    (tmp_path / "helper.py").write_text("def twice(x):\n    return x * 2\n")
    (tmp_path / "photos").mkdir()
    for number, colour in enumerate(((220, 10, 10), (10, 10, 220), (30, 200, 40))):
        Image.new("RGB", (12, 9), colour).save(tmp_path / "photos" / f"{number}.png")
    for name in ("keptnet", "helper"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return tmp_path


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What PyTorch's exporters were asked for so far."""
    asked: list[str] = []
    for home, name in ((torch.onnx, "export"), (torch.export, "export")):
        real = getattr(home, name)

        def counted(*args: Any, _real: Any = real, _name: str = f"{home.__name__}.{name}", **more: Any) -> Any:
            asked.append(_name)
            return _real(*args, **more)

        monkeypatch.setattr(home, name, counted)
    return asked


def prove(folder: Path, **more: Any) -> cp.prove:  # type: ignore[valid-type]
    return cp.prove("keptnet.py:model", folder / "photos", folder / "out", witness=False, **more)


def test_the_next_run_takes_it_and_concludes_the_same(folder: Path, exports: list[str]) -> None:
    first = prove(folder)
    assert exports.count("torch.onnx") + exports.count("torch.onnx.export") == 1
    stored = (folder / "out" / "models" / "t2o.onnx").read_bytes()
    exports.clear()
    second = prove(folder)
    assert exports == []
    assert second.agrees == first.agrees
    assert [(s.name, s.ok) for s in second.steps] == [(s.name, s.ok) for s in first.steps]
    rows = [[(r.reference, r.candidate) for r in s.verification.rows] for s in first.steps if s.verification]
    assert [[(r.reference, r.candidate) for r in s.verification.rows] for s in second.steps if s.verification] == rows
    assert (folder / "out" / "models" / "t2o.onnx").read_bytes() == stored
    assert "--fresh" in "".join(note for step in second.steps for note in step.notes)
    result = cp.verify("keptnet.py:model", folder / "out" / "models" / "t2c.mlpackage")
    assert (exports, result.agrees) == ([], True)
    prove(folder, fresh=True)
    assert exports


@pytest.mark.thorough
def test_what_was_tampered_with_is_not_taken(folder: Path, exports: list[str], tmp_path: Path) -> None:
    prove(folder)
    kept, onnx = folder / "out" / FOLDER, folder / "out" / "models" / "t2o.onnx"
    program = (kept / "program.pt2").read_bytes()
    about = (kept / "export.json").read_text()

    def taken() -> bool:
        from coreproof.conversion.torch_to_onnx.kept_export import kept_export

        model: Any = load("keptnet.py:model")
        return kept_export(model, kept, onnx, export_digest(model)) is not None

    assert taken()

    class Planted:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (kept / "program.pt2").write_bytes(pickle.dumps(Planted()))
    assert not taken()
    other = cp.load("keptnet.py:model")
    other.module.fc.weight.data[0, 0] += 1  # type: ignore[attr-defined]
    torch.export.save(other.exported(), kept / "program.pt2")  # type: ignore[attr-defined]
    assert not taken()
    (kept / "program.pt2").write_bytes(program[: len(program) // 2])
    assert not taken()
    with zipfile.ZipFile(kept / "program.pt2", "w") as archive:
        archive.writestr("archive_format", "pt2")
    assert not taken()
    (kept / "program.pt2").write_bytes(program)
    assert taken()
    for text in (
        "{",
        "[]",
        about.replace('"version": 1', '"version": 2'),
        about.replace('"digest": "', '"digest": "0'),
    ):
        (kept / "export.json").write_text(text)
        assert not taken(), text
    (kept / "export.json").write_text(about)
    onnx.write_bytes(onnx.read_bytes() + b"\0")
    assert not taken()
    assert not (tmp_path / "ran").exists()


def _digest() -> str | None:
    for name in ("keptnet", "helper"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    model: Any = load("keptnet.py:model")
    return export_digest(model)


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helper.py", "x * 2", "x * 3"),  # imported as it runs
        ("keptnet.py", "manual_seed(0)", "manual_seed(1)"),
        ("keptnet.py", '"heads": [1, 2]', '"heads": [1, 3]'),
        ("keptnet.py", "min=0.0", "min=0.5"),
        ("keptnet.py", "(torch.zeros(1, 3, 8, 8),)", "(torch.ones(1, 3, 8, 8),)"),
        ("keptnet.py", "FACTOR = 1.0", "FACTOR = float(len(__import__('os').environ['KEPT']))"),
    ],
)
def test_whatever_an_export_depends_on_is_in_its_digest(
    folder: Path, file: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "a")
    before = _digest()
    assert before is not None
    assert _digest() == before
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    changed = _digest()
    assert changed not in (before, None)
    monkeypatch.setenv("KEPT", "abc")
    assert (_digest() != changed) == ("environ" in new)


def test_what_cannot_be_told_is_not_kept(folder: Path) -> None:
    model: Any = load("keptnet.py:model")
    assert export_digest(model) is not None
    model.module.settings = open(folder / "helper.py")  # noqa: SIM115 - a file has no content that stays
    try:
        assert export_digest(model) is None
    finally:
        model.module.settings.close()


def test_a_folder_of_the_users_own_is_left_alone(folder: Path) -> None:
    mine = folder / "out" / FOLDER / "years.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("of work")
    assert not is_kept(mine.parent)
    prove(folder)
    assert [p.name for p in mine.parent.iterdir()] == ["years.txt"]


def test_a_line_up_exports_each_source_once(folder: Path, exports: list[str]) -> None:
    entries = (
        LineupEntry("torchm", "keptnet.py:model"),
        LineupEntry("t2o", base="torchm", convert="onnx"),
        LineupEntry("t2c", base="torchm", convert="mlprogram", precision="fp32"),
        LineupEntry("t2c16", base="torchm", convert="mlprogram", precision="fp16", image=True),
        LineupEntry("t2nn", base="torchm", convert="neuralnetwork"),
    )
    shop = ModelFactory(Lineup(entries, folder))
    for name in ("t2o", "t2c", "t2c16", "t2nn"):
        assert shop.model(name).format in ("onnx", "mlprogram", "neuralnetwork")
    assert len([each for each in exports if "onnx" in each]) == 1


def test_what_is_waited_for_is_said(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    cp.verify("keptnet.py:model", "keptnet.py:model", progress=lambda *each: told.append(each))
    assert ("waiting for PyTorch's exporter", 0, 0) in told
    assert ("waiting for PyTorch's exporter", 1, 1) in told
