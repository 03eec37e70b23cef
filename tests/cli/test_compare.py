"""compare as a user types it: every kind of picture, missing files, empty folders, going on after a stop."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Ran
from tests.cli.test_show_and_predict import classifier

Run = Callable[..., Ran]
LINEUP = """
[feed]
size = [8, 8]
scale = 0.00392156862745098

[models.first]
source = "colours.onnx"

[models.second]
from = "first"
convert = "neuralnetwork"
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A line-up of a tiny network and its NeuralNetwork, and photos good and bad."""
    classifier(tmp_path)
    (tmp_path / "lineup.toml").write_text(LINEUP)
    photos = tmp_path / "photos"
    photos.mkdir()
    red = Image.new("RGB", (20, 12), (220, 10, 10))
    red.save(photos / "red.jpg")
    Image.new("RGB", (12, 20), (10, 10, 220)).save(photos / "blue.png")
    red.convert("L").save(photos / "grey.png")
    red.convert("RGBA").save(photos / "transparent.png")
    red.convert("CMYK").save(photos / "print.jpg")
    (photos / "broken.jpg").write_bytes((photos / "red.jpg").read_bytes()[:100])
    return tmp_path


def test_good_photos_count_and_broken_ones_are_named(coreproof: Run, data: Path) -> None:
    ran = coreproof("compare", data / "lineup.toml", "--photos", data / "photos", "--out", data / "out")
    assert ran.code == 0, ran.err
    document = json.loads((data / "out" / "comparison.json").read_text())
    assert document["photos"] == 5
    assert document["models"] == ["first", "second"]
    assert document["agreement"]["first"]["second"] == 5
    assert document["predictions"]["first"]["red.jpg"][0][0] == 0
    assert document["predictions"]["second"]["blue.png"][0][0] == 2
    assert "broken.jpg" in str(document["skipped"])
    assert "broken.jpg" in ran.out
    assert (data / "out" / "index.html").stat().st_size > 10_000


def test_square_brackets_are_letters(coreproof: Run, data: Path) -> None:
    text = LINEUP.replace("[models.first]", '[models."first [old]"]').replace('"first"', '"first [old]"')
    (data / "lineup.toml").write_text(f'title = "a [/b] of [x]"\n{text}')
    ran = coreproof("compare", data / "lineup.toml", "--photos", data / "photos", "--out", data / "out [new]")
    assert ran.code == 0, ran.err
    for word in ("a [/b] of [x]", "first [old]", f"page: {data / 'out [new]' / 'index.html'}"):
        assert word in ran.out


def test_missing_models_are_named_in_one_message(coreproof: Run, data: Path) -> None:
    lineup = data / "lineup.toml"
    lineup.write_text(LINEUP.replace("colours.onnx", "gone.onnx") + '\n[models.third]\nsource = "also-gone.mlmodel"\n')
    ran = coreproof("compare", lineup, "--photos", data / "photos", "--out", data / "out")
    assert ran.code == 2
    assert "gone.onnx" in ran.err
    assert "also-gone.mlmodel" in ran.err
    assert not (data / "out").exists()


def test_an_empty_folder_is_bad_input(coreproof: Run, data: Path) -> None:
    (data / "none").mkdir()
    ran = coreproof("compare", data / "lineup.toml", "--photos", data / "none", "--out", data / "out")
    assert ran.code == 2
    assert "no photos" in ran.err


def test_what_was_predicted_is_not_predicted_again(coreproof: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coreproof.comparison import predictor

    arguments = ("compare", data / "lineup.toml", "--photos", data / "photos", "--out", data / "out")
    assert coreproof(*arguments).code == 0
    first = (data / "out" / "comparison.json").read_text()

    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("predicted again")

    monkeypatch.setattr(predictor.Predictor, "probabilities", refuse)
    assert coreproof(*arguments).code == 0
    again = (data / "out" / "comparison.json").read_text()
    assert json.loads(again)["predictions"] == json.loads(first)["predictions"]


def test_serve_shows_every_photo_until_it_is_stopped(
    coreproof: Run, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coreproof.cli import view

    opened: list[str] = []
    answered: list[bytes] = []

    def look() -> None:
        with urllib.request.urlopen(f"{opened[0]}/rows", timeout=30) as answer:
            answered.append(answer.read())

    monkeypatch.setattr(view, "wait", look)
    monkeypatch.setattr(view.webbrowser, "open", opened.append)
    ask = ("compare", data / "lineup.toml", "--photos", data / "photos", "--out", data / "out", "--replace")
    ran = coreproof(*ask, "--serve", "--port", 0)
    assert ran.code == 0, ran.err
    assert f"photos at {opened[0]} (stop with Ctrl-C)" in ran.out
    assert json.loads(answered[0])["total"] == json.loads((data / "out" / "comparison.json").read_text())["photos"]
    assert coreproof(*ask[:2], "--inputs", data / "photos", *ask[4:], "--serve").code == 2
