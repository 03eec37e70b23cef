"""The reference of the command line, from the commands themselves: docs/hooks/build.py writes it into its page."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args, get_type_hints

MARK = "<!-- every verb, from the commands themselves -->"


def reference() -> str:
    """A chapter a verb: usage, what its help says, arguments and options."""
    from typer.main import get_command

    from coreproof.cli.main import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return "\n\n".join(_chapter(name, command) for name, command in commands.items())


def _chapter(name: str, command: Any) -> str:
    types = get_type_hints(command.callback)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join([f"coreproof {name}", *(_argument(p) for p in arguments), "[OPTIONS]"])
    parts = [f"## {name}", f"```text\n{usage}\n```", _help(command.help or "")]
    if arguments:
        parts.append(_table("argument", [(f"`{_argument(p)}`", p) for p in arguments]))
    if options:
        parts.append(_table("option", [(_option(p, types.get(p.name)), p) for p in options]))
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _option(parameter: Any, annotation: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} {_kind(annotation)}"


def _kind(annotation: Any) -> str:
    """What is typed behind an option: of ``list[Path] | None`` a PATH."""
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    if inner:
        return _kind(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(str(choice.value) for choice in annotation)
    return "PATH" if annotation is Path else "NUMBER" if annotation in (int, float) else "TEXT"


def _table(heading: str, rows: list[tuple[str, Any]]) -> str:
    lines = [f"| {heading} | what it does |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {_cell(name)} | {_cell(_about(p))} |" for name, p in rows)])


def _about(parameter: Any) -> str:
    text = parameter.help or ""
    default = parameter.default
    if parameter.required and parameter.param_type_name == "option":
        text += " **Required.**"
    elif isinstance(default, str | int | float | Enum) and not isinstance(default, bool) and "default" not in text:
        text += f" Default: {getattr(default, 'value', default)}."
    return text + (" May be repeated." if parameter.multiple and "repeated" not in text else "")


def _help(text: str) -> str:
    """Help as Markdown: indented examples become blocks."""
    text = re.sub(r"\x08\n?", "", text)
    return re.sub(r"(?m)^((?: {2}|\t)\S.*(?:\n(?: {2}|\t).*)*)", lambda m: f"```text\n{dedent(m[1])}\n```", text)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
