"""Text of strangers as it may be shown: what would move a cursor, turn the reading direction or not be seen stands escaped.

Names of layers, values, features, labels and files are chosen by whoever made the file. An escape character in one of them
commands the terminal that it is printed on, a bidirectional override shows it as another name, a line end makes a line that
coreproof never said. Every way out (the terminal, error texts, pages, notebooks) passes through ``visible``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u2800\u3164\uffa0\U000e0100-\U000e01ef]")
"""Letters and marks by category, and yet nothing is seen of them."""
_KINDS = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Controls (C0, DEL, C1), formats (bidirectional, zero-width, tags), lone surrogates, separators of lines and paragraphs."""
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: object, keep: str = "") -> str:
    r"""``text`` with every character that controls, turns or hides written as Python writes it: ``\x1b``, ``\u202e``.

    ``keep`` holds characters that stay as they are; a text of several lines keeps "\n". Every other letter of every
    script stays, so a text that needed no escape is returned as it was.
    """
    return _replaced(str(text), keep, _as_python)


def in_json(document: str) -> str:
    r"""JSON text with such characters as ``\u`` escapes, which every reader of JSON undoes."""
    return _replaced(document, "\n\t", lambda c: json.dumps(c)[1:-1] if c != "\x7f" else "\\u007f")


def in_toml(document: str) -> str:
    r"""A quoted TOML string with such characters as ``\u`` escapes; a lone surrogate, which TOML cannot hold, is U+FFFD."""
    return _replaced(document, "", lambda c: "\ufffd" if "\ud800" <= c <= "\udfff" else _hexadecimal(ord(c)))


def visible_in(value: object) -> object:
    """A document of mappings, lists and texts with every text in it ``visible``; line ends in its texts stay."""
    if isinstance(value, str):
        return visible(value, keep="\n")
    if isinstance(value, dict):
        return {visible_in(k): visible_in(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [visible_in(v) for v in value]
    return value


def _replaced(text: str, keep: str, escape: Callable[[str], str]) -> str:
    if text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None):
        return text
    from unicodedata import category

    return "".join(
        escape(c) if c not in keep and (category(c) in _KINDS or _UNSEEN.match(c) is not None) else c for c in text
    )


def _as_python(character: str) -> str:
    number = ord(character)
    return _NAMED.get(character) or (f"\\x{number:02x}" if number < 0x100 else _hexadecimal(number))


def _hexadecimal(number: int) -> str:
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
