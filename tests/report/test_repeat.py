"""What "Repeat it" says: it runs elsewhere, and tells nothing of the folders of this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from coreproof.comparison.compare import compare
from coreproof.report.page import page
from coreproof.report.repeat import elsewhere, repeatable, repeatable_lines
from tests.build import classifier
from tests.report.test_page import read


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("HERE/nets/net.py:make", "nets/net.py:make"),
        ("HERE", "."),
        ("/home/ann/secret/net.onnx", "net.onnx"),
        ("/home/ann/net.py:make", "net.py:make"),
        ("/", "."),
        ("C:\\Users\\ann\\net.onnx", "net.onnx"),
        ("torchvision:resnet18?weights=/home/ann/r.pth", "torchvision:resnet18?weights=r.pth"),
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("s3://bucket/photos", "s3://bucket/photos"),
        ("https://host/net.onnx#sha256=ab", "https://host/net.onnx#sha256=ab"),
        ("../data/photos", "../data/photos"),
        ("1/255", "1/255"),
        ("", ""),
    ],
)
def test_paths_of_this_machine_are_told_as_others_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert elsewhere(given.replace("HERE", str(tmp_path))) == told


def test_a_command_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["coreproof", "compare", "a line-up.toml", f"--photos={tmp_path}/p", "--mean", "-1", "--out", "/tmp/it's"]
    told = repeatable(words)
    assert shlex.split(told) == [
        "coreproof",
        "compare",
        "a line-up.toml",
        "--photos=p",
        "--mean",
        "-1",
        "--out",
        "it's",
    ]
    lines = repeatable_lines(
        "[models.a]\nsource = \"/home/ann/a.onnx\"\nnote = 'half / half'\nfeed = {size = [8, 8]}\n"
    )
    assert lines == "[models.a]\nsource = \"a.onnx\"\nnote = 'half / half'\nfeed = {size = [8, 8]}\n"


def test_the_page_of_a_comparison_holds_both(photos: Path, tmp_path: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    told, _ = read(page(comparison, tmp_path / "out", command="coreproof compare l.toml", lineup="[models.<a>]\n"))
    words = told.words[told.words.index("Repeat it", told.words.index("What it does not prove")) :]
    assert "coreproof compare l.toml" in words
    assert "[models.<a>]" in words
    bare, _ = read(page(comparison, tmp_path / "bare"))
    assert "The line-up" not in bare.words
