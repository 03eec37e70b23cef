"""JSON and TOML that others wrote: parsed within bounds, and read entry by entry, each checked for its type under its name.

A file may nest ten thousand lists, write a number of a million digits, or put a list where a name belongs. All of that is
said as the file's fault, with the entry's name: "graph.nodes[3].name: expected a text, found a list".
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from coreproof.errors import CoreproofError
from coreproof.model.files.paths import regular_file

LARGEST = 64 << 20
"""Bytes of a JSON or TOML file; parsed, it may take twenty times as much. A graph of 20,000 layers takes 10 MB."""

_T = TypeVar("_T")
_Word = TypeVar("_Word", bound=str)

Fail = Callable[[str], CoreproofError]
"""Makes the error of a file from what was found wrong in it."""


def read_text(path: Path, fail: Fail) -> str:
    """The text of an ordinary UTF-8 file (a byte order mark is skipped). Raises what ``fail`` makes."""
    try:
        regular_file(path)
        if path.stat().st_size > LARGEST:
            raise fail(f"{path.stat().st_size:,} bytes, more than any such file holds")
        # Excel and Notepad write a byte order mark
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fail(f"no text: its byte {error.start:,} is not UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise fail(str(error)) from None
    except CoreproofError as error:
        raise fail(str(error.found or error.problem)) from None


def read_lines(path: Path, fail: Fail) -> tuple[str, ...]:
    """What stands in the lines of a text file that are not blank, as labels are listed. Raises what ``fail`` makes."""
    return tuple(line.strip() for line in read_text(path, fail).splitlines() if line.strip())


def read_json(path: Path, fail: Fail) -> Entry:
    """The JSON in a file. Raises what ``fail`` makes."""
    return parse_json(read_text(path, fail), fail)


def read_toml(path: Path, fail: Fail) -> Entry:
    """The TOML in a file. Raises what ``fail`` makes."""
    text = read_text(path, fail)
    return _parsed(lambda: tomllib.loads(text), fail)


def parse_json(text: str | bytes, fail: Fail) -> Entry:
    """The JSON in a text. Raises what ``fail`` makes."""
    return _parsed(lambda: json.loads(text), fail)


def _parsed(parse: Callable[[], object], fail: Fail) -> Entry:
    try:
        return Entry(parse(), "", fail)
    except RecursionError:
        raise fail("it is nested too deeply") from None
    except ValueError as error:  # decoding errors are; so are numbers of too many digits and impossible dates
        raise fail(str(error)) from None


class Entry:
    """One entry of a document: its value, and its name for errors. Each reader returns the value in its type, or raises."""

    __slots__ = ("_above", "_fail", "_key", "value")
    value: Any

    def __init__(self, value: object, key: str | int, fail: Fail, above: Entry | None = None) -> None:
        self.value = value
        self._key = key
        self._fail = fail
        self._above = above

    @property
    def name(self) -> str:
        """Where it stands in the document: put together when an error asks, since a large document has a million of them."""
        above = "" if self._above is None else self._above.name
        if isinstance(self._key, int):
            return f"{above}[{self._key}]"
        return f"{above}.{self._key}" if above else self._key

    def refuse(self, expected: str, found: str | None = None) -> CoreproofError:
        """The error for this entry."""
        return self._fail(f"{self.name or 'the file'}: expected {expected}, found {found or kind(self.value)}")

    # tables and lists

    def __getitem__(self, key: str) -> Entry:
        """The entry of a table; one that is not there is refused by name."""
        found = self.get(key)
        if found.value is None and key not in self.value:
            raise self._fail(f"{found.name} is missing")
        return found

    def get(self, key: str) -> Entry:
        """The entry of a table, None as its value where there is none."""
        if not isinstance(self.value, dict):
            raise self.refuse("a table")
        return Entry(self.value.get(key), key, self._fail, self)

    def table(self) -> dict[str, Entry]:
        """A table's entries by key."""
        if not isinstance(self.value, dict):
            raise self.refuse("a table")
        return {key: Entry(value, key, self._fail, self) for key, value in self.value.items()}

    def each(self, count: int | None = None) -> list[Entry]:
        """A list's entries; ``count`` says how many there have to be."""
        if not isinstance(self.value, list):
            raise self.refuse("a list")
        if count is not None and len(self.value) != count:
            raise self.refuse(f"{count} entries", str(len(self.value)))
        return [Entry(value, i, self._fail, self) for i, value in enumerate(self.value)]

    # values

    def text(self) -> str:
        """A text. Lone halves of surrogate pairs, which no file can hold, are refused."""
        if not isinstance(self.value, str):
            raise self.refuse("a text")
        if not self.value.isprintable():  # quick for nearly all
            try:
                self.value.encode()
            except UnicodeEncodeError:
                raise self.refuse("a text", "half of a surrogate pair") from None
        return self.value

    def whole(self, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        """A whole number within bounds."""
        # JSON's true is Python's 1
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.refuse("a whole number")
        if not low <= self.value <= high:
            raise self.refuse(f"a number from {low} to {high}", short(self.value))
        return self.value

    def number(self, *, finite: bool = True) -> float:
        """A number, finite unless said otherwise."""
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            raise self.refuse("a number")
        try:
            number = float(self.value)
        except OverflowError:
            raise self.refuse("a number that a float can hold", short(self.value)) from None
        if finite and not math.isfinite(number):
            raise self.refuse("a finite number", str(number))
        return number

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.refuse("true or false")
        return self.value

    def one_of(self, allowed: tuple[_Word, ...]) -> _Word:
        """One of some texts."""
        known = next((word for word in allowed if word == self.value), None)
        if known is None:
            raise self.refuse(" or ".join(allowed), short(self.value))
        return known

    def optional(self, read: Callable[[Entry], _T]) -> _T | None:
        """What ``read`` makes of the entry, None where it is null or not there."""
        return None if self.value is None else read(self)


def kind(value: object) -> str:
    """What a value is, in words."""
    words = {
        dict: "a table",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
    }
    return "nothing" if value is None else words.get(type(value), f"a {type(value).__name__}")


def short(value: object) -> str:
    """A value in a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else kind(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
