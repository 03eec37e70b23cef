"""Damage to JSON and TOML: values of other kinds, keys dropped and renamed, lists cut and grown, depth; and a TOML writer."""

from __future__ import annotations

import copy
import json
import tomllib
from random import Random
from typing import Any

from conformance.fuzz.damage_bytes import INTEGERS, damage_bytes
from conformance.fuzz.damage_text import STRINGS, damage_lines, damage_string


def damage_json(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Damage to a JSON file, as a document nine times in ten."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return damage_bytes(rng, data)
    if rng.random() < 0.1:
        return damage_bytes(rng, data)
    document, done = damage_document(rng, document)
    text = json.dumps(document)
    if rng.random() < 0.02:
        depth = rng.choice((200, 20_000))
        text, done = "[" * depth + text + "]" * depth, f"nested {depth} times"
    return text.encode(), f"json: {done}"


def damage_toml(rng: Random, data: bytes) -> tuple[bytes, str]:
    """Damage to a TOML file, as a document nine times in ten."""
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except ValueError:
        return damage_bytes(rng, data)
    draw = rng.random()
    if draw < 0.05:
        return damage_bytes(rng, data)
    if draw < 0.1:
        return damage_lines(rng, data)
    document, done = damage_document(rng, document)
    return toml(document).encode("utf-8", "surrogatepass"), f"toml: {done}"


def damage_document(rng: Random, document: Any) -> tuple[Any, str]:
    """A damaged copy of what JSON or TOML holds, and what was done where."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places:
        return _value(rng, document, []), "the whole"
    strings = sorted({p[0][p[1]] for p in places if isinstance(p[0][p[1]], str)})
    holder, key = rng.choice(places)
    now = holder[key]
    way = rng.choice(
        ("value", "value", "value", "value", "drop", "rename", "swap", "double", "add", "nest", "list", "list")
    )
    if way == "value":
        holder[key] = _value(rng, now, strings)
    elif way == "drop":
        del holder[key]
    elif way == "rename" and isinstance(holder, dict):
        new = damage_string(rng, key, sorted(holder))
        holder[new] = holder.pop(key)
    elif way == "swap":
        other, place = rng.choice(places)
        holder[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(now)
    elif way == "double":
        if isinstance(holder, dict):
            holder[damage_string(rng, key, strings)] = copy.deepcopy(now)
        else:
            holder.insert(key, copy.deepcopy(now))
    elif way == "add" and isinstance(holder, dict):
        holder[rng.choice(STRINGS[:20])] = _value(rng, now, strings)
    elif way == "nest":
        for _ in range(rng.choice((1, 2, 12))):  # deeper than Python copies is made of text, above
            now = rng.choice(([now], {"x": now}))
        holder[key] = now
    else:
        holder[key] = _listed(rng, now, strings)
    return document, f"{way} {str(key)[:30]!r}"


def _listed(rng: Random, now: Any, strings: list[str]) -> Any:
    """Another length of a list or text; a list of what is none."""
    if isinstance(now, list) and now:
        return rng.choice(
            (now[:-1], now[1:], now * 2, now * 50, [], list(reversed(now)), [*now, _value(rng, now[0], strings)])
        )
    if isinstance(now, str) and now:
        return rng.choice((now[:-1], now[1:], now * 2, now[: len(now) // 2]))
    return rng.choice(([now], [], [now] * 3, {"npz": "a.npz", "key": "x"}))


def _value(rng: Random, now: Any, strings: list[str]) -> Any:
    draw = rng.random()
    if draw < 0.35:  # the same kind, at a border
        if isinstance(now, bool):
            return not now
        if isinstance(now, int):
            return rng.choice((*INTEGERS, now + 1, now - 1, -now))
        if isinstance(now, float):
            return rng.choice((0.0, -1.0, 1e308, float("inf"), float("nan"), -now, now * 1e6))
        if isinstance(now, str):
            return damage_string(rng, now, strings)
    return rng.choice(
        (
            None, True, False, 0, -1, 1, 2**63, -(2**70), 1.5, float("nan"), float("inf"), "", "x", "\0", "\ud800", [], {},
            [None],
            [[]], [1, "x"], ["x"], {"x": 1}, {"x": {}}, [[1], [2, 3]], rng.choice(STRINGS), rng.choice(INTEGERS), [0.5],
            [[["a"]]],
        )
    )  # fmt: skip


def _places(document: Any) -> Any:
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        keys = sorted(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            waiting.append(holder[key])


def toml(document: Any) -> str:
    """A document as TOML; what TOML cannot hold (null, a document that is no table) is written as it would look in JSON."""
    if not isinstance(document, dict):
        return _inline(document)
    lines = [f"{_key(k)} = {_inline(v)}" for k, v in document.items() if not _is_tables(v) and not isinstance(v, dict)]
    for key, value in document.items():
        if isinstance(value, dict):
            lines += _table(_key(key), value)
        elif _is_tables(value):
            for table in value:
                lines += ["", f"[[{_key(key)}]]", *(f"{_key(k)} = {_inline(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _table(name: str, table: dict[str, Any]) -> list[str]:
    lines = ["", f"[{name}]", *(f"{_key(k)} = {_inline(v)}" for k, v in table.items() if not isinstance(v, dict))]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table(f"{name}.{_key(key)}", value)
    return lines


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _key(key: Any) -> str:
    text = str(key)
    return text if text and all(c.isascii() and (c.isalnum() or c in "_-") for c in text) else _text(text)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """A basic string; JSON's escapes are TOML's, but for DEL and surrogate pairs."""
    parts = []
    for c in text:
        number = ord(c)
        if c in '"\\':
            parts.append("\\" + c)
        elif number < 32 or number == 127:
            parts.append(f"\\u{number:04X}")
        else:
            parts.append(c)
    return '"' + "".join(parts) + '"'
