"""The page: one file that loads nothing, says what was found, and cannot be broken by what it shows."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from coreproof.cli.matrix import agreement_table
from coreproof.comparison import comparison as comparison_
from coreproof.comparison.compare import compare
from coreproof.comparison.comparison import Comparison
from coreproof.comparison.lineup import lineup_of
from coreproof.errors import InputError
from coreproof.report import data as data_
from coreproof.report import page as page_
from coreproof.report.curve import curve
from coreproof.report.data import comparison_verdict, step_data
from coreproof.report.evidence import evidence
from coreproof.report.page import page as page_of
from coreproof.report.page import write_page
from tests.build import FEEDING, classifier
from tests.report.conftest import proof, row

VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Collects tags, text and what the page would load; checks that elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def read(path: Path) -> tuple[Page, dict[str, Any]]:
    html = path.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return Page(html), json.loads(found[1])


@pytest.mark.parametrize("agrees", [True, False])
def test_a_proof_says_its_verdict_first(tmp_path: Path, agrees: bool) -> None:
    page, data = read(write_page(tmp_path, proof=proof(agrees), comparison=None))
    verdicts = [a for tag, a in page.tags if tag == "div" and "verdict" in (a.get("class") or "")]
    assert verdicts[0]["class"] == ("verdict good" if agrees else "verdict bad")
    assert page.words.index(proof(agrees)["verdict"]["text"]) < page.words.index("What each step proved")
    assert [len(rows) for rows in data["rows"]] == [0, 0, 0, 40, 40]
    assert ("First divergence" in page.words) is not agrees
    assert "coreproof's runtime (ONNX Runtime)" in page.words
    assert "Half precision is simulated" in page.words
    assert data["comparison"] is None


def test_weak_stands_below_the_headline(tmp_path: Path) -> None:
    said = proof()
    said["verdict"]["weaknesses"] = [{"kind": "few-samples", "text": "one sample", "values": [], "fails": False}]
    page, _ = read(write_page(tmp_path, proof=said, comparison=None))
    assert page.words.index("weak one sample") < page.words.index("steps verified")
    said["verdict"]["agrees"] = False
    page, _ = read(write_page(tmp_path, proof=said, comparison=None))
    assert "weak one sample" not in page.words


def test_a_comparison_stands_alone(photos: Path, tmp_path: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1), "twin": classifier(0)}, photos)
    page, data = read(page_of(comparison, tmp_path / "out"))
    assert (tmp_path / "out" / "comparison.json").is_file()
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert f'<span class="unseen">a and b: </span><b>{comparison.agreement()["a"]["b"]}</b>' in html
    differing = next(p for p in data["comparison"]["pairs"] if (p["a"], p["b"]) == (0, 1))["differ"]
    named = [data["comparison"]["photos"][k]["name"] for k in differing]
    assert named == comparison.disagreements("a", "b")
    assert all(photo["src"].startswith("data:image/jpeg;base64,") for photo in data["comparison"]["photos"])
    assert "broken.jpg" in page.words
    assert comparison_verdict(comparison)["text"] in page.words


def test_what_is_no_comparison_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no page of this") as caught:
        page_of(proof(), tmp_path / "out")  # type: ignore[arg-type]
    assert "coreproof.prove writes the page of a proof itself" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_page_links_the_store_that_is_kept(photos: Path, tmp_path: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos, tmp_path / "my store")
    page, _ = read(page_of(comparison, tmp_path / "out"))
    links = [a["href"] for tag, a in page.tags if tag == "a" and "store" in (a.get("href") or "")]
    assert links == ["../my%20store/"]
    assert (tmp_path / "out" / "../my store/").is_dir()


def test_pictures_take_what_room_is_left(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    monkeypatch.setattr(page_, "_LARGEST", 0)
    bare = page_of(comparison, tmp_path).stat().st_size
    monkeypatch.setattr(page_, "_LARGEST", bare + 4000)
    _, data = read(page_of(comparison, tmp_path))
    shown = [bool(photo["src"]) for photo in data["comparison"]["photos"]]
    assert any(shown)
    assert not all(shown)
    assert bare < (tmp_path / "index.html").stat().st_size <= bare + 4000


def test_lists_are_shorter_where_there_are_many_models(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare({name: classifier(seed) for seed, name in enumerate("abc")}, photos)
    monkeypatch.setattr(data_, "_ALL_DIFFERING", 21)
    monkeypatch.setattr(data_, "_ALL_EXTREMES", 12)
    monkeypatch.setattr(data_, "_ANSWERS", 30)
    data = data_.comparison_data(comparison)
    assert len(data["photos"]) == 10
    assert {len(pair["most"]) for pair in data["pairs"]} <= {3, 4}
    assert max(len(pair["differ"]) for pair in data["pairs"]) <= 7


def test_a_page_says_what_it_leaves_out(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare({name: classifier(seed) for seed, name in enumerate("abc")}, photos)
    page, data = read(page_of(comparison, tmp_path))
    assert data["comparison"]["everything"]
    assert "beside this page has everything" in page.words
    monkeypatch.setattr(data_, "_PAIRS", 1)
    monkeypatch.setattr(comparison_, "_WRITTEN_OUT", 5)
    page, data = read(page_of(comparison, tmp_path))
    assert not data["comparison"]["everything"]
    assert "beside this page has the statistics" in page.words
    assert "The 1 that agree least; comparison.json has all." in page.words


def test_nothing_is_loaded_from_anywhere(photos: Path, tmp_path: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    path = write_page(tmp_path, proof=proof(), comparison=comparison)
    page, _ = read(path)
    loads = [a[k] or "" for _, a in page.tags for k in ("src", "href", "srcset") if k in a]
    assert [url for url in loads if not url.startswith(("#", "data:"))] == ["proof.json", "comparison.json"]
    html = re.sub(r"base64,[A-Za-z0-9+/=]*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//[a-z]|@import|fetch\(|XMLHttp|import\(", html)
    assert [tag for tag, _ in page.tags].count("h1") == 1
    headers = [a for tag, a in page.tags if tag == "th"]
    assert headers
    assert all("scope" in a for a in headers)


def test_names_cannot_break_out(tmp_path: Path) -> None:
    evil = proof()
    evil["title"] = "</script><img src=x onerror=alert(1)>"
    evil["steps"][3]["rows"] = [row(1, candidate="</script><b>", psnr=float("inf"), cosine=float("nan"))]
    page, data = read(write_page(tmp_path, proof=evil, comparison=None))
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert data["rows"][3][0][1] == "</script><b>"
    assert data["rows"][3][0][10:12] == ["NaN", "infinity"]


def test_rows_of_other_hands_are_understood() -> None:
    step = step_data({"name": "s", "ok": True, "rows": [
        {"name": "v", "max_error": 1e-6, "tolerance": 1e-4, "required": 5e-5, "agrees": True, "shape": "1x3"}
    ]})  # fmt: skip
    assert (step["agreeing"], step["worst"]["name"], step["worst"]["used"]) == (1, "v", 0.5)


def printed(comparison: Comparison, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(agreement_table(comparison, width))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.sweep(1)
@pytest.mark.parametrize("width", [40, 80])
def test_the_terminal_cuts_off_no_count(photos: Path, width: int) -> None:
    comparison = compare({f"model {k}": classifier(k) for k in range(14)}, photos)
    lines = [line.replace("model ", "model").split() for line in printed(comparison, width).splitlines()]
    counts = comparison.agreement()
    for name in comparison.names:
        rows = [words[words.index(key) + 1 :] for words in lines if (key := name.replace(" ", "")) in words[:2]]
        own = ["·" if name == other else str(counts[name][other]) for other in comparison.names]
        shown = [word for row in rows for word in row if not word.startswith("model")]
        assert shown == [*own, str(comparison.accuracies[name].top1)]


def test_classes_are_counted_over_all_photos(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    _, data = read(page_of(comparison, tmp_path / "all"))
    everything = comparison.everything
    for index, known, named, right in data["comparison"]["perclass"]:
        assert known == (everything.truth == index).sum()
        first = everything.top[:, :, 0]
        assert named == [int((first[:, m] == index).sum()) for m in (0, 1)]
        assert right == [int(((first[:, m] == index) & (everything.truth == index)).sum()) for m in (0, 1)]
    assert sum(row[2][0] for row in data["comparison"]["perclass"]) == comparison.count
    # few photos are all there; of many, those that tell most
    assert {photo["name"] for photo in data["comparison"]["photos"]} == set(comparison.photos)
    monkeypatch.setattr(data_, "_PHOTOS", 5)
    page, data = read(page_of(comparison, tmp_path / "some"))
    assert len(data["comparison"]["photos"]) == 5
    assert "The 5 of 12 photos that tell most" in page.words


def test_people_read_what_a_model_is_beside_its_name(photos: Path, tmp_path: Path) -> None:
    called = {"a": "our network"}
    comparison = compare(
        lineup_of({"a": classifier(0), "b": classifier(1), "onnx": classifier(2)}, FEEDING, called), photos
    )
    assert [comparison.spoken(name) for name in comparison.names] == ["our network (a)", "ONNX (b)", "onnx"]
    page, data = read(page_of(comparison, tmp_path))
    assert data["comparison"]["called"] == ["our network", "ONNX", "ONNX"]
    assert "our network a" in page.words
    assert json.loads((tmp_path / "comparison.json").read_text())["details"]["a"]["called"] == "our network"


def test_the_terminal_takes_no_name_for_its_own_words(photos: Path) -> None:
    shown = printed(compare({"net[b]": classifier(0), "x[/red]y": classifier(1)}, photos), 80)
    # in the heading, in the row, and where it is said what each is
    assert shown.count("net[b]") == 3
    assert shown.count("x[/red]y") == 3
    assert "ONNX: net[b], x[/red]y" in shown


def test_the_terminal_shows_the_same_counts(photos: Path) -> None:
    comparison = compare({"a": classifier(0), "b": classifier(1)}, photos)
    shown = printed(comparison, 100)
    assert str(comparison.agreement()["a"]["b"]) in shown
    assert "of 12 photos" in shown
    assert "broken.jpg" in shown


def test_the_evidence_stands_below_the_verdict_without_a_click(photos: Path, tmp_path: Path) -> None:
    wide = replace(FEEDING, resize="crop", resize_to=10)
    comparison = compare(lineup_of({"a": classifier(0), "b": classifier(1)}, {"a": FEEDING, "b": wide}), photos)
    found = evidence(comparison, comparison.pair("a", "b"))
    assert found is not None
    assert [photo["name"] for photo in found["photos"]] == comparison.disagreements("a", "b", 3)
    stretched, cut = found["photos"][0]["seen"]
    assert stretched["frame"] == {"left": 0, "top": 0, "width": 100, "height": 100}
    # 30 x 20 is scaled to 15 x 10, of which 8 x 8 from (4, 1) is seen
    assert cut["frame"] == pytest.approx({"left": 400 / 15, "top": 10, "width": 800 / 15, "height": 80})
    for name, seen in zip("ab", (stretched, cut), strict=True):
        first, second = comparison.predictions(name, found["photos"][0]["name"])[:2]
        assert seen["margin"] == pytest.approx(first[1] - second[1])
        assert seen["answers"][0]["name"] == comparison.class_name(first[0])
    assert 'resize = "squash"' in found["todo"]["command"]
    page, _ = read(page_of(comparison, tmp_path / "out"))
    assert page.words.index("Where ONNX a and ONNX b part") < page.words.index("Who agrees with whom")
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 3 * len(found["photos"])
    assert all((a["src"] or "").startswith("data:image/jpeg;base64,") and a["alt"] for a in pictures)


def test_models_that_see_the_same_pixels_are_sent_to_verify(photos: Path, tmp_path: Path) -> None:
    files = {name: classifier(seed).save(tmp_path / f"{name}.onnx") for name, seed in (("a", 0), ("b", 1))}
    comparison = compare(lineup_of(files, FEEDING), photos)
    found = evidence(comparison, comparison.pair("a", "b"))
    assert found is not None
    assert found["same_pixels"]
    assert found["todo"]["command"] == "coreproof verify a.onnx b.onnx"
    page, _ = read(page_of(comparison, tmp_path / "out"))
    stored = comparison.models[0]
    assert stored.bytes == files["a"].stat().st_size
    assert f"a.onnx, {stored.bytes / 1e3:,.1f} kB, of {stored.written}" in page.words
    assert stored.digest in page.words
    assert str(tmp_path) not in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_models_that_agree_on_all_show_where_they_come_closest(photos: Path) -> None:
    comparison = compare({"a": classifier(0), "twin": classifier(0)}, photos)
    found = evidence(comparison, comparison.pair("a", "twin"))
    assert found is not None
    assert (found["differ"], found["why"], found["todo"]) == (0, None, None)
    assert [photo["name"] for photo in found["photos"]] == [p for p, _ in comparison.most_divergent("a", "twin", 3)]


def test_the_error_along_the_network_hides_nothing_that_disagrees() -> None:
    rows = step_data({"rows": [row(k, agrees=k != 700) for k in range(1000)]})["rows"]
    drawn = curve(rows)
    assert drawn is not None
    assert len(drawn["points"]) <= 240
    assert [point["row"] for point in drawn["points"] if not point["agrees"]] == [700]
    places = [point["x"] for point in drawn["points"]]
    assert places == sorted(places)
    by_row = {point["row"]: point["y"] for point in drawn["points"]}
    # 2e-6 * (k + 1) of the 2e-4 that are allowed: row 99 lies on the line, ten times that at the upper end
    assert by_row[99] == pytest.approx(drawn["allowed"], abs=0.01)
    assert by_row[999] == 0
    assert curve(rows[:2]) is None


def test_a_red_step_says_what_to_do_next(tmp_path: Path) -> None:
    document = {**proof(agrees=False), "rests_on": {"models": {n: {"file": f"models/{n}.x"} for n in ("t2o", "t2c16")}}}
    page, _ = read(write_page(tmp_path, proof=document, comparison=None))
    assert "coreproof doctor models/t2c16.x --against models/t2o.x" in page.words
    assert "coreproof view models/t2c16.x --layer features_7" in page.words or "--layer features.7.conv" in page.words
