"""A server of this machine for tests of downloads: it answers as each test says, also as no honest one would."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """``answers`` by path; ``asked`` is what was asked for, with the range, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return self.address + path


class Handler(BaseHTTPRequestHandler):
    """Looks up what a test said of the path."""

    known: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.known.asked.append((path, self.headers["Range"]))
        self.close_connection = True
        self.known.answers.get(path, status(404))(self)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


Answer = Callable[[Handler], None]


@contextmanager
def serving() -> Iterator[Server]:
    """A server until the block ends."""
    kind = type("Bound", (Handler,), {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    http.daemon_threads = True
    kind.known = Server(f"http://127.0.0.1:{http.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield kind.known  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def start_of(handler: Handler) -> int | None:
    """The first byte that is asked for, None for the whole."""
    said = handler.headers["Range"]
    return None if said is None else int(said.removeprefix("bytes=").partition("-")[0])


def whole(body: bytes, **headers: str) -> Answer:
    """An honest server that knows ranges."""

    def give(handler: Handler) -> None:
        start = start_of(handler)
        if start is None:
            return handler.answer(200, body, headers)
        if start >= len(body):
            return handler.answer(416)
        return handler.answer(206, body[start:], {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"})

    return give


def cut(body: bytes, each: int, *, ranges: bool = True) -> Answer:
    """Ends the connection after so many bytes, each time; without ``ranges`` it begins again, and ends later by as many."""
    times = [0]

    def give(handler: Handler) -> None:
        times[0] += 1
        start = (start_of(handler) or 0) if ranges else 0
        end = start + each if ranges else each * times[0]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(body) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.end_headers()
        handler.wfile.write(body[start:end])

    return give


def status(code: int, **headers: str) -> Answer:
    """An answer that is no file."""
    return lambda handler: handler.answer(code, b"no", headers)


def leads_to(address: str, code: int = 302) -> Answer:
    return status(code, Location=address)


def in_turn(*answers: Answer) -> Answer:
    """The first answer first; the last one from then on."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def said_length(body: bytes, length: int) -> Answer:
    """Says another length than it sends."""
    return lambda handler: handler.answer(200, body, {"Content-Length": str(length)})


def endless(handler: Handler) -> None:
    """Sends chunks without end, and says no length."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    except OSError:
        pass
