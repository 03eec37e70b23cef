"""Strings that break programs, and damage to lines of text."""

from __future__ import annotations

from random import Random

from conformance.fuzz.damage_bytes import damage_bytes

STRINGS = (
    "", " ", "x", "0", "-1", "1e309", "nan", "\0", "a\0b", "é", "名前", "a b", "a/b", "../../outside", "/etc/hostname",
    "C:\\outside", "@model_path/../../outside", "a" * 300, "x" * 70_000, "\x1b[31mred\x1b[0m", "\u202eabc", "\n", "\r\n", "\t",
    "%s%n", "{0}", "{x.__class__}", "${HOME}", "<script>alert(1)</script>", "'; DROP TABLE photo; --", '"', "\\", "[bold]",
    "[/]", "True", "None", "float32", "main", "x:0", "a.b.c", "__class__", "\ufeff", "\ud7ff", "🂡", "1" * 400, "-" * 40, "NaN",
    "https://example.invalid/x", "module:callable", "torchvision:resnet18", "*", "?", ".", "..", "con", "a" * 255,
)  # fmt: skip
"""Names and texts at the borders: empty, huge, control characters, paths, numbers in words, markup."""


def damage_string(rng: Random, text: str, others: list[str]) -> str:
    """Another string in the place of one; ``others`` are strings that stand elsewhere in the file."""
    draw = rng.random()
    if draw < 0.4 and others:
        return rng.choice(others)
    if draw < 0.8 or not text:
        return rng.choice(STRINGS)
    place = rng.randrange(len(text))
    return rng.choice(
        (text[:place], text[place:], text + text, text.upper(), text[:place] + "\0" + text[place:], text + "1")
    )


def damage_lines(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Damage to a file of lines (labels, a table): lines dropped, doubled, swapped, cells changed; or to its bytes."""
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return damage_bytes(rng, data)
    if rng.random() < 0.25:
        return damage_bytes(rng, data)
    way = rng.choice(
        ("drop", "double", "swap", "cell", "cell", "cells", "column", "encoding", "empty", "many", "quote")
    )
    place = rng.randrange(len(lines))
    if way == "drop":
        del lines[place]
    elif way == "double":
        lines.insert(place, lines[place])
    elif way == "swap":
        other = rng.randrange(len(lines))
        lines[place], lines[other] = lines[other], lines[place]
    elif way == "cell":
        cells = lines[place].split(",")
        cells[rng.randrange(len(cells))] = rng.choice((*STRINGS, "-1", "2147483648", "99999999999999999999", "1.5"))
        lines[place] = ",".join(cells)
    elif way == "cells":
        lines[place] = rng.choice((",", ",,,,,,,,", lines[place] + ",more", lines[place].split(",")[0]))
    elif way == "column":
        lines = [",".join(line.split(",")[1:]) for line in lines]
    elif way == "encoding":
        return data.decode("utf-8").encode(rng.choice(("utf-16", "utf-32", "utf-8-sig"))), "text: encoding"
    elif way == "empty":
        lines = rng.choice(([], [""], lines[:1], [" "] * 5))
    elif way == "many":
        lines = lines * rng.choice((10, 1000))
    elif way == "quote":
        lines[place] = rng.choice(('"' + lines[place], lines[place] + '"', '"""'))
    return "\n".join(lines).encode("utf-8", "surrogatepass"), f"text: {way}"
