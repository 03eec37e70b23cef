"""The verbs as an agent's tools: what each takes, told from its own options, and the command line that a call becomes."""

from __future__ import annotations

import inspect
import os
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from typer.models import ArgumentInfo, OptionInfo

from coreproof.cli.verbs import VERBS
from coreproof.errors import InputError

READING = ("check", "advise", "show", "predict", "verify", "doctor", "diff", "check-proof", "compare-proofs")
"""Verbs that write nothing, unless an option of theirs says so."""

WRITING = ("init", "prove", "convert", "migrate", "edit", "split", "join", "upgrade", "shrink", "compare", "app")

OUTPUTS = frozenset(
    (
        *("out", "folder", "file", "files", "fix", "save", "plot", "node_data"),
        *("junit", "markdown", "keep", "edits", "store"),
    )
)
"""Parameters that name what is written, in every verb."""

_WRITTEN_BY = {("convert", "proof")}
"""Those that name in one verb what is written, and in others what is read."""

MODELS = frozenset(("model", "source", "reference", "candidate", "against", "before", "after", "load_run", "photos"))
"""Parameters of text that name a file: a model, a saved run, a folder of photos."""

WITHHELD = frozenset(("written", "more", "trust", "test", "verbs", "ray", "workers", "serve", "browse", "port"))
"""Not an agent's to say: what runs code or commands, what takes the machine, and what goes on until somebody stops it."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a verb: its name, how the command line says it (empty: by its place), its type, and what for."""

    name: str
    option: str
    kind: object
    several: bool
    required: bool
    default: object
    help: str
    writes: bool

    @property
    def is_path(self) -> bool:
        """Whether it names something on the disk."""
        return self.kind is Path or (self.kind is str and self.name in MODELS)

    def schema(self) -> dict[str, object]:
        """Its JSON schema."""
        names = {bool: "boolean", int: "integer", float: "number"}
        one: dict[str, object] = {"type": names.get(self.kind, "string") if isinstance(self.kind, type) else "string"}
        if isinstance(self.kind, type) and issubclass(self.kind, Enum):
            one["enum"] = [member.value for member in self.kind]
        form: dict[str, object] = {"type": "array", "items": one} if self.several else one
        return {**form, "description": self.help} if self.help else form


@dataclass(frozen=True)
class Tool:
    """A verb as a tool."""

    verb: str
    purpose: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """What a client calls it."""
        return self.verb.replace("-", "_")

    def listed(self) -> dict[str, object]:
        """The tool as ``tools/list`` names it."""
        reading = not any(p.writes for p in self.parameters)
        hints = {
            "readOnlyHint": reading,
            "destructiveHint": not reading,
            "idempotentHint": True,
            "openWorldHint": False,
        }
        return {
            "name": self.name,
            "description": self.purpose,
            "inputSchema": {
                "type": "object",
                "properties": {p.name: p.schema() for p in self.parameters},
                "required": [p.name for p in self.parameters if p.required],
                "additionalProperties": False,
            },
            "annotations": {"title": f"coreproof {self.verb}", **hints},
        }


def tools(*, write: bool) -> dict[str, Tool]:
    """The tools that a client is offered, by name; ``write``: those that write files, too."""
    offered = (*READING, *WRITING) if write else READING
    made = (_tool(verb, VERBS[verb], write) for verb in offered)
    return {tool.name: tool for tool in made}


def _tool(verb: str, command: Callable[..., None], write: bool) -> Tool:
    known = [_parameter(verb, p) for p in inspect.signature(command, eval_str=True).parameters.values()]
    shown = tuple(p for p in known if p.name not in WITHHELD and (write or not (p.writes or p.name == "overwrite")))
    purpose = inspect.cleandoc(command.__doc__ or "").split("\n\n")[0]
    return Tool(verb, " ".join(purpose.split()) + " " + _ENDS, shown)


_ENDS = "Exit codes: 0 fine, 1 a disagreement, a finding, or agreement that proves nothing, 2 wrong input."


def _parameter(verb: str, given: inspect.Parameter) -> Parameter:
    annotation = given.annotation
    base, *more = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Annotated else (annotation,)
    told = next((m for m in more if isinstance(m, ArgumentInfo | OptionInfo)), None)
    kinds = [a for a in typing.get_args(base) if a is not types.NoneType] if _is_union(base) else [base]
    several = typing.get_origin(kinds[0]) is list
    kind = typing.get_args(kinds[0])[0] if several else kinds[0]
    return Parameter(
        name=given.name,
        option="" if isinstance(told, ArgumentInfo) else _option(given, told),
        kind=kind,
        several=several,
        required=given.default is inspect.Parameter.empty,
        default=given.default,
        help=(told.help or "") if told is not None else "",
        writes=given.name in OUTPUTS or (verb, given.name) in _WRITTEN_BY,
    )


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (types.UnionType, typing.Union)


def _option(given: inspect.Parameter, told: OptionInfo | None) -> str:
    # in Annotated the first declaration stands where a default would
    declared = [] if told is None else [d for d in (told.default, *(told.param_decls or ())) if isinstance(d, str)]
    named = [part.strip() for text in declared for part in text.split("/")]
    return next((name for name in named if name.startswith("--")), "--" + given.name.replace("_", "-"))


# a call


def command_line(tool: Tool, arguments: Mapping[str, object], root: Path, *, trust: bool) -> list[str]:
    """The words of the command line, without ``coreproof``.

    Raises InputError for what the tool does not take, and for paths that lead out of ``root``.
    """
    known = {p.name: p for p in tool.parameters}
    if unknown := sorted(arguments.keys() - known.keys()):
        raise InputError(
            f"{tool.name} takes no {', '.join(unknown)}",
            expected=", ".join(known),
            fix="the server was started without --allow-write: it offers nothing that writes"
            if OUTPUTS & set(unknown)
            else None,
        )
    if missing := [p.name for p in tool.parameters if p.required and p.name not in arguments]:
        raise InputError(f"{tool.name} needs {', '.join(missing)}")
    options, places = [], []
    for parameter in tool.parameters:
        if arguments.get(parameter.name) is None:
            continue
        texts = _texts(parameter, arguments[parameter.name], root, trust)
        if parameter.kind is bool:
            options += [parameter.option] if texts[0] != str(parameter.default) else []
        elif parameter.option:
            # one word: a value that begins with - is no option
            options += [f"{parameter.option}={text}" for text in texts]
        else:
            places += texts
    trusted = ["--trust"] if trust and "trust" in inspect.signature(VERBS[tool.verb]).parameters else []
    return [tool.verb, *trusted, *options, "--", *places]


def _texts(parameter: Parameter, value: object, root: Path, trust: bool) -> list[str]:
    """The values as words. A text alone stands for a list of one."""
    listed = list(value) if parameter.several and isinstance(value, list | tuple) else [value]
    for item in listed:
        fits = {bool: isinstance(item, bool), int: _whole(item), float: _whole(item) or isinstance(item, float)}
        if not (fits.get(parameter.kind) if parameter.kind in fits else isinstance(item, str)):
            raise InputError(
                f"{parameter.name} is of another type", expected=str(parameter.schema()["type"]), found=repr(item)
            )
    if not parameter.is_path:
        return [str(item) for item in listed]
    return [_inside(str(item), root, parameter, trust) for item in listed]


def _whole(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _inside(text: str, root: Path, parameter: Parameter, trust: bool) -> str:
    """A path below ``root``, relative to it; links are followed before it is judged. A function's name stays behind it."""
    file, mark, function = text.partition("#") if parameter.name in MODELS else (text, "", "")
    try:
        place = (root / file).resolve()
        place.exists()
    except (OSError, ValueError) as error:  # too long, or with a sign that no path has
        raise InputError(f"{parameter.name} is no path", found=f"{text[:60]!r}: {error}") from None
    if place == root or place.is_relative_to(root):
        if (out := next(_ways_out(place, root), None)) is not None:
            raise InputError(
                f"{parameter.name} leads out of the folder that this server may read",
                where=str(out.relative_to(root)) if out.is_relative_to(root) else str(out),
                expected="files below the folder in which coreproof mcp was started, and no links out of it",
                found=text,
            )
        inner = place.relative_to(root).as_posix()
        if parameter.name not in MODELS or place.exists():
            return f"./{inner}{mark}{function}"
    elif place.exists() or Path(file).is_absolute() or ".." in Path(file).parts:
        raise InputError(
            f"{parameter.name} lies outside the folder that this server may read",
            expected="a path below the folder in which coreproof mcp was started",
            found=text,
        )
    if trust:
        # a name, an address, a callable: --trust lets them be fetched and run
        return text
    raise InputError(
        f"{parameter.name}: there is no such file",
        expected="a file below the folder in which coreproof mcp was started",
        found=text,
        fix="names, addresses and Python code are taken where the server was started with --trust"
        if ":" in text
        else None,
    )


def _ways_out(place: Path, root: Path) -> Iterator[Path]:
    """Links below a folder, and files that a line-up or a script names, that lead out of ``root``."""
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                yield path
    if place.suffix.lower() == ".toml" and place.is_file():
        with suppress(ValueError, OSError), place.open("rb") as file:
            for text in _texts_of(tomllib.load(file)):
                named = place.parent / text.partition("?")[0].partition("#")[0].partition(":")[0]
                with suppress(ValueError, OSError):
                    if not named.resolve().is_relative_to(root):
                        yield named


def _texts_of(value: object) -> Iterator[str]:
    """All texts of a document, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_of(inner)
