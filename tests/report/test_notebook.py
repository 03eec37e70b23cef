"""What a notebook shows of each result: well-formed HTML that loads nothing, and says what the result says."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import coreproof as cp
from coreproof.comparison.compare import compare
from coreproof.editing.edit import Edit, edit
from coreproof.model.onnx.model import OnnxModel
from coreproof.report.matrix_plot import agreement_plot
from tests.build import classifier, conv_relu_onnx

VOID = {"img", "br"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed; collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def view(result: Any) -> str:
    """The text of a result's view, after its form was checked."""
    parser = Balanced()
    parser.feed(result._repr_html_())
    assert parser.open == []
    assert all(source.startswith("data:") for source in parser.sources)
    return " ".join(parser.text)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / f"<p{i}>.png")
    return folder


def test_a_model_and_its_graph() -> None:
    model = OnnxModel(conv_relu_onnx(), name="a <b>")
    text = view(model)
    assert "a <b>" in text
    assert "2 layers" in text
    assert "1x4x8x8" in text
    assert "Relu" in view(model.graph)


def test_a_verification_that_agrees_and_one_that_does_not() -> None:
    model = OnnxModel(conv_relu_onnx(), name="net")
    good = cp.verify(model, model)
    assert "values agree" in view(good)
    wrong = edit(model, [Edit("set", {"layer": "conv", "attribute": "B", "value": np.zeros(4, np.float32)})]).model
    bad = cp.verify(model, wrong)
    assert "diverge" in view(bad)
    assert "▶" in bad._repr_html_()


def test_a_comparison_and_its_photos(photos: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    text = view(comparison)
    assert str(comparison.agreement()["a"]["b"]) in text
    shown = comparison.show(2, seed=1)
    assert len(shown.photos) == 2
    assert comparison.show(2, seed=1).photos == shown.photos
    assert all(photo in view(shown) for photo in shown.photos)
    one = comparison.show(comparison.photos[0], models=["b"])
    assert one.models == ("b",)
    assert str(one).splitlines()[0] == comparison.photos[0]
    with pytest.raises(KeyError, match="not among"):
        comparison.show("nowhere.png")
    assert comparison.agreement_of("a") == {"b": comparison.agreement()["a"]["b"]}


def test_findings(photos: Path) -> None:
    model = OnnxModel(conv_relu_onnx(), name="net")
    assert "healthy" in view(cp.diagnose(model))
    wrong = edit(model, [Edit("set", {"layer": "conv", "attribute": "B", "value": np.zeros(4, np.float32)})]).model
    diagnosis = cp.diagnose(wrong, model)
    assert "conv" in view(diagnosis)
    assert "repair" in view(diagnosis[0])


def test_the_matrix_as_a_figure(photos: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    figure = agreement_plot(comparison)
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["·", str(comparison.agreement()["a"]["b"]), str(comparison.agreement()["a"]["b"]), "·"]
    picture, metadata = figure._repr_png_()  # type: ignore[attr-defined]
    assert picture.startswith(b"\x89PNG")
    assert "6 photos" in metadata["alt"]
