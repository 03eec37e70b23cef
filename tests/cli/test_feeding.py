"""What becomes of pixels is declared or asked for, by every verb that feeds pictures: exit 2 with the options to type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Ran

pytest.importorskip("torch", reason="needs the torch extra")

Run = Callable[..., Ran]

NET = """
import torch
import coreproof as cp

def bare():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16, 16), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

def pair():
    return bare(), torch.zeros(1, 3, 32, 32)

def declared():
    fed = cp.Feeding(size=(32, 32), resize="squash", scale=1/127.5, mean=(1.0,), std=(1.0,))
    return cp.Source(bare(), (torch.zeros(1, 3, 32, 32),), feeding=fed)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    Path("photos").mkdir()
    for number, colour in enumerate(((220, 10, 10), (10, 10, 220), (30, 200, 40))):
        Image.new("RGB", (40, 36), colour).save(f"photos/{number}.png")
    Path("lineup.toml").write_text('[models.a]\nsource = "net.py:pair"\n')
    return tmp_path


@pytest.mark.parametrize("source", ["net.py:bare", "net.py:pair"])
@pytest.mark.parametrize(
    "line",
    [
        "prove {} --photos photos --out out",
        "prove {} --photos photos --out out --size 32",
        "convert {} out.mlpackage --image",
        "convert {} out.mlmodel --image --colour RGB",
        "predict {} photos/0.png",
        "predict {} photos/0.png --size 32 --squash",
        "verify {} {} --photos photos",
        "verify {} {} --photos photos --resize-to 40",
        "verify {} --half --photos photos",
    ],
)
def test_it_is_asked_for(source: str, line: str, coreproof: Run, folder: Path) -> None:
    ran = coreproof(*(word.format(source) for word in line.split()))
    assert ran.code == 2, ran
    assert "--mean 0.485,0.456,0.406" in ran.err or "--mean ..." in ran.err
    assert not (folder / "out").exists()
    assert not list(folder.glob("out.*"))


def test_a_line_up_is_asked_for_it(coreproof: Run, folder: Path) -> None:
    ran = coreproof("compare", "lineup.toml", "--photos", "photos", "--out", "out", "--trust")
    assert (ran.code, "give feed" in ran.err) == (2, True), ran


@pytest.mark.parametrize(
    "line",
    [
        "convert net.py:declared out.mlpackage --image",
        "convert net.py:pair out.mlpackage --image --scale 1/127.5 --mean 1",
        "predict net.py:declared photos/0.png",
        "predict net.py:pair photos/0.png --size 32 --scale 1/127.5 --mean 1",
    ],
)
def test_what_is_declared_is_taken(line: str, coreproof: Run, folder: Path) -> None:
    ran = coreproof(*line.split())
    assert ran.code == 0, ran.err
