"""Class labels as people keep them: one a line, numbered, JSON of several shapes, CSV, a Python dictionary."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from coreproof.errors import CoreproofError
from coreproof.model.files.entries import LARGEST, Fail, parse_json, short
from coreproof.model.files.paths import regular_file

Labels = tuple[str, ...] | tuple[int, ...]
_NUMBERED = re.compile(r"\s*(\d{1,9})\s*[:=,;\t]\s*(.+)|\s*(\d{1,9})\s+(.+)")
_HEADINGS = ("name", "label", "class_name", "classname", "class", "labels", "names", "category", "display_name")
_NUMBERS = ("id", "index", "idx", "class_id", "class_index", "classid", "number", "class")


def read_label_file(path: Path, fail: Fail) -> Labels:
    """The labels of a file, in the order of the classes. Raises what ``fail`` makes, with what is wrong and where.

    A .json file holds a list, {"0": "cat"}, {"cat": 0}, or {"id2label": ...} as Hugging Face writes it; a .csv or .tsv file a
    column of names, after which a heading or a column of numbers is looked; any other one label a line, whose numbers ("0: cat",
    "0 cat") are taken off and gone by where all lines have one, or the Python dictionary {0: 'cat'}.
    """
    text = _text(path, fail)
    suffix = path.suffix.lower()
    begins = text.lstrip()[:1]
    if suffix == ".json" or (begins in ("{", "[") and suffix not in (".csv", ".tsv")):
        return _of_value(_parsed(text, fail, is_json=suffix == ".json"), fail)
    if suffix in (".csv", ".tsv"):
        return _of_table(text, "\t" if suffix == ".tsv" else ",", fail)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if suffix in (".yaml", ".yml") and lines and "names:" in lines:
        lines = [line.strip("'\"") for line in lines[lines.index("names:") + 1 :]]
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    if lines and all(matches):
        pairs = [(m[1] or m[3], m[2] or m[4]) for m in matches if m is not None]
        by_number = [(int(number), name.strip()) for number, name in pairs]
        # "7 up" and "3 doors down" are names as well: only numbers that count the classes are numbers
        if sorted(number for number, _ in by_number) in _counts(len(by_number)) or ":" in lines[0]:
            return _names_by_number(by_number, fail)
    return tuple(lines)


def repeated(labels: Sequence[object]) -> dict[object, list[int]]:
    """label -> the classes that it stands for, where those are several."""
    places: dict[object, list[int]] = {}
    for number, label in enumerate(labels):
        places.setdefault(label, []).append(number)
    return {label: numbers for label, numbers in places.items() if len(numbers) > 1}


def _text(path: Path, fail: Fail) -> str:
    try:
        regular_file(path)
        size = path.stat().st_size
        data = path.read_bytes() if size <= LARGEST else b""
    except (OSError, ValueError) as error:
        raise fail(str(error)) from None
    except CoreproofError as error:
        raise fail(str(error.found or error.problem)) from None
    if size > LARGEST:
        raise fail(f"{size:,} bytes, more than any list of labels holds")
    # Windows writes UTF-16 with a byte order mark, Excel UTF-8 with one
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise fail(f"line {line} is not UTF-8 (byte {data[error.start]:#x}): save the file as UTF-8") from None


def _parsed(text: str, fail: Fail, *, is_json: bool) -> object:
    if not is_json:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            pass  # then it is JSON, or neither
    return parse_json(text, fail).value


def _of_value(value: object, fail: Fail) -> Labels:
    if isinstance(value, Mapping) and isinstance(value.get("id2label"), Mapping):
        value = value["id2label"]
    if isinstance(value, Mapping) and isinstance(value.get("names"), Mapping | list):
        value = value["names"]
    if isinstance(value, list | tuple):
        if value and all(type(label) is int and abs(label) < 2**63 for label in value):
            return tuple(value)
        return tuple(_name(label, f"[{number}]", fail) for number, label in enumerate(value))
    if not isinstance(value, Mapping) or not value:
        raise fail('expected ["cat", "dog"], {"0": "cat", "1": "dog"} or {"cat": 0, "dog": 1}, found ' + short(value))
    if all(str(key).strip().isdigit() for key in value):
        return _names_by_number([(int(str(key)), _name(name, f"[{key!r}]", fail)) for key, name in value.items()], fail)
    if all(type(number) is int for number in value.values()):
        return _names_by_number([(number, str(name)) for name, number in value.items()], fail)
    raise fail(
        'expected {"0": "cat", "1": "dog"} or {"cat": 0, "dog": 1}, found other keys: ' + short(next(iter(value)))
    )


def _name(label: object, where: str, fail: Fail) -> str:
    """A label, or of ["n01440764", "tench"], as Keras lists them, the name."""
    if isinstance(label, list | tuple) and label and all(isinstance(part, str) for part in label):
        label = label[-1]
    if not isinstance(label, str):
        raise fail(f"{where}: expected a text, found {short(label)}")
    return label


def _counts(length: int) -> tuple[list[int], list[int]]:
    return list(range(length)), list(range(1, length + 1))


def _names_by_number(pairs: Sequence[tuple[int, str]], fail: Fail) -> tuple[str, ...]:
    """The names by their numbers, which count from 0 or from 1 and leave none out."""
    numbers = sorted(number for number, _ in pairs)
    if numbers not in _counts(len(numbers)):
        twice = next((a for a, b in pairwise(numbers) if a == b), None)
        first = numbers[0] if numbers[0] in (0, 1) else 0
        lacking = next((n for n in range(first, first + len(numbers)) if n not in set(numbers)), None)
        found = f"the number {twice} stands twice" if twice is not None else f"there is no label {lacking}"
        raise fail(f"labels are numbered from 0 (or 1) on, without gaps, and {found}")
    return tuple(name for _, name in sorted(pairs, key=lambda pair: pair[0]))


def _of_table(text: str, delimiter: str, fail: Fail) -> tuple[str, ...]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise fail(str(error)) from None
    if not rows:
        return ()
    heading = [cell.strip().lower() for cell in rows[0]]
    named = next((heading.index(word) for word in _HEADINGS if word in heading), None)
    numbered = next(
        (heading.index(word) for word in _NUMBERS if word in heading and heading.index(word) != named), None
    )
    if named is not None or numbered is not None:
        rows = rows[1:]
    width = len(heading)
    ragged = next((number for number, row in enumerate(rows, 2) if len(row) != width), None)
    if ragged is not None:
        raise fail(f"row {ragged} has another number of columns than the first ({width})")
    if numbered is None and width > 1:
        cells = [[row[column].strip() for row in rows] for column in range(width)]
        numbered = next((c for c in range(width) if c != named and all(cell.isdigit() for cell in cells[c])), None)
    if named is None:
        rest = [column for column in range(width) if column != numbered]
        if len(rest) != 1:
            raise fail(f"which of {width} columns holds the names is not known: call it 'name'")
        named = rest[0]
    names = [row[named].strip() for row in rows]
    if numbered is None:
        return tuple(names)
    wrong = next((row[numbered] for row in rows if not row[numbered].strip().isdigit()), None)
    if wrong is not None:
        raise fail(f"a number of a class is {wrong!r}")
    return _names_by_number([(int(row[numbered]), name) for row, name in zip(rows, names, strict=True)], fail)
