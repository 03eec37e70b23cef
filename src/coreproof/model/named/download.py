"""A file of the network, whole or not at all: gone on with where it was cut, held against its digest before anybody reads it.

What has come stands beside the place under another name, so that a run that is killed loses nothing, and is renamed when its
digest is right. Two runs that want the same file take turns.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from coreproof.errors import CoreproofError, TooLargeError, UnreadableModelError
from coreproof.model.budget import DOWNLOAD_ENVIRONMENT, download_budget
from coreproof.model.files.scratch import Lock
from coreproof.model.named.cache import ENVIRONMENT
from coreproof.model.progress import Progress
from coreproof.version import __version__
from coreproof.visible import visible

PATIENCE = 30.0
"""Seconds without a byte after which a connection is taken for dead."""
PAUSE = 0.5
"""Seconds before a connection that was cut is made again; a little more each time."""
_TRIES, _MOST_TRIES = 4, 200
"""Attempts one after the other that bring nothing, and attempts in all: a server may send a byte at a time."""
_BLOCK = 1 << 20
_SPARE = 1 << 28
"""What is left free on the disk."""
_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Answers that say: come again."""
_NOT_SATISFIABLE = 416

Safe = Callable[[str, str], None]
"""Raises for an address that is not followed: called with it and with what the user typed."""


class _Answer(Protocol):
    """What urllib gives for an address."""

    status: int
    headers: http.client.HTTPMessage

    def read(self, amount: int) -> bytes: ...


class _Cut(Exception):
    """The connection ended, or the server asked for patience: what has come is kept, and more can be asked for."""


def download(
    url: str, digest: str, place: Path, *, where: str, safe: Safe, report: Progress | None = None, wait: bool = True
) -> Path:
    """``place``, holding the file at ``url`` whose SHA-256 is ``digest``; without a request where it is there already.

    ``where`` is what the user typed, for messages; ``safe`` judges each address to which a server leads. ``report`` hears how far
    it is (default: a line on the terminal). ``wait``: for another run that is at it. Raises UnreadableModelError where the file
    cannot be had or is another one, TooLargeError where it is beyond the budget (COREPROOF_DOWNLOAD_BUDGET) or the disk.
    """
    if _is(place, digest):
        return place
    report = report or _terminal_progress()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(place.parent, error) from None
    with _turn(place.with_name(place.name + ".lock"), wait=wait):
        if _is(place, digest):  # by the run that had its turn before
            return place
        partial = place.with_name(place.name + ".part")
        if _size(partial):
            _receive_all(url, digest, partial, where, safe, report)
            if not _is(partial, digest):  # the file at the address may have changed since
                partial.unlink()
        # also where what had come was thrown away just above
        if not partial.exists():
            _receive_all(url, digest, partial, where, safe, report)
        found = _digest(partial)
        if found != digest:
            partial.unlink()
            raise UnreadableModelError(
                "the file at this address is not the one that the digest names",
                where=where,
                expected=f"SHA-256 {digest}",
                found=f"SHA-256 {found}",
                fix="ask its publisher which one is right; nothing was kept of it",
            )
        os.replace(partial, place)
    return place


def _receive_all(url: str, digest: str, partial: Path, where: str, safe: Safe, report: Progress) -> None:
    """Fills ``partial`` up to the end of the file, however often the connection is cut."""
    fruitless = 0
    for _ in range(_MOST_TRIES):
        before = _size(partial)
        try:
            return _receive(url, partial, where, safe, report)
        except TooLargeError:
            # what can never be kept would only fill the disk
            partial.unlink(missing_ok=True)
            raise
        except _Cut as cut:
            # a server that sends a little each time is not given up
            fruitless = 0 if _size(partial) > before else fruitless + 1
            last = cut
            if fruitless >= _TRIES:
                break
            # at once where the last attempt brought something
            time.sleep(PAUSE * fruitless)
    if _is(partial, digest):  # whatever length the server said
        return
    raise UnreadableModelError(
        "the download was cut again and again",
        where=where,
        found=f"{last}; {_size(partial):,} bytes are kept",
        fix="try again later: it goes on where it stopped",
    )


def _receive(url: str, partial: Path, where: str, safe: Safe, report: Progress) -> None:
    """One connection. Raises _Cut where another one could bring more."""
    have = _size(partial)
    # identity: a compressed answer would have other lengths than the ranges that are asked for
    headers = {"User-Agent": f"coreproof/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    proxies = [ProxyHandler({})] if urlsplit(url).scheme.lower() == "http" else []  # of this machine
    opener = build_opener(_Followed(where, safe), *proxies)
    try:
        with opener.open(Request(url, headers=headers), timeout=PATIENCE) as answer:
            _store(answer, partial, have, where, report)
    except CoreproofError:
        raise
    except HTTPError as error:
        with error:
            _refused(error, have, where)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
        # a name that is not found brings nothing however often it is asked for; a broken connection may
        if _size(partial) or isinstance(error, http.client.HTTPException | ConnectionError | TimeoutError):
            raise _Cut(said) from error
        raise UnreadableModelError(
            "the file is not kept on this machine, and cannot be downloaded",
            where=where,
            expected=f"it at {partial.with_suffix('')}",
            found=said,
            fix=f"run it once with a network, or put the file there; {ENVIRONMENT} names another folder for what is kept",
        ) from error


def _refused(error: HTTPError, have: int, where: str) -> None:
    """What an answer that is no file means; returns where it means that all is there."""
    # nothing lies behind the last byte that was kept: its digest tells whether that is the end
    if error.code == _NOT_SATISFIABLE and have:
        return
    if error.code in _LATER:
        raise _Cut(f"the server answered {error.code} {error.reason}") from None
    raise UnreadableModelError(
        "the server does not give this file",
        where=where,
        found=f"{error.code} {error.reason}",
        fix="check the address" if error.code in (404, 410) else "download it by hand, and give its path",
    ) from None


def _store(answer: _Answer, partial: Path, have: int, where: str, report: Progress) -> None:
    start = _start(answer, have)
    said = answer.headers.get("Content-Length", "")
    # isdecimal takes other scripts' digits too, which no server sends
    length = start + int(said) if said.isascii() and said.isdecimal() else None
    room = _room(partial)
    if length is not None:
        _afford(length, start, room, where)
    done = start
    try:
        with partial.open("r+b" if start else "wb") as file:
            # what stands behind it is of an attempt that the server did not go on from
            file.seek(start)
            file.truncate()
            while block := _read(answer):
                done += len(block)
                # a length need not be said, nor be true
                _afford(done, start, room, where)
                file.write(block)
                report(f"Download {partial.stem}", done, length or 0)
    except OSError as error:
        raise _unwritable(partial, error) from None
    if length is not None and done < length:
        raise _Cut(f"the connection ended after {done:,} of {length:,} bytes")


def _read(answer: _Answer) -> bytes:
    """The next bytes; a failure of the network is no failure of the disk, into which they are written."""
    try:
        return answer.read(_BLOCK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Cut(str(error) or type(error).__name__) from error


def _start(answer: _Answer, have: int) -> int:
    """Where the bytes that come belong: at what was asked for, or at the start where the server sends the whole."""
    # a server may ignore Range: then it sends the whole file, from its first byte
    if answer.status != 206:
        return 0
    unit, _, range_ = answer.headers.get("Content-Range", "").partition(" ")
    first = range_.partition("-")[0]
    if unit.lower() != "bytes" or first != str(have):
        raise UnreadableModelError(
            "the server sends another part of the file than was asked for",
            where=None,
            expected=f"from byte {have:,} on",
            found=f"Content-Range: {unit} {range_}",
            fix="download the file by hand, and give its path",
        )
    return have


def _afford(size: int, start: int, room: int, where: str) -> None:
    if size > download_budget():
        raise TooLargeError(
            "the file is larger than a download may be",
            where=where,
            expected=f"at most {download_budget():,} bytes",
            found=f"{size:,} bytes",
            fix=f"if it is meant to be so large: {DOWNLOAD_ENVIRONMENT}=50GB",
        )
    if size - start > room:
        raise TooLargeError(
            "the file has no room on the disk",
            where=where,
            expected=f"at most {room + start:,} bytes",
            found=f"{size:,} bytes",
            fix=f"make room, or let {ENVIRONMENT} name a folder on another disk",
        )


def _room(path: Path) -> int:
    """How many bytes more the disk takes, some left free for others."""
    return max(0, shutil.disk_usage(path.parent).free - _SPARE)


class _Followed(HTTPRedirectHandler):
    """Follows a server's redirections as far as each address is one that the user could have typed."""

    def __init__(self, where: str, safe: Safe) -> None:
        self._where = where
        self._safe = safe

    def redirect_request(
        self,
        req: Request,
        fp: object,
        code: int,
        msg: str,
        headers: object,
        newurl: str,
    ) -> Request | None:
        # a redirection is an address that nobody typed: it is judged as if somebody had
        self._safe(newurl, f"{self._where}, which leads to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


@contextmanager
def _turn(lock: Path, *, wait: bool) -> Iterator[None]:
    """Holds a lock, so that no two runs write into one file; where the file system has none, nobody waits."""
    while (held := Lock(lock)).contested:
        held.release()
        if not wait:
            raise UnreadableModelError("another run downloads this file", where=str(lock), fix="wait for it")
        time.sleep(0.1)
    try:
        yield
    finally:
        held.release()


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and _digest(path) == digest


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _terminal_progress() -> Progress:
    """Says on the terminal how far it is, once a second; to nobody where there is no terminal."""
    last = [0.0]

    def report(what: str, done: int, total: int) -> None:
        now, ended = time.monotonic(), bool(total) and done >= total
        if sys.stderr.isatty() and (ended or now - last[0] > 1):
            last[0] = now
            far = f"{done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} MB" if total else "")
            print(f"\r{visible(what)} {far}", end="\n" if ended else "", file=sys.stderr, flush=True)

    return report


def _unwritable(path: Path, error: OSError) -> UnreadableModelError:
    return UnreadableModelError(
        "what is downloaded cannot be kept",
        where=str(path),
        found=error.strerror or str(error),
        fix=f"let {ENVIRONMENT} name a folder that can be written to",
    )
