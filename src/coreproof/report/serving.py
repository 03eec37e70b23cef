"""serving: every photo of a comparison in a page of this machine, filtered and sorted; it reads the store and writes nothing.

A photo is asked for by its place in the store, never by its name: no name, however it is written, is a way out of the folder.
"""

from __future__ import annotations

import json
import re
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from coreproof.comparison.catalogue import Catalogue, Found, Kind, Order, Wish
from coreproof.comparison.comparison import Comparison
from coreproof.errors import CoreproofError
from coreproof.report.data import comparison_verdict
from coreproof.report.local_server import Served, serve
from coreproof.report.page import environment, inside_script
from coreproof.report.thumbnails import SIDE, jpeg
from coreproof.visible import visible_in

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_LARGE = 1200
_PHOTO = re.compile(r"/(photo|large)/([0-9]{1,9})/([0-9]{1,9})")
_FIELDS = 12
_LONGEST = 200
_JSON = "application/json; charset=utf-8"


def serve_comparison(comparison: Comparison, port: int = 0) -> ThreadingHTTPServer:
    """Serves a comparison on the loopback address; the one who calls it closes it. Raises OSError where the port is taken.

    Raises StoreError where a file of the store is not as it was written.
    """
    return serve(Site(comparison).answer, port, _POLICY)


class Site:
    """What each address gives."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.catalogue = Catalogue(comparison)
        templates = Path(__file__).parent / "templates"
        script = "\n".join((templates / name).read_text(encoding="utf-8") for name in ("tools.js", "serve.js"))
        wrapped = f'"use strict";\n(() => {{\n{script}\n}})();\n'
        self._fixed = {
            "/": Served("text/html; charset=utf-8", self._page().encode()),
            "/style.css": Served("text/css; charset=utf-8", templates / "style.css"),
            "/serve.js": Served("text/javascript; charset=utf-8", wrapped.encode()),
        }

    def answer(self, path: str, query: str) -> Served | None:
        """What a path gives; None: nothing stands there. ValueError for a question that makes no sense."""
        if path == "/rows":
            return Served(_JSON, self._rows(query).encode())
        if (asked := _PHOTO.fullmatch(path)) is not None:
            return self._picture(int(asked[2]), int(asked[3]), _LARGE if asked[1] == "large" else SIDE)
        return self._fixed.get(path)

    def _page(self) -> str:
        comparison = self.comparison
        return (
            environment()
            .get_template("serve.html.j2")
            .render(
                comparison=comparison,
                verdict=comparison_verdict(comparison),
                data=inside_script(
                    {"models": list(comparison.names), "called": [model.called for model in comparison.models]}
                ),
            )
        )

    def _rows(self, query: str) -> str:
        try:
            total, found = self.catalogue.find(wish_of(query))
        except CoreproofError as error:
            raise ValueError(str(error)) from None
        used = {index for row in found for model in row.top for index, _ in model}
        used |= {row.truth for row in found if row.truth is not None}
        names = {str(index): self.comparison.class_name(index) for index in sorted(used)}
        document = visible_in({"total": total, "classes": names, "rows": [_row(row) for row in found]})
        return json.dumps(document, ensure_ascii=False)

    def _picture(self, at: int, row: int, side: int) -> Served | None:
        name = self.catalogue.photo(at, row)
        # made anew, so that what is served is a picture whatever the file holds
        made = None if name is None else jpeg(self.comparison.source, name, side)
        return None if made is None else Served("image/jpeg", made)


def wish_of(query: str) -> Wish:
    """What is asked for, from the words behind the "?". ValueError where that makes no sense."""
    given = parse_qs(query, strict_parsing=bool(query), max_num_fields=_FIELDS, errors="strict")
    if any(len(values) != 1 or len(values[0]) > _LONGEST for values in given.values()):
        raise ValueError("said twice, or too long")
    said = {key: values[0] for key, values in given.items()}

    def number(key: str) -> int | None:
        text = said.get(key, "")
        if text and not (text.isascii() and text.isdigit()):
            raise ValueError(f"{key} is no number")
        return int(text) if text else None

    kind, order = said.get("kind", "all"), said.get("order", "order")
    words = tuple(said.get("search", "").split())
    return Wish(_kind(kind), _order(order), words, number("model"), number("a"), number("b"), number("page") or 0)


def _kind(text: str) -> Kind:
    match text:
        case "all" | "differ" | "same" | "wrong" | "right" | "skipped":
            return text
    raise ValueError("no kind of photos")


def _order(text: str) -> Order:
    match text:
        case "order" | "name" | "apart" | "alike" | "sure" | "unsure":
            return text
    raise ValueError("no order of photos")


def _row(row: Found) -> dict[str, object]:
    return {
        "place": f"{row.at}/{row.row}",
        "name": row.photo,
        "truth": row.truth,
        "skipped": row.skipped,
        "apart": None if row.divergence is None else float(f"{row.divergence:.4g}"),
        "top": [[[index, round(share, 5)] for index, share in model] for model in row.top],
    }
