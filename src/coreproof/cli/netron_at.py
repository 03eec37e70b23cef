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
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Thread
from urllib.parse import quote, unquote

from coreproof.visible import visible

HOST = "127.0.0.1"
_SECURITY = {
    "Content-Security-Policy": "connect-src 'self'; img-src 'self' data: blob:; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
}
_MALFORMED = {414: 400, 431: 400, 505: 400, 501: 405}
"""What http.server calls them, and what is answered: lines too long, headers too many, no HTTP; methods other than reading."""
_SECONDS = 30
"""After which a connection that says nothing is closed."""
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


@dataclass(frozen=True)
class Served:
    """What an address gives: bytes that are at hand, or a file that is read when it is asked for."""

    kind: str
    content: bytes | Path


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
    """Serves these pages on the loopback address; ``server_address`` tells the port. Raises OSError where it is taken."""
    server = _Server((HOST, port), _handler(served))
    Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        """Nothing of a browser that went away or fell silent."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(served: Mapping[str, Served]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        server_version, sys_version = "coreproof", ""

        def do_GET(self) -> None:
            refused = self._refused()
            if refused is not None:
                self.send_error(refused)
                return
            page = served.get(unquote(self.path.partition("?")[0], errors="strict"))
            if page is None:
                self.send_error(404)
                return
            try:
                self._answer(page)
            except FileNotFoundError:  # moved away while it was looked at
                self.send_error(404)

        do_HEAD = do_GET

        def _refused(self) -> int | None:
            """Why a request is not answered: it makes no sense, or comes from a page of somebody else."""
            port = self.connection.getsockname()[1]
            # a page that got this machine's address under a name of its own asks by that name
            own = {f"{name}:{port}" for name in (HOST, "localhost")} | ({HOST, "localhost"} if port == 80 else set())
            hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
            # twice said is how one server is made to read what another does not
            if len(hosts) != 1 or len(origins) > 1 or not self.path.startswith("/") or self.headers.defects:
                return 400
            try:
                unquote(self.path, errors="strict").encode()
            except UnicodeError:
                return 400
            if any(not 0x21 <= ord(sign) <= 0x7E for sign in self.path):
                return 400
            if hosts[0].strip().lower() not in own:
                return 403
            if origins and origins[0].strip().lower() not in {f"http://{name}" for name in own}:
                return 403
            return None

        def _answer(self, page: Served) -> None:
            if isinstance(page.content, bytes):
                self._head(page.kind, len(page.content))
                if self.command != "HEAD":
                    self.wfile.write(page.content)
                return
            with page.content.open("rb") as file:
                self._head(page.kind, page.content.stat().st_size)
                if self.command != "HEAD":
                    shutil.copyfileobj(file, self.wfile, 1 << 20)

        def _head(self, kind: str, length: int) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            """A number and its word, and nothing of what was sent. What cannot be parsed is malformed, in whatever way."""
            code = _MALFORMED.get(code, code)
            said = f"{code} {HTTPStatus(code).phrase}\n".encode()
            self.close_connection = True
            self.request_version = "HTTP/1.0"  # a first line that makes no sense gets an answer that does
            self.send_response(code)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        def end_headers(self) -> None:
            for key, value in _SECURITY.items():
                self.send_header(key, value)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the user's."""

    return Handler
