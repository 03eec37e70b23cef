"""The error plot: what it shows is what was found, and it draws without a window or global state."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coreproof.errors import InputError, MissingDependencyError
from coreproof.report.plots import error_plot, save_plot
from coreproof.verification.verification import Verification
from coreproof.verification.verify import verify
from tests.build import as_half, residual_net

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'coreproof[notebook]'")


@pytest.fixture(scope="module")
def faulty() -> Verification:
    return verify(residual_net(), residual_net(fault="swapped channel"))


def dots(figure: Any, label: str) -> list[tuple[float, float]]:
    (axes,) = figure.axes
    return [tuple(p) for c in axes.collections if c.get_label() == label for p in c.get_offsets().tolist()]


def test_every_value_is_a_dot_at_its_error(faulty: Verification) -> None:
    figure = error_plot(faulty)
    red = dots(figure, "error (rms), diverges")
    assert [y for _, y in red] == pytest.approx([r.judgement.rms_relative_error for r in faulty.rows if not r.agrees])
    assert [x for x, _ in dots(figure, "no error at all")] == [i for i, r in enumerate(faulty.rows) if r.agrees]
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"


def test_the_first_divergence_is_marked_and_layers_are_named(faulty: Verification) -> None:
    (axes,) = error_plot(faulty).axes
    (words,) = [t.get_text() for t in axes.texts]
    assert words == "first divergence: conv2 (Conv)"
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == [row.candidate for row in faulty.rows]
    bold = [label.get_text() for label in axes.get_xticklabels() if label.get_fontweight() == "bold"]
    assert bold == ["conv2", "y"]
    assert "10 of 18 values diverge" in axes.get_title(loc="left")


def test_torch_layers_are_named_as_torch_names_them(faulty: Verification) -> None:
    rows = tuple(replace(row, source=f"layer1.{i}.conv") for i, row in enumerate(faulty.rows))
    (axes,) = error_plot(replace(faulty, rows=rows)).axes
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["layer1.0.conv", "layer1.1.conv"]
    assert "layer1.8.conv" in axes.texts[0].get_text()


def test_a_long_network_names_as_many_layers_as_can_be_read(faulty: Verification) -> None:
    rows = tuple(replace(row, candidate=f"{row.candidate}_{k}", how="name") for k in range(20) for row in faulty.rows)
    figure = error_plot(replace(faulty, rows=rows))
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert 20 < len(names) < 60
    assert "conv2_0" in names
    assert figure.get_figwidth() <= 14


def test_errors_that_are_no_numbers_stand_at_the_top(faulty: Verification) -> None:
    row = faulty.rows[-1]
    lost = replace(row, judgement=replace(row.judgement, rms_relative_error=float("nan")))
    figure = error_plot(replace(faulty, rows=(*faulty.rows[:-1], lost)))
    (axes,) = figure.axes
    assert dots(figure, "error (rms), diverges")[-1][1] == axes.get_ylim()[1]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_files_are_drawn_without_a_window(faulty: Verification, tmp_path: Path, suffix: str) -> None:
    path = save_plot(faulty, tmp_path / f"errors{suffix}")
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    if suffix == ".svg":
        assert b"conv2" in path.read_bytes() or b"glyph" in path.read_bytes()
    assert "matplotlib.pyplot" not in sys.modules


def test_agreement_that_proves_little_is_grey() -> None:
    found = verify(residual_net(), as_half(residual_net(half=True)))
    row = found.rows[-1]
    assert row.content
    vague = replace(
        row,
        judgement=replace(row.judgement, tolerance=replace(row.tolerance, typical=0.7)),
        content=replace(row.content, loose=row.content.samples),
    )
    figure = error_plot(replace(found, rows=(*found.rows[:-1], vague)))
    assert [x for x, _ in dots(figure, "error (rms), proves little")] == [len(found.rows) - 1]


def test_a_notebook_shows_it(faulty: Verification) -> None:
    assert error_plot(faulty)._repr_png_()[0].startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_agreement_is_drawn_without_a_mark(tmp_path: Path) -> None:
    found = verify(residual_net(), as_half(residual_net(half=True)))
    (axes,) = error_plot(found).axes
    assert not axes.texts
    assert "all 19 values agree" in axes.get_title(loc="left")


def test_other_formats_and_a_missing_library_are_told(
    faulty: Verification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        save_plot(faulty, tmp_path / "errors.gif")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"coreproof\[notebook\]"):
        error_plot(faulty)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("times", [1, 12])
def test_the_title_stands_above_the_legend(faulty: Verification, times: int) -> None:
    exact = next(row for row in faulty.rows if row.agrees)
    good = replace(exact, judgement=replace(exact.judgement, rms_relative_error=1e-8, required_relative=1e-7))
    loose = replace(good.judgement.tolerance, relative=9.0, typical=2.0)
    assert good.content
    everywhere = replace(good.content, loose=good.content.samples)
    weak = replace(good, judgement=replace(good.judgement, tolerance=loose), content=everywhere)
    figure = error_plot(replace(faulty, rows=(*faulty.rows * times, exact, good, weak)))
    figure.canvas.draw()
    axes = figure.axes[0]
    assert len(axes.get_legend().get_texts()) == 7
    title = next(text for text in (axes._left_title, axes.title) if text.get_text())
    assert title.get_window_extent().y0 >= axes.get_legend().get_window_extent().y1 - 1
