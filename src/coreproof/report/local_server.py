"""A server for this machine only: what it gives, it gives to a browser that asks the loopback address itself, and read only.

Whoever asks by another name is refused: a page on the internet can give this machine's address a name of its own.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from threading import Thread
from typing import TypeAlias
from urllib.parse import unquote

HOST = "127.0.0.1"
_SECURITY = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MALFORMED = {414: 400, 431: 400, 505: 400, 501: 405}
"""What http.server calls them, and what is answered: lines too long, headers too many, no HTTP; methods other than reading."""
_SECONDS = 30
"""After which a connection that says nothing is closed."""


@dataclass(frozen=True)
class Served:
    """What an address gives: bytes that are at hand, or a file that is read when it is asked for."""

    kind: str
    content: bytes | Path


Answer: TypeAlias = Callable[[str, str], Served | None]
"""What a path, decoded, and the query behind it, as it was sent, give; None: nothing. ValueError: they make no sense."""


def serve(answer: Answer, port: int, policy: str) -> ThreadingHTTPServer:
    """Serves on the loopback address; ``server_address`` tells the port. Raises OSError where it is taken.

    ``policy`` is the Content-Security-Policy of every answer.
    """
    server = _Server((HOST, port), _handler(answer, {"Content-Security-Policy": policy, **_SECURITY}))
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def address(server: ThreadingHTTPServer) -> str:
    """Where a browser finds it. A name would be resolved, and may lead elsewhere: the address is the loopback's own."""
    return f"http://{server.server_address[0]!s}:{server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: socket | tuple[bytes, socket], client_address: object) -> None:
        """Nothing of a browser that went away or fell silent."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(answer: Answer, headers: Mapping[str, str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        server_version, sys_version = "coreproof", ""

        def do_GET(self) -> None:
            refused = self._refused()
            if refused is not None:
                self.send_error(refused)
                return
            path, _, query = self.path.partition("?")
            try:
                page = answer(unquote(path, errors="strict"), query)
            except ValueError:
                self.send_error(400)
                return
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
            for key, value in headers.items():
                self.send_header(key, value)
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the user's."""

    return Handler
