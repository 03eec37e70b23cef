"""Pages in a real browser: nothing in the console, nothing asked of the network, all of it by keyboard, and axe-core content."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.browser import BROWSERS, SCHEMES, SCREENS, Chromium, axe_source, faults, look

import coreproof as cp
from coreproof.comparison.compare import compare
from coreproof.proof.difference_page import difference_page
from coreproof.report.page import page, write_page
from tests.build import classifier, graph_model, weights
from tests.report.conftest import proof


@pytest.fixture
def browser() -> Iterator[Chromium]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    opened = Chromium(program)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core."""
    try:
        return axe_source(None)
    except SystemExit as missing:
        pytest.skip(str(missing))


def found(browser: Chromium, file: Path, axe: str) -> dict[str, list[str]]:
    """What is wrong with a page, by screen and scheme."""
    views = ((screen, scheme) for screen in SCREENS for scheme in SCHEMES)
    seen = {f"{screen} {scheme}": faults(look(browser, file, screen, scheme, axe, None)) for screen, scheme in views}
    return {view: wrong for view, wrong in seen.items() if wrong}


@pytest.mark.thorough
def test_a_comparison_is_whole_on_every_screen(photos: Path, tmp_path: Path, browser: Chromium, axe: str) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1), "twin": classifier(0)}, photos)
    assert found(browser, page(comparison, tmp_path), axe) == {}


@pytest.mark.sweep(1)
@pytest.mark.parametrize("agrees", [True, False])
def test_a_proof_is_whole_on_every_screen(tmp_path: Path, browser: Chromium, axe: str, agrees: bool) -> None:
    assert found(browser, write_page(tmp_path, proof=proof(agrees), comparison=None), axe) == {}


@pytest.mark.thorough
def test_answers_and_two_proofs_are_whole_on_every_screen(
    photos: Path, tmp_path: Path, browser: Chromium, axe: str
) -> None:
    text = (
        "net (float[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) { h = Conv <pads = [1,1,1,1]> (x, w)  y = Sigmoid (h) }"
    )
    model, fed = graph_model(text, 17, w=weights(3, 3, 3, 3)), cp.Feeding(size=(16, 16), scale=1 / 255)
    made = cp.prove(model, photos, tmp_path / "one", feeding=fed, limit=2)
    assert found(browser, made.page, axe) == {}
    drawn = cp.prove(model, None, tmp_path / "two", limit=2)
    changed = cp.compare_proofs(made.folder, drawn.folder)
    assert found(browser, difference_page(changed, tmp_path / "page"), axe) == {}


def test_photos_are_found_within_the_page(photos: Path, tmp_path: Path, browser: Chromium, axe: str) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    look(browser, page(comparison, tmp_path), "phone", "light", axe, None)

    def shown() -> list[str]:
        names: list[str] = browser.evaluate(
            "[...document.querySelectorAll('#photo-list .what > small')].map(e => e.textContent)"
        )
        return names

    def by_id(name: str, value: str, event: str = "input") -> None:
        found = f"document.getElementById({name!r})"
        browser.evaluate(f"{found}.value = {value!r}; {found}.dispatchEvent(new Event({event!r}))")

    assert sorted(shown()) == sorted(comparison.photos)
    by_id("photo-kind", "differ", "change")
    assert sorted(shown()) == sorted(comparison.disagreements("a", "b"))
    by_id("photo-kind", "all", "change")
    one = comparison.photos[3]
    by_id("photo-search", one)
    assert shown() == [one]
    by_id("photo-search", "")
    # a class, chosen from the table, shows the photos of it and those called so
    index = comparison.predictions("a", one)[0][0]
    name = comparison.class_name(index)
    browser.evaluate(
        f"[...document.querySelectorAll('#classes-table .link')].find(e => e.textContent === {name!r}).click()"
    )
    wanted = {
        photo
        for photo in comparison.photos
        if comparison.truth_of(photo) == index or index in [comparison.predictions(m, photo)[0][0] for m in "ab"]
    }
    assert set(shown()) == wanted
