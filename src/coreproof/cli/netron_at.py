"""Netron's page at a layer, and on this machine only.

Netron's own server answers whoever asks, by whatever name (a page on the internet can give this machine's address a name of
its own), and serves the whole folder of the model. Here a closed list of files is served, made before the first request: the
model, its own data files, and the files of Netron's package; only to a browser that asks the loopback address itself.

Netron has no address for a layer: a script beside its own goes there once the graph is drawn. Its page keeps the view as
``window.__view__``; where another version does not, the graph is shown from its beginning and the browser's console says so.

As Netron serves it, the page asks a web service for the country and reports usage. Served from here it reaches nothing but
this machine. What it asks its user (whether it may keep a cookie) is the user's to answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from coreproof.report import local_server
from coreproof.report.local_server import Served
from coreproof.visible import visible

_POLICY = "connect-src 'self'; img-src 'self' data: blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
}
_TRIES = 50
"""As often is a drawn graph asked for the layer, five times a second: a large one is laid out for a while."""
_TO_LAYER = """<script>
(() => {
  const wanted = %s;
  let tries = %d;
  const named = graph => graph && graph.nodes
    ? graph.nodes.find(node => wanted[0] === node.name)
      || graph.nodes.find(node => (node.outputs || []).some(output => (output.value || []).some(
        value => value && wanted.includes(String(value.name).split('\\n')[0]))))
    : null;
  const timer = setInterval(() => {
    try {
      const view = window.__view__, node = view && view.target ? named(view.activeTarget) : null;
      const drawn = node ? view.target.activate(node, 'sidebar') : [];
      if (drawn.length > 0) {
        clearInterval(timer);
        view.target.scrollTo(drawn);
        document.documentElement.setAttribute('data-layer', wanted[0]);
      } else if (view && view.target && --tries === 0) {
        throw new Error('no such layer in the graph that is shown');
      }
    } catch (error) {
      clearInterval(timer);
      console.warn('coreproof: Netron did not go to ' + wanted[0] + ': ' + error.message);
    }
  }, 200);
})();
</script>"""


def pages(netron: Path, model: Path, data: Mapping[str, Path], names: list[str]) -> dict[str, Served]:
    """Everything that is served, by path: Netron's package ``netron``, the ``model``, and its ``data`` by stored name.

    ``names``: of the layer to go to, then of the values it makes, which some formats know it by; none: stay at the start.
    """
    served = {
        f"/{file.name}": Served(_KINDS[file.suffix], file)
        for file in sorted(netron.iterdir())
        if file.suffix in _KINDS and file.is_file()
    }
    served["/"] = served["/index.html"] = Served("text/html", _index(netron / "index.html", model.name, names))
    for name, path in {model.name: model, **data}.items():
        served[f"/data/{_address(name)}"] = Served("application/octet-stream", path)
    return served


def _address(name: str) -> str:
    """A file's name in an address: bytes that are no UTF-8 have none there, and stand escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def _index(page: Path, model: str, names: list[str]) -> bytes:
    """Netron's page that opens the model, as its own server writes it, with the script that goes to the layer."""
    html = page.read_text(encoding="utf-8")
    wanted = json.dumps(names).replace("<", "\\u003c")  # a name must not end the script
    script = _TO_LAYER % (wanted, _TRIES) if names else ""
    shown = visible(model)
    told = "".join(
        f'<meta name="{key}" content="{escape(value)}">\n'
        for key, value in (
            ("type", "Python"),
            ("file", f"/data/{quote(_address(model))}"),
            ("name", shown),
            ("identifier", shown),
        )
    )
    html = re.sub(r'(?=<meta name="version" content=")', lambda _: told, html, count=1)
    return html.replace("<head>", "<head>" + script, 1).encode()


def serve(served: Mapping[str, Served], port: int) -> ThreadingHTTPServer:
    """Serves these pages and nothing else. Raises OSError where the port is taken."""
    return local_server.serve(lambda path, _: served.get(path), port, _POLICY)
