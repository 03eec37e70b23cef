"""compare --serve: every photo, filtered, sorted and by page, held against the comparison itself; for this machine only."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from conformance.browser import Chromium, faults, look_at
from PIL import Image

from coreproof.comparison.catalogue import PAGE, Catalogue, Wish
from coreproof.comparison.compare import compare
from coreproof.comparison.comparison import Comparison
from coreproof.comparison.device import DeviceRun
from coreproof.comparison.lineup import Lineup, LineupEntry
from coreproof.comparison.source import Listed, PhotoSource
from coreproof.errors import StoreError
from coreproof.report.local_server import address
from coreproof.report.serving import Site, serve_comparison, wish_of
from tests.build import classifier
from tests.report.test_browser import axe, browser

__all__ = ["axe", "browser"]
HOSTILE = '"><script>alert(1)<∕script> %2e%2e \u202egpj.png'


@pytest.fixture
def comparison(photos: Path, tmp_path: Path) -> Comparison:
    (photos / "p03.png").rename(photos / HOSTILE)
    return compare({"a": classifier(6), "b": classifier(8), "c": classifier(9)}, photos, tmp_path / "a store [1]")


@pytest.fixture
def port(comparison: Comparison) -> Iterator[int]:
    with serve_comparison(comparison) as server:
        yield server.server_address[1]
        server.shutdown()


def names(comparison: Comparison, **wish: Any) -> list[str]:
    """All photos that are found, page by page."""
    site, found = Site(comparison), list[str]()
    for page in range(100):
        served = site.answer("/rows", urlencode({**wish, "page": page}))
        assert served is not None
        assert isinstance(served.content, bytes)
        document = json.loads(served.content)
        found += [row["name"] for row in document["rows"]]
        if not document["rows"]:
            assert document["total"] == len(found)
            return found
    raise AssertionError("there is no end")


def shown(photo: str) -> str:
    return photo.replace("\u202e", "\\u202e")


def test_every_photo_is_reached_once_and_in_order(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coreproof.comparison.catalogue.PAGE", 5)
    assert names(comparison) == [shown(photo) for photo in comparison.photos]
    assert names(comparison, order="name") == sorted(shown(photo) for photo in comparison.photos)
    assert names(comparison, kind="skipped") == ["broken.jpg"]


def test_filters_are_the_comparison_s_own_words(comparison: Comparison) -> None:
    differing = comparison.disagreements("a", "c")
    assert 0 < len(differing) < comparison.count
    assert names(comparison, kind="differ", a=0, b=2, order="apart") == [shown(photo) for photo in differing]
    assert sorted([*names(comparison, kind="same", a=2, b=0), *map(shown, differing)]) == sorted(names(comparison))
    first = {photo: comparison.predictions("b", photo)[0][0] for photo in comparison.photos}
    truth = {photo: comparison.truth_of(photo) for photo in comparison.photos}
    wrong = [shown(photo) for photo in comparison.photos if truth[photo] not in (None, first[photo])]
    right = [shown(photo) for photo in comparison.photos if truth[photo] == first[photo]]
    assert names(comparison, kind="wrong", model=1) == wrong
    assert names(comparison, kind="right", model=1) == right
    assert len(wrong) + len(right) == sum(index is not None for index in truth.values()) > 0


def test_orders_are_those_of_the_comparison(comparison: Comparison) -> None:
    count = comparison.count
    apart = [shown(photo) for photo, _ in comparison.most_divergent("a", "b", count)]
    assert names(comparison, order="apart", a=0, b=1) == apart
    assert names(comparison, order="alike", a=1, b=0) == [
        shown(p) for p, _ in comparison.least_divergent("a", "b", count)
    ]
    assert names(comparison, order="sure", model=2) == [shown(p) for p, _ in comparison.most_certain("c", count)]
    assert names(comparison, order="unsure", model=2) == [shown(p) for p, _ in comparison.least_certain("c", count)]


def test_words_are_looked_for_in_names_and_classes(comparison: Comparison) -> None:
    assert names(comparison, search="P07") == ["p07.png"]
    assert names(comparison, search="p07 p08") == []
    # letters that mean something to SQL are letters
    assert names(comparison, search="%'; DROP VIEW seen --") == []
    assert names(comparison, search="script> %2e%2e") == [shown(HOSTILE)]
    name = comparison.class_name(comparison.predictions("b", "p00.png")[0][0])

    def texts(photo: str) -> list[str]:
        truth = comparison.truth_of(photo)
        shown = [] if truth is None else [truth]
        return [photo, *map(comparison.class_name, [*shown, *(comparison.predictions(m, photo)[0][0] for m in "abc")])]

    wanted = [
        photo for photo in comparison.photos if all(any(w in text for text in texts(photo)) for w in name.split())
    ]
    assert 0 < len(wanted) < comparison.count
    assert names(comparison, search=name.upper()) == [shown(photo) for photo in wanted]


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "query",
    ["page=-1", "page=1&page=2", "page=x", "kind=everything", "order=photo%3B", "model=9", "a=0&b=7", "search=" + "x" * 201,
     "search=" + "+".join("abcdefghi"), "page=99999999", "&".join(f"k{k}=1" for k in range(20)), "nothing",
     "search=%ff", "model=%D9%A1"],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(comparison: Comparison, query: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever makes no sense, in whatever words
        Site(comparison).answer("/rows", query)


def test_a_question_is_read() -> None:
    asked = "kind=wrong&order=sure&search=big+cat&model=1&page=2"
    assert wish_of(asked) == Wish("wrong", "sure", ("big", "cat"), 1, None, None, 2)
    assert wish_of("") == Wish()


def status(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("Content-Security-Policy", "")
    finally:
        connection.close()


def test_a_photo_is_a_picture_made_anew(comparison: Comparison, port: int) -> None:
    for row, photo in enumerate(comparison.photos):
        code, content, policy = status(port, f"/photo/0/{row}")
        assert code == 200
        assert "default-src 'none'" in policy
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "JPEG"
            assert picture.size == (30, 20)
        assert content != comparison.source.read(photo)
    assert status(port, "/large/0/0")[0] == 200


@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    "path",
    ["/photo/0/99", "/photo/7/0", "/photo/0/-1", "/photo/0", "/photo/0/0/", "/photo/p00.png", "/photo/0/../../labels.csv",
     "/photo/..%2f..%2fetc%2fpasswd", "/../style.css", "//etc/passwd", "/labels.csv", "/store.json", "/photos/p00.png",
     "/photo/٠/٠", "/photo/9999999999/0", "/" + quote(HOSTILE)],
)  # fmt: skip
def test_nothing_else_is_served(port: int, path: str) -> None:
    code, content, _ = status(port, quote(path, safe="/%.-:"))
    assert code == 404
    assert content == b"404 Not Found\n"


@pytest.mark.sweep(2)
@pytest.mark.parametrize("path", ["/", "/rows", "/photo/0/0", "/serve.js"])
def test_only_who_asks_this_machine_by_its_address_is_answered(port: int, path: str) -> None:
    assert status(port, path)[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil.example:{port}"):
        assert status(port, path, Host=host)[0] == 403
    assert status(port, path, Origin="http://evil.example")[0] == 403
    assert status(port, path, Origin="null")[0] == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert status(port, path, method)[0] == 405
    with socket.socket() as elsewhere:
        elsewhere.settimeout(5)
        assert elsewhere.connect_ex(("127.0.0.2", port)) != 0


def test_it_writes_nothing(comparison: Comparison, tmp_path: Path) -> None:
    def state() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}

    before = state()
    assert names(comparison, kind="differ")
    assert state() == before


def test_a_store_that_is_not_what_was_compared_is_refused(comparison: Comparison) -> None:
    table = comparison.table
    for piece in table.plan.slices():
        table.agreement.path(table.store, piece).write_bytes(b"PAR1 not")
    with pytest.raises(StoreError):
        Catalogue(comparison)


def test_the_page_is_whole_and_works(comparison: Comparison, port: int, browser: Chromium, axe: str) -> None:
    at = f"http://127.0.0.1:{port}"
    for screen, scheme in (("wide", "light"), ("tablet", "dark"), ("phone", "light")):
        seen = look_at(browser, f"{at}/?kind=differ", screen, scheme, axe, None)
        assert all(url.startswith(f"{at}/") for url in seen["requests"])
        assert any("/photo/" in url for url in seen["requests"])
        assert faults({**seen, "requests": []}) == []
    told = "[...document.querySelectorAll('#list .what > small:nth-of-type(1)')].map(e => e.textContent)"
    # what the address asks for stands in the form, and is shown
    assert browser.evaluate("document.forms.wish.elements.kind.value") == "differ"
    assert browser.evaluate(told) == names(comparison, kind="differ")
    typed = "document.forms.wish.elements.search.value = 'p07'; document.forms.wish.dispatchEvent(new Event('input'))"
    browser.evaluate(f"document.forms.wish.elements.kind.value = 'all'; {typed}")
    assert waited(lambda: browser.evaluate(told), ["p07.png"])
    assert browser.evaluate("location.search") == "?search=p07&kind=all&order=order"
    browser.evaluate("history.back()")
    assert waited(lambda: browser.evaluate(told), names(comparison, kind="differ"))


def waited(ask: Callable[[], object], wanted: object) -> bool:
    """Whether an answer comes within some seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if ask() == wanted:
            return True
        time.sleep(0.05)
    return ask() == wanted


class Many(PhotoSource):
    """So many photos, all of one picture."""

    where = "many"

    def __init__(self, count: int) -> None:
        self.count = count
        written = io.BytesIO()
        Image.new("RGB", (64, 48), "red").save(written, "PNG")
        self.picture = written.getvalue()

    def listed(self) -> Iterator[Listed]:
        return (Listed(f"folder {k % 100}/photo {k:05}.png", 1, "1") for k in range(self.count))

    def read(self, photo: str) -> bytes:
        return self.picture


@pytest.mark.thorough
def test_fifty_thousand_photos_are_paged_at_once(tmp_path: Path) -> None:
    source = Many(50_000)
    rng = np.random.default_rng(0)
    photos = [listed.photo for listed in source.listed()]

    def run(processor: str) -> DeviceRun:
        scores = rng.dirichlet(np.full(10, 0.1), len(photos)).astype(np.float32)
        answers = dict(zip(photos, scores, strict=True))
        return DeviceRun("phone", "18", processor, "net", "f", tuple(f"class {k}" for k in range(10)), 1.0, answers)

    entries = tuple(LineupEntry(name, labels=r.labels, device=r) for name in ("CPU", "GPU") for r in [run(name)])
    comparison = compare(Lineup(entries), source, tmp_path / "store")
    catalogue = Catalogue(comparison)
    everything = comparison.everything
    apart = np.argsort(-everything.divergences[:, 0], kind="stable")
    for page in (0, 1000, 50_000 // PAGE):
        total, found = catalogue.find(Wish(order="apart", a=0, b=1, page=page))
        assert total == 50_000
        assert [row.photo for row in found] == [photos_of(everything.photos, k) for k in apart[PAGE * page :][:PAGE]]
    total, found = catalogue.find(Wish("differ", words=("photo", "123")))
    differ = everything.top[:, 0, 0] != everything.top[:, 1, 0]
    wanted = [p for p, d in zip(everything.photos, differ.tolist(), strict=True) if d and "123" in p]
    assert total == len(wanted)
    assert [row.photo for row in found] == wanted[:PAGE]
    assert catalogue.photo(found[-1].at, found[-1].row) == found[-1].photo
    with serve_comparison(comparison) as server:
        assert address(server) == f"http://127.0.0.1:{server.server_address[1]}"
        assert status(server.server_address[1], f"/photo/{found[0].at}/{found[0].row}")[0] == 200
        server.shutdown()


def photos_of(photos: tuple[str, ...], position: np.intp) -> str:
    return photos[int(position)]
