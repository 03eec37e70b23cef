"""visible: what commands, turns or hides is escaped, every letter of every script stays."""

from __future__ import annotations

import json
import tomllib

import pytest

from coreproof.errors import CoreproofError
from coreproof.visible import in_json, in_toml, visible, visible_in

DANGEROUS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\xad\u061c\u115f\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e",
    *"\u2060\u2066\u2067\u2068\u2069\u3164\ufeff\uffa0\U000e0041\U000e0100\ud800",
]


@pytest.mark.parametrize("character", DANGEROUS, ids=lambda c: f"U+{ord(c):04X}")
def test_what_commands_turns_or_hides_is_escaped(character: str) -> None:
    shown = visible(f"a{character}b")
    assert shown.isprintable()
    assert shown.isascii()
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert visible(shown) == shown


@pytest.mark.parametrize(
    "name", ["conv1/weights:0", "层_1", "слой", "couche é", "C:\\models\\a.onnx", "✓ ×", "🙂\ufe0f", "a\u3000b"]
)
def test_letters_of_every_script_stay(name: str) -> None:
    assert visible(name) is name or visible(name) == name


def test_lines_of_a_text_may_stay() -> None:
    assert visible("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_a_document_is_escaped_to_its_leaves() -> None:
    assert visible_in({"a\u202e": ["b\x1b", 1, None]}) == {"a\\u202e": ["b\\x1b", 1, None]}


@pytest.mark.parametrize("character", [c for c in DANGEROUS if c != "\ud800"], ids=lambda c: f"U+{ord(c):04X}")
def test_json_and_toml_are_read_back_as_they_were(character: str) -> None:
    name = f"a{character}b"
    written = in_json(json.dumps([name], ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == [name]
    line = f"v = {in_toml(json.dumps(name, ensure_ascii=False))}"
    assert line.isprintable()
    assert tomllib.loads(line) == {"v": name}


def test_no_part_of_an_error_commands_or_poses_as_another() -> None:
    error = CoreproofError("no such layer 'a\x1b[2J'", where="net\u202e.onnx", found="x\n  what to do: run evil")
    assert str(error).splitlines() == [
        "no such layer 'a\\x1b[2J'",
        "  where: net\\u202e.onnx",
        "  found: x",
        "      what to do: run evil",
    ]
    assert error.where == "net\u202e.onnx"
