"""Scripts of edits: TOML files that can be kept, read, and replayed; arrays lie beside them in a .npz."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

import numpy as np

from coreproof.editing.edit import Edit
from coreproof.editing.verbs.registry import VERBS, parameters
from coreproof.errors import EditError
from coreproof.model.files.arrays import open_archive
from coreproof.model.files.atomic import replacing_together
from coreproof.model.files.entries import kind, read_toml
from coreproof.model.files.outputs import ARRAYS, SCRIPT, check_output
from coreproof.model.files.paths import inside
from coreproof.visible import in_toml, visible

VERSION = 1
"""Of the scripts that are written; one that says none is of the first."""


def read_script(path: str | Path) -> list[Edit]:
    """The edits of a script: ``[[edit]]`` tables with a ``verb`` and its arguments.

    An argument ``{ npz = "file.npz", key = "name" }`` is an array from a file beside the script. Raises EditError.
    """
    path = Path(path)

    unreadable = EditError.of_file("the script of edits cannot be read", path)

    document = read_toml(path, unreadable)
    version = document.get("version").optional(lambda e: e.whole(1)) or 1
    if version > VERSION:
        raise EditError.of_newer("script", path, f"version {VERSION}", version)
    tables = document.value.get("edit")
    if not isinstance(tables, list) or not all(isinstance(t, dict) and isinstance(t.get("verb"), str) for t in tables):
        raise EditError(
            "the script holds no edits",
            where=str(path),
            expected='[[edit]] tables, each with a verb: verb = "delete"',
            found=", ".join(document.value) or "an empty file",
        )
    return [
        Edit(verb, {key: _read(verb, key, value, path) for key, value in table.items() if key != "verb"})
        for table in tables
        for verb in [table["verb"]]
    ]


def _read(verb: str, key: str, value: object, script: Path) -> object:
    """An argument of a script; what it names as a file has to lie beside the script or below."""
    if verb == "relabel" and key == "labels" and isinstance(value, str):
        return str(inside(script.parent, value, what="the labels of relabel", where=script, error=EditError))
    if not (isinstance(value, Mapping) and set(value) == {"npz", "key"}):
        return value
    file = inside(script.parent, value["npz"], what="the script's arrays", where=script, error=EditError)
    if not isinstance(value["key"], str):
        raise EditError(f"{verb}: {key}.key is {kind(value['key'])}", where=str(script), expected="a text")

    unreadable = EditError.of_file("an array of the script cannot be read", file)

    with open_archive(file, unreadable) as stored:
        return stored.array(f"{value['key']}.npy")


def write_script(edits: Sequence[Edit], path: str | Path, comment: str = "", *, replace: bool = False) -> Path:
    """Writes edits so that ``read_script`` gives them back; large arrays go to a .npz of the same name.

    Raises OutputExistsError where something else stands in their places, unless ``replace`` allows it.
    """
    path = Path(path)
    arrays: dict[str, Any] = {}  # which numpy's stubs ask for: one of its keywords is a flag
    lines = [f"# {visible(line)}".rstrip() for line in comment.split("\n")]
    for number, step in enumerate(edits, start=1):
        lines += ["", "[[edit]]", f"verb = {json.dumps(step.verb)}"]
        for key, value in step.arguments.items():
            if value is None:
                continue  # TOML has no word for it, and every verb takes what is left out for it
            if isinstance(value, np.ndarray):
                name = f"edit{number}.{key}"
                arrays[name] = value
                value = {"npz": f"{path.stem}.npz", "key": name}
            lines.append(f"{_key(key)} = {_toml(value)}")
    check_output(path, SCRIPT, replace=replace)
    if arrays:
        check_output(path.with_suffix(".npz"), ARRAYS, replace=replace)
    with replacing_together(path.parent) as stage:
        if arrays:
            np.savez(stage / f"{path.stem}.npz", **arrays)
        (stage / path.name).write_text("\n".join(lines).strip() + "\n", encoding="utf-8")
    return path


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else in_toml(json.dumps(key, ensure_ascii=False))


def _toml(value: object) -> str:
    """A value as TOML writes it."""
    # a truth value is a number to Python, so it comes first
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, np.generic):
        return _toml(value.item())
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return in_toml(json.dumps(str(value), ensure_ascii=False))


def parse(line: str) -> Edit:
    """One edit as it is typed: ``delete 501``, ``connect 493 502``, ``set conv1 epsilon 1e-5``, ``delete 501 reconnect=false``.

    Words are the verb's arguments in order, or name=value. Raises EditError that shows how the verb is used.
    """
    import coreproof.editing.verbs  # noqa: F401 - registers the verbs

    try:
        words = shlex.split(line)
    except ValueError as error:
        raise EditError("the edit cannot be read", found=f"{line} ({error})") from None
    if not words or words[0] not in VERBS:
        raise EditError(
            f"there is no verb {words[0] if words else ''!r}", expected=", ".join(sorted(VERBS)), found=line
        )
    # in order, as text: annotations are not evaluated
    known = {p.name: str(p.annotation) for p in parameters(VERBS[words[0]]) if p.kind is p.POSITIONAL_OR_KEYWORD}
    arguments: dict[str, object] = {}
    for word in words[1:]:
        key, separator, text = word.partition("=")
        if not (separator and key.isidentifier()):
            free = [name for name in known if name not in arguments]
            if not free:
                raise EditError(f"{words[0]} takes fewer words", expected=usage(words[0]), found=line)
            key, text = free[0], word
        # what a layer or a value is called stays text, even where it looks like a number
        arguments[key] = text if known.get(key) == "str" else _literal(text)
    return Edit(words[0], arguments)


def usage(verb: str) -> str:
    """How a verb is typed: its name and its arguments, those in brackets may be left out."""
    parts = []
    for parameter in parameters(VERBS[verb]):
        name = parameter.name
        if parameter.kind is Parameter.VAR_KEYWORD:
            parts.append(f"[{name.upper()}=VALUE ...]")
        else:
            parts.append(name.upper() if parameter.default is Parameter.empty else f"[{name}={parameter.default}]")
    return " ".join([verb, *parts])


def _literal(text: str) -> object:
    """A word as a number, truth value or list where it is one, else as text."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except (ValueError, RecursionError):  # TOMLDecodeError is a ValueError
        return text
