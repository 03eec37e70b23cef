"""``https://HOST/FILE#sha256=DIGEST``: a model file at an address, which its digest alone makes the one that is meant."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from coreproof.errors import InputError
from coreproof.model.files.paths import file_name
from coreproof.model.named.cache import cache_folder
from coreproof.model.named.download import download

_DIGEST = re.compile(r"[0-9a-f]{64}")
_WRITABLE = re.compile(r"[!-~]+")
_FORM = "https://HOST/PATH/FILE#sha256=DIGEST, and &name=FILE where the path does not end in the file's name"
_SUFFIXES = (".onnx", ".mlmodel", ".zip", ".pt2", ".pt", ".pth", ".ts", ".npz")


@dataclass(frozen=True)
class Address:
    """Where a file lies, the SHA-256 of its bytes, and what it is called."""

    url: str
    digest: str
    name: str

    @property
    def place(self) -> Path:
        """Where it is kept: a folder a digest, so that one address that changed gives two files."""
        return cache_folder() / "downloads" / self.digest / self.name


def read_address(text: str) -> Address:
    """Takes an address apart. Raises InputError for one without a digest, without TLS, or with a password in it."""
    if _WRITABLE.fullmatch(text) is None:
        raise _wrong("an address holds no spaces, and other letters as %20", text, found=text)
    url, _, said = text.partition("#")
    require_safe(url, text)
    options = parse_qsl(said.replace("sha256:", "sha256=", 1), keep_blank_values=True)
    given = dict(options)
    if set(given) - {"sha256", "name"} or len(given) != len(options):
        raise _wrong("what stands behind the # of an address is not known", text, found=f"#{said}")
    digest = given.get("sha256", "").lower()
    if not digest:
        raise _wrong(
            "an address says what is meant by the digest of the file",
            text,
            found="no digest",
            fix="put #sha256=DIGEST behind it, as its publisher says it; or download it, look at it, and give its path",
        )
    if _DIGEST.fullmatch(digest) is None:
        raise _wrong("a SHA-256 has 64 hexadecimal digits", text, found=f"{len(digest)} characters: {digest[:80]}")
    name = file_name(given.get("name") or unquote(PurePosixPath(urlsplit(url).path).name))
    if not name.lower().endswith(_SUFFIXES):
        raise _wrong(
            "the address does not say what kind of file it is",
            text,
            expected=f"a name that ends in {', '.join(_SUFFIXES)}",
            found=name,
            fix="put &name=model.onnx behind the digest; of a package give its .mlpackage.zip",
        )
    return Address(url, digest, name)


def require_safe(url: str, where: str) -> None:
    """Raises InputError for an address that is not encrypted, or holds a password; this machine itself needs no encryption."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # read at its first use
    except ValueError as error:
        raise _wrong("this is no address", where, found=str(error)) from None
    if parts.scheme.lower() != "https" and not is_loopback(parts):
        raise _wrong("only an encrypted connection is used", where, expected="https://", found=f"{parts.scheme}://")
    if parts.username is not None or parts.password is not None:
        raise _wrong(
            "an address with a password in it would stand in reports",
            where.replace(parts.netloc, f"...@{parts.hostname}"),
            found="a user's name before the @",
            fix="download the file yourself, and give its path",
        )
    if not parts.hostname:
        raise _wrong("the address names no host", where, found=url)


def is_loopback(parts: SplitResult) -> bool:
    """Whether an http address is of this machine, which no other can listen to."""
    host = parts.hostname or ""
    if parts.scheme.lower() != "http":
        return False
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fetched(text: str) -> tuple[Path, str]:
    """The file that an address names, from where it is kept or from the network, and a note of where it came from.

    Raises InputError for what is no address with a digest, UnreadableModelError where it cannot be had or is another file,
    TooLargeError where it has no room.
    """
    address = read_address(text)
    path = download(address.url, address.digest, address.place, where=text, safe=require_safe)
    return path, f"downloaded from {address.url} (SHA-256 {address.digest[:12]}...)"


def _wrong(problem: str, where: str, *, found: str, expected: str = _FORM, fix: str | None = None) -> InputError:
    return InputError(problem, where=where, expected=expected, found=found, fix=fix)
