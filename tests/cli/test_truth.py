"""--truth means the same in every verb that judges photos: a csv of what they show, wherever it lies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Ran
from tests.cli.test_show_and_predict import classifier

Run = Callable[..., Ran]
FEED = ("--size", "8", "--scale", "1/255", "--mean", "0", "--std", "1")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Photos in the classifier's own colours, and a truth elsewhere that is wrong of one of them."""
    classifier(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, colour in (("red", (250, 0, 0)), ("green", (0, 250, 0)), ("blue", (0, 0, 250))):
        Image.new("RGB", (16, 16), colour).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "truth.csv").write_text("file,class_index\nred.png,0\ngreen.png,1\nblue.png,3\n")
    (tmp_path / "lineup.toml").write_text(
        '[feed]\nsize = [8, 8]\nscale = 0.00392\n[models.a]\nsource = "net.onnx"\n[models.b]\nsource = "net.onnx"\n'
    )
    return tmp_path


@pytest.mark.sweep(1)
@pytest.mark.parametrize("option", ["--truth", "--labels"])
def test_compare_is_told_the_truth(coreproof: Run, place: Path, option: str) -> None:
    net = next(place.glob("*.onnx"))
    (place / "lineup.toml").write_text((place / "lineup.toml").read_text().replace("net.onnx", net.name))
    ran = coreproof(
        *("compare", place / "lineup.toml", "--photos", place / "photos", "--out", place / "out"),
        *(option, place / "truth.csv"),
    )
    assert ran.code == 0, ran.err
    assert "right of 3" in ran.out


def test_prove_is_told_the_truth(coreproof: Run, place: Path) -> None:
    net = next(place.glob("*.onnx"))
    ran = coreproof(
        *("prove", net, "--photos", place / "photos", "--out", place / "out", "--truth", place / "truth.csv", *FEED)
    )
    assert ran.code == 0, ran.out + ran.err
    accuracies = json.loads((place / "out" / "comparison.json").read_text())["accuracy"]
    assert "right of 3" in ran.out
    assert accuracies


def test_doctor_is_told_the_truth(coreproof: Run, place: Path) -> None:
    net = next(place.glob("*.onnx"))
    wrong = place / "wrong.csv"
    wrong.write_text("file,class\nred.png,0\n")
    ran = coreproof("doctor", net, "--photos", place / "photos", "--truth", wrong, *FEED)
    assert ran.code == 2
    assert "other columns" in ran.err
    assert coreproof("doctor", net, "--photos", place / "photos", "--truth", place / "truth.csv", *FEED).code in (0, 1)
